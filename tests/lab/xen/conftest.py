"""Tests that run in an emulated dom0; see tests/lab/test_xen.py."""

from __future__ import annotations

import os

if os.environ.get("VMIB_LAB_HYPERVISOR") != "xen":
    collect_ignore_glob = ["test_*.py"]

"""Where a test of tests/lab runs, told by the environment; needs nothing that is not everywhere."""

from __future__ import annotations

import os


def is_dom0() -> bool:
    """Whether this is Xen's control domain, so that the guests are Xen's."""
    return os.environ.get("VMIB_LAB_HYPERVISOR", "qemu") == "xen"

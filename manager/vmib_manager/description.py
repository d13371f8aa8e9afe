"""From the two files to the model."""

from __future__ import annotations

from pathlib import Path

from . import real, virtual
from .model import Model, Real, Virtual, merge
from .xmlload import DescriptionRefused, Problem
from .xmlload import load as load_xml


def load_real(path: Path | str) -> Real:
    """The real network that a file describes; raises `DescriptionRefused` with all its faults."""
    root, reader = load_xml(path, "real")
    described = real.read(root, reader)
    if reader.problems:
        raise DescriptionRefused(reader.problems)
    return described


def load_virtual(path: Path | str) -> Virtual:
    """The virtual network that a file describes; raises `DescriptionRefused` as `load_real`."""
    root, reader = load_xml(path, "virtual")
    described = virtual.read(root, reader)
    if reader.problems:
        raise DescriptionRefused(reader.problems)
    return described


def load(real_path: Path | str, virtual_path: Path | str) -> Model:
    """The model of both files; raises `DescriptionRefused` with the faults of both."""
    problems: list[Problem] = []
    read_real: Real | None = None
    read_virtual: Virtual | None = None
    try:
        read_real = load_real(real_path)
    except DescriptionRefused as refused:
        problems += refused.problems
    try:
        read_virtual = load_virtual(virtual_path)
    except DescriptionRefused as refused:
        problems += refused.problems
    if read_real is None or read_virtual is None:
        raise DescriptionRefused(problems)
    return merge(read_real, read_virtual)

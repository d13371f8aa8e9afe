"""Libvirt's Python module, loaded only where the configuration asks for it, and its event loop."""

from __future__ import annotations

import importlib
import threading
from typing import Any

from vmib.errors import Unavailable

_events: threading.Thread | None = None
_loading = threading.Lock()


def load() -> Any:
    """The module `libvirt`; raises `Unavailable` with the way out where it is missing."""
    try:
        return importlib.import_module("libvirt")
    except ImportError as error:
        way_out = "apt-get install python3-libvirt, or pip install 'vmib[libvirt]'"
        reason = f"needs Python's module libvirt ({error}); {way_out}"
        raise Unavailable("hypervisor.driver libvirt", reason) from error


def with_events() -> Any:
    """The module, with its event loop running in a thread of its own; raises `Unavailable`.

    Libvirt has one event loop in a process, and it has to be there before the first connection.
    """
    global _events
    library = load()
    with _loading:
        if _events is None:
            library.virEventRegisterDefaultImpl()
            library.registerErrorHandler(lambda *_: None, None)  # errors are raised as well
            _events = threading.Thread(
                target=_run_events, args=(library,), name="vmib-libvirt-events", daemon=True
            )
            _events.start()
    return library


def _run_events(library: Any) -> None:
    # A timer keeps the loop turning while there is nothing else to wait for.
    library.virEventAddTimeout(60_000, lambda *_: None, None)
    while True:
        library.virEventRunDefaultImpl()

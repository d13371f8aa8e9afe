"""Host 2: it has a guest and an agent, and works until somebody ends it."""

from __future__ import annotations

import time
from pathlib import Path

from .. import hypervisors
from ..host_lab import SETTINGS, HostLab
from . import wire

HOST = 2


def main() -> None:
    """Make the host."""
    with hypervisors.hypervisor(Path("/tmp")) as hypervisor:
        lab = HostLab(hypervisor, Path("/tmp"), SETTINGS, address=wire.address_of(HOST))
        wire.join(HOST)
        lab.define(HOST, words=wire.guest_words(HOST))
        lab.boot(HOST)
        lab.start_agent()
        print(wire.READY, flush=True)
        while True:
            time.sleep(3600)


if __name__ == "__main__":
    main()

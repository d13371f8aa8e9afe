"""Where the MIB modules are as text: for net-snmp's MIBDIRS and other tools."""

from __future__ import annotations

import sys
from pathlib import Path

from .errors import Unavailable

_MODULE = "VMIB-MIB.txt"


def directory() -> Path:
    """The directory of the modules: of the source tree, or where they were installed.

    Raises `Unavailable` where neither has them.
    """
    places = (Path(__file__).resolve().parents[1], Path(sys.prefix) / "share" / "snmp" / "mibs")
    for place in places:
        if (place / _MODULE).is_file():
            return place
    raise Unavailable(_MODULE, f"not in {' nor '.join(map(str, places))}; install vmib anew")

"""The agent of vMIB, as Debian's package: it brings releases of its own of what Debian has older.

They are found by the agent alone, so that other programs keep Debian's.
"""

import sys

sys.path.insert(0, "/usr/lib/vmib")

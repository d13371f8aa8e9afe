"""`python3 -m vmib_agent` is the command `vmib-agent`."""

from __future__ import annotations

import sys

from .commands import main

sys.exit(main())

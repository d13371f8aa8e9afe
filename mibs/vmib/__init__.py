"""vMIB: the contract between agents and managers.

The MIB's objects (`objects`), its rows as typed data (`rows`), their interpreter (`smi`),
look-ups (`schema`), the digest of a configuration (`canonical`), units and errors.
"""

from .version import __version__

__all__ = ["__version__"]

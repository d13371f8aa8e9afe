"""The exit statuses of `vmib`, in one place for the command, its help and its man page."""

from __future__ import annotations

from enum import IntEnum


class ExitStatus(IntEnum):
    """What an exit status means."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    DIFFERENT = 3
    ROLLED_BACK = 4
    UNREACHABLE = 5
    INTERRUPTED = 130

    @property
    def meaning(self) -> str:
        """The meaning in a few words."""
        return _MEANINGS[self]


_MEANINGS = {
    ExitStatus.DONE: "done, or nothing to do",
    ExitStatus.FAILED: "refused or failed; nothing was changed",
    ExitStatus.USAGE: "the command line is wrong",
    ExitStatus.DIFFERENT: (
        "not as described (verify, diff, lab status; plan with --detailed-exitcode)"
    ),
    ExitStatus.ROLLED_BACK: "a host failed during apply or clear; all hosts are as before",
    ExitStatus.UNREACHABLE: "an agent cannot be asked, or was lost before it was taken back",
    ExitStatus.INTERRUPTED: "interrupted; what was not taken back by then, the agents take back",
}

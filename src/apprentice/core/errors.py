"""Every error that Apprentice raises on purpose, in one tree.

    ApprenticeError              message + hint
    ├── UserError                the user can mend it: exit code 2
    │   ├── ConfigError          a misspelt option, recipe key or value out of range
    │   ├── InputError           a file, repository, session or checkpoint that cannot be used
    │   │   └── HostileInputError   refused because reading on would be unsafe (sizes, pickles, ...)
    │   ├── MissingPieceError    something is not installed; the hint is the command that installs it
    │   └── StorageError         a write failed (disk full, no permission); names the file
    └── InternalError            our mistake: exit code 1

The command line prints `error: MESSAGE` and, after a blank line, `hint: HINT`. `assert` is for our own
invariants only, never for what a user, a file or a model gave us.
"""

from __future__ import annotations

DAMAGED_HINT = "the file is damaged or of another kind: fetch or make it again"


class ApprenticeError(Exception):
    """Base of the tree. `message` says what and where, `hint` what to do about it."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UserError(ApprenticeError):
    """The user can mend it."""

    exit_code = 2


class ConfigError(UserError):
    """A misspelt option or recipe key, or a value out of its range."""


class InputError(UserError):
    """A file, repository, session or checkpoint that cannot be used as it is."""


class HostileInputError(InputError):
    """Input refused because reading on would be unsafe."""


class MissingPieceError(UserError):
    """A package, program or model that is not installed."""


class StorageError(UserError):
    """A write that the operating system refused."""


class InternalError(ApprenticeError):
    """A mistake of ours."""

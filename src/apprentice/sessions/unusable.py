"""Why something is left out of the sessions."""

from __future__ import annotations


class Unusable(Exception):
    """Why a file or a change is left out; `aside` where it could not be read."""

    def __init__(self, reason: str, *, aside: bool = False, detail: str = "") -> None:
        super().__init__(reason)
        self.reason, self.aside, self.detail = reason, aside, detail

"""What Claude Code writes in place of a tool's result where the tool was not run, and what the developer said then.

    result --is_rejected, is_refused--> the developer said no | a rule did, or the turn had ended --reason()--> in these words
"""

from __future__ import annotations

import re

_REJECTED = (
    "The user doesn't want to proceed with this tool use", "User rejected tool use",
    "The agent proposed a plan that was rejected by the user",
)  # fmt: skip
_REFUSED = (
    "<tool_use_error>", "Permission to use ", "Claude requested permissions", "This command requires approval",
    # It waited when the turn ended: nobody judged it.
    "The user doesn't want to take this action right now",
)  # fmt: skip
_REFUSED_PART = re.compile(r"This Bash command contains multiple operations\. The following parts? requires? approval|.{1,300} was blocked\. For security,")
_REASON = re.compile(r"To tell you how to proceed, the user said:\n|The user provided the following reason for the rejection:")
_NOTE = "\n\nNote: The user's next message"
_BEGINNING = 20_000
"""In which the reason begins."""


def is_rejected(result: str) -> bool:
    """The developer did not allow it."""
    return result.startswith(_REJECTED)


def is_refused(result: str) -> bool:
    """The tool, or a rule, did not allow it, or it was called off before anybody judged it."""
    return result.startswith(_REFUSED) or _REFUSED_PART.match(result) is not None


def reason(result: str) -> str:
    """What the developer said who did not allow it."""
    found = _REASON.search(result[:_BEGINNING])
    return result[found.end() :].partition(_NOTE)[0].strip() if found is not None else ""

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
    "Permission for this tool use was denied", "Permission for this action was denied",
    # It waited when the turn ended: nobody judged it.
    "The user doesn't want to take this action right now", "[Request interrupted by user for tool use]",
)  # fmt: skip
_REFUSED_PART = re.compile(r"This Bash command contains multiple operations\. The following parts? requires? approval|.{1,300} was blocked\. For security,")
_REASON = re.compile(r"To tell you how to proceed, the user said:\n|The user provided the following reason for the rejection:")
_NOTE = "\n\nNote: The user's next message"
_CLARIFIES = "The user wants to clarify these questions."
"""The tool's words for an answer that is still to come; the assistant's questions follow."""
_ANSWER = re.compile(r'"="([^"\n]{1,2000})"')
_ANSWER_END = re.compile(r'"\. (?:Read the answers carefully|You can now continue)|" selected preview:\n')
_UNENDED = re.compile(
    r"^(?:Command (?:timed out|was aborted|running in background|was manually backgrounded)|\[Request interrupted|<error>Command was aborted)",
    re.MULTILINE,
)
_BEGINNING = 20_000
"""In which the reason begins."""
_ENDS = 2000
"""At the beginning or the end of what a command printed stands what became of it."""


def is_rejected(result: str) -> bool:
    """The developer did not allow it."""
    return result.startswith(_REJECTED)


def is_refused(result: str) -> bool:
    """The tool, or a rule, did not allow it, or it was called off before anybody judged it."""
    return result.startswith(_REFUSED) or _REFUSED_PART.match(result) is not None


def reason(result: str) -> str:
    """What the developer said who did not allow it."""
    found = _REASON.search(result[:_BEGINNING])
    said = result[found.end() :].partition(_NOTE)[0].strip() if found is not None else ""
    return "" if said.startswith(_CLARIFIES) else said


def answers(result: str) -> list[str]:
    """What the developer answered to the questions of the assistant."""
    return [answer(found) for found in _ANSWER.findall(result[:_BEGINNING])]


def answer(text: str) -> str:
    """What the developer answered to a question, without what the tool writes behind it or the assistant's own draft of it."""
    end = _ANSWER_END.search(text)
    return text[: end.start()].strip() if end is not None else text.strip()


def is_unended(output: str) -> bool:
    """The command was stopped, or still runs: it has no exit code."""
    return any(_UNENDED.search(part) is not None for part in (output[:_ENDS], output[-_ENDS:]))

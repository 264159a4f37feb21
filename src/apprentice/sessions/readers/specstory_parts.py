"""A message in SpecStory's Markdown as its parts, in order: words, reasoning, tools.

    words
    ---                                     a rule parts what Cursor's and Copilot's files put under one heading
    <tool-use ..> .. </tool-use>            a tool, since version 2
    ---
    Tool use: **NAME** rest                 one of version 1, up to the next rule
    ---
    <details><summary>Edit file: PATH ..    one whose name is not written, as are `Read file: PATH`, `## Todo List`, and a command in a
                                            fence with its output in another
"""

from __future__ import annotations

import re
from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass, field

TAG = re.compile(r'<tool-use data-tool-type="(\w{1,20})" data-tool-name="([^"]{1,200})">')
TAG_ENDS = ("</details></tool-use>", "</tool-use>")
_TAGS = ("<tool-use data-tool-type=", "<think>")
_SUMMARY = re.compile(r"\s{0,200}(?:<details>\s{0,200})?<summary>")
_NAMED = "Tool use: **"
_UNTAGGED = re.compile(r"Tool use: \*\*([^*\n]{1,200})\*\*")
_NAMELESS = (
    "Edit file", "Read file", "Listed directory", "Listed current directory", "MCP tool call", "Searched codebase", "Grep search",
    "Grep", "Searched web", "Read lints", "Apply patch",
)  # fmt: skip
"""How the summary of a tool begins whose name is not written: these words stand for it."""
_LISTS = {"## Todo List": "Todo List", "**Agent task list:**": "Agent task list"}
_RULE = "---"
_STATUS = "Cancelled"
"""Of a tool of version 1 that was called off: its name is not written."""
FENCE = re.compile(r"^(`{3,40})(\w{0,30})$")
ANY_FENCE = re.compile(r"(`{3,40})[^`]{0,1000}$")


@dataclass(frozen=True, slots=True)
class Tool:
    """As it stands in the file; nothing where its status is all that is left of it."""

    type: str
    """`read`, `write`, `shell`, ... where a tag says it."""
    name: str
    inner: str
    is_tagged: bool = False
    is_escaped: bool = False
    """Its texts are HTML's, as the extension of an editor writes them."""


@dataclass(slots=True)
class Part:
    """What stands together."""

    text: str = ""
    thoughts: list[str] = field(default_factory=list)
    tools: list[Tool] = field(default_factory=list)
    is_apart: bool = True
    """The rule in front of it is the tool's, not one of the words'."""

    @property
    def has_only_words(self) -> bool:
        return bool(self.text.strip()) and not self.thoughts and not self.tools


@dataclass(frozen=True, slots=True)
class Fenced:
    """A fenced block: its language, what stands in it, and its lines."""

    language: str
    text: str
    start: int
    end: int


def parts(lines: Sequence[str], *, is_tagged: bool = False) -> list[Part]:
    """None is empty. A rule is the tool's beside a tool, and below two blank lines; else it is one of the words. `is_tagged`: a tool
    has a tag; what looks like one without is an example."""
    found: list[tuple[Part, list[str]]] = []
    for part in _between_rules(lines, is_tagged=is_tagged):
        if not part.is_apart and part.has_only_words and found and found[-1][0].has_only_words:
            found[-1][1].append(part.text)
        else:
            found.append((part, [part.text]))
    for part, words in found:
        part.text = f"\n{_RULE}\n".join(words).strip("\n")
    return [part for part, _ in found if part.text.strip() or part.thoughts or part.tools]


def _between_rules(lines: Sequence[str], *, is_tagged: bool) -> list[Part]:
    found = [Part()]
    words: list[str] = []
    closing = _Closing(lines)

    def finish(*, is_apart: bool) -> None:
        is_known = is_tagged or found[-1].tools or found[-1].thoughts
        tool = None if is_known else _untagged("\n".join(words).strip("\n").split("\n"))
        found[-1].text, found[-1].tools = ("", [tool]) if tool is not None else ("\n".join(words), found[-1].tools)
        found.append(Part(is_apart=is_apart))
        words.clear()

    at = 0
    while at < len(lines):
        line = lines[at]
        if (tag := TAG.match(line)) is not None:
            rest = line[tag.end() :]
            inner, at = _inside(lines, at, rest, TAG_ENDS, "</tool-use>")
            found[-1].tools.append(Tool(tag[1], tag[2], inner, is_tagged=True, is_escaped=not rest.strip()))
        elif line.startswith("<think>"):
            inner, at = _inside(lines, at, line.removeprefix("<think>"), (), "</think>")
            found[-1].thoughts.append(contents(inner).strip())
        elif line.rstrip() == _RULE and (at == 0 or not lines[at - 1].strip()):
            finish(is_apart=at < 2 or not lines[at - 2].strip())
            at += 1
        else:
            if not is_tagged and line.startswith(_NAMED) and any(word.startswith(_NAMED) for word in words[:2]):
                finish(is_apart=True)
            end = closing.of(at)
            words += lines[at : end + 1]
            at = end + 1
    finish(is_apart=True)
    return found


def _inside(lines: Sequence[str], at: int, first: str, ends: tuple[str, ...], suffix: str) -> tuple[str, int]:
    """What stands in a block, up to a line that is one of `ends`, or ends with `suffix` where there are none; and the number of
    the line behind it."""
    inner: list[str] = []
    for number in range(at, len(lines)):
        line = lines[number] if number > at else first
        end = line.rstrip()
        if end in ends or ((number == at or not ends) and end.endswith(ends or suffix)):
            return "\n".join([*inner, end.removesuffix(suffix)]), number + 1
        inner.append(line)
    return "\n".join(inner), len(lines)


class _Closing:
    """Where fences end. One around which a tool's rule or tag stands is none: its ticks do not pair."""

    def __init__(self, lines: Sequence[str]) -> None:
        self._lines = lines
        self._ticks: dict[str, list[int]] = {}
        self._strong: list[int] = []
        above = ""
        for number, line in enumerate(lines):
            if line.startswith("```"):
                self._ticks.setdefault(line.rstrip(), []).append(number)
            elif line.startswith(_TAGS) or (above == _RULE and line.startswith((_NAMED, "<details>"))):
                self._strong.append(number)
            above = line.rstrip() or above

    def of(self, at: int) -> int:
        """Number of the line that closes the fence which opens at this line; the same where none does."""
        opening = ANY_FENCE.match(self._lines[at].rstrip())
        ends = self._ticks.get(opening[1], []) if opening is not None else []
        place = bisect(ends, at)
        if place == len(ends):
            return at
        return ends[place] if bisect(self._strong, at) == bisect(self._strong, ends[place]) else at


def _untagged(lines: Sequence[str]) -> Tool | None:
    """The tool that these lines are."""
    named = _UNTAGGED.match(lines[0])
    if named is not None:
        return Tool("", named[1], "\n".join([lines[0][named.end() :], *lines[1:]]))
    inner = "\n".join(lines)
    if lines[0].startswith("<details>"):
        summary = title(inner)[0]
        name = next((name for name in _NAMELESS if summary.startswith(name)), "")
        return Tool("", name, inner) if name else None
    if lines == [_STATUS]:
        return Tool("", "", "")
    if lines[0].startswith("Read file: ") and len(lines) == 1:
        return Tool("", "Read file", inner)
    if (name := _LISTS.get(lines[0].rstrip())) and all(line.startswith("- [") for line in lines[1:] if line.strip()):
        return Tool("", name, inner)
    if lines[0].rstrip() == "```bash":
        fences = fenced(lines)
        whole = len(fences) == 2 and fences[0].start == 0 and fences[1].end == len(lines) - 1 and not fences[1].language
        return Tool("shell", "bash", inner) if whole and not "".join(lines[fences[0].end + 1 : fences[1].start]).strip() else None
    return None


def title(inner: str) -> tuple[str, str]:
    """What the summary of a block says, and what stands in the block besides."""
    start = _SUMMARY.match(inner)
    end = inner.find("</summary>", start.end()) if start is not None else -1
    return (inner[start.end() : end], inner[end + len("</summary>") :]) if start is not None and end >= 0 else ("", inner)


def contents(inner: str) -> str:
    """What stands in a block without its summary."""
    return title(inner)[1].strip().removeprefix("<details>").strip().removesuffix("</details>").strip("\n")


def fenced(lines: Sequence[str]) -> list[Fenced]:
    """A fence ends at a line of as many ticks; one that shows ticks itself is longer."""
    found: list[Fenced] = []
    at = 0
    last = {line.rstrip(): number for number, line in enumerate(lines) if line.startswith("```")}
    while at < len(lines):
        opening = FENCE.match(lines[at].rstrip())
        if opening is None or last.get(opening[1], -1) <= at:
            at += 1
            continue
        end = next(number for number in range(at + 1, len(lines)) if lines[number].rstrip() == opening[1])
        found.append(Fenced(opening[2], "\n".join(lines[at + 1 : end]), at, end))
        at = end + 1
    return found

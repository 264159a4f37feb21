"""A tool in SpecStory's Markdown in neutral terms: a command, a read, an edit, a plan, and what the developer said of it.

What stands in a block depends on the assistant, and on the version. A result is the last fence; arguments are what stands in front:

    `make all`                              Claude Code: the command, or the path
    Error:                                  in front of a result, in version 1
    ```diff                                 Cursor: hunks, below the path in the summary; others: `*** Begin Patch`
    **Update: `a.py`** ```diff              Codex: a patch taken apart, file by file
    <summary>Tool use: **Shell** `ls`       Codex and Cursor in the terminal: a command of one line, a path
    **Input:**  - filePath: `a.py`          Copilot: arguments by name, in ticks or in a fence
    Parameters: / Result: ```json           what an editor's extension keeps of a tool, as JSON
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import msgspec

from apprentice.sessions.conversation import MAX_LINE, UNKNOWN_LINE, Change, Use
from apprentice.sessions.readers import claude_refusals
from apprentice.sessions.readers.edit_blocks import HUNK, PATCH_BEGINS, UNKNOWN_PLACE, patched, without_root
from apprentice.sessions.readers.specstory_parts import FENCE, Fenced, Tool, contents, fenced, title

_EDITED = re.compile(
    r"^The file (\S.{0,1000}?) has been (?:updated|edited|overwritten)|^File (?:created|overwritten) successfully at: (\S.{0,1000}?)(?: \(file state is|$)"
    r"|^Applied \d{1,5} edits? to (\S.{0,1000}?):$",
    re.MULTILINE,
)
_CODEX_PATH = re.compile(r"^(?:\*\*(?:Update|Add|Delete|Modify|Create): `([^`\n]{1,1000})`\*\*|Path: `([^`\n]{1,1000})`)", re.MULTILINE)
_FILE_OF_PATCH = re.compile(r"\*\*(Update|Modify|Add|Delete): `([^`\n]{1,1000})`\*\*$")
_FILES_OF_DIFF = re.compile(r"--- (\S.{0,1000})\n\+\+\+ \1(?:\n|\Z)")
_EXIT_CODE = re.compile(r"\A(?:Error: )?Exit code:? (\d{1,3})\b", re.IGNORECASE)
_EXIT_LINE = re.compile(r"^(?:Exit Code:|Process exited with code) (\d{1,3})\b", re.MULTILINE)
_NOT_DONE = re.compile(r"\*\*Apply failed\*\*|Status: \*\*(?!completed\b)\w{1,30}\*\*")
"""Above the diff of an edit that failed, or that nobody has judged yet."""
_UNVERIFIED = "apply_patch verification failed"
_REJECTION = "User decision: **rejected**"
_ANSWER = "**Answer:**"
_ESCAPED_FENCE = ("\\```", "```")
"""Until August 2026 the fences in a file that is shown were escaped; since then the fence around it is longer."""
_NUMBERED = re.compile(r"\s{0,12}(\d{1,7})[→\t]")
_LINK = re.compile(r"\[[^\]\n]{0,200}\]\(file://([^)#\n]{1,1000})(?:#(\d{1,7})[^)\n]{0,30})?\)")
_ARGUMENT = re.compile(r"- (filePath|content|oldString|newString|explanation|replacements|command|isBackground|startLine|endLine|todoList|operation):(?: `(.*)`)?$")
_LABELS = ("Parameters:", "Result:")
_SHELLS = (
    "Bash", "Shell", "run_shell_command", "run_terminal_cmd", "run_terminal_command_v2", "run_in_terminal", "exec_command", "shell",
    "shell_command", "bash",
)  # fmt: skip
_TYPES = {
    "Read": "read", "read_file": "read", "Read file": "read", "Edit": "write", "MultiEdit": "write", "Write": "write",
    "NotebookEdit": "write", "search_replace": "write", "write": "write", "edit_file": "write", "delete_file": "write",
    "apply_patch": "write", "replace": "write", "write_file": "write", "Edit file": "write", "Apply patch": "write",
    "replace_string_in_file": "write", "multi_replace_string_in_file": "write", "create_file": "write", "copilot_replaceString": "write",
    "copilot_multiReplaceString": "write", "copilot_createFile": "write", "ExitPlanMode": "plan", "exit_plan_mode": "plan",
    "TodoWrite": "plan", "todo_write": "plan", "manage_todo_list": "plan",
    "Todo List": "plan", "Agent task list": "plan",
}  # fmt: skip
"""What a tool does whose tag does not say it, or has another word for it."""
_WRITERS = ("Write", "write_file")
_PATCHER = "apply_patch"
_PLAN_HEADINGS = ("**Agent task list:**", "## Todo List")


@dataclass(frozen=True, slots=True)
class _Block:
    """A tool's block, taken apart."""

    tool: Tool
    title: str
    lines: list[str]
    """All that stands in it."""
    given: Mapping[str, str]
    """Arguments by name, where they are written so."""
    data: Mapping[str, Mapping[str, Any]]
    """The JSON under each label, where there is some."""


def is_empty(tool: Tool) -> bool:
    """A name and nothing else; Cursor's tools come twice, once like that."""
    return "•" not in title(tool.inner)[0] and not _in_summary(tool) and not contents(tool.inner).strip()


def use_of(tool: Tool, agent: str) -> tuple[Use, str]:
    """A tool in neutral terms, and what the developer said in place of a result."""
    block = _block(tool)
    kind = _TYPES.get(tool.name) or tool.type
    is_shell = tool.name in _SHELLS
    command, rest = _command(block.lines) if is_shell else ("", block.lines)
    fences = fenced(rest)
    # In front of the result stand fences of the tool's own.
    is_apart = len(fences) > 1 and (tool.name in _WRITERS or (tool.name == _PATCHER and fences[-1].language != "diff"))
    start, shown = (fences[-1].start, fences[-1].text) if is_apart else _result(rest)
    result = _printed(block, shown)
    is_error = not tool.is_tagged and _above(rest, start) == "Error:"
    said_of_it = rest[: fences[0].start] + rest[fences[-1].end + 1 :] if fences else rest
    rejected = claude_refusals.is_rejected(result) or _REJECTION in said_of_it
    refused = claude_refusals.is_refused(result)
    is_error = is_error or result.startswith(_UNVERIFIED) or any(map(_NOT_DONE.match, said_of_it))
    common: dict[str, Any] = {
        "name": tool.name, "result": result, "failed": refused or rejected or is_error, "rejected": rejected, "refused": refused,
    }  # fmt: skip
    said = claude_refusals.reason(result) if rejected else ""
    if is_shell:
        command = command or _asked(block) or block.title.removeprefix("Run command:").strip(" `") or _in_summary(tool)
        code = _exit_code(result, agent, is_known=not refused and not rejected and not is_error)
        return Use(**common, kind="shell", command=command, exit_code=_state(block) if code is None else code, arguments=_json(command=command)), said
    if kind == "read" and tool.name != "WebFetch":
        path, line = _place(block, result)
        return Use(**common, kind="read", path=path, line=line, arguments=_json(path=path)), said
    if kind == "write":
        changes = tuple(_changes(block, rest, fences, result))
        return Use(**common, kind="edit", changes=changes, arguments=_json(path=changes[0].path if changes else "")), said
    if kind == "plan":
        return Use(**common, kind="plan", plan=_plan(block, result), arguments="{}"), said
    if tool.name == "AskUserQuestion" and not refused and not rejected:
        _, asked, answer = "\n".join(block.lines).partition(_ANSWER)
        said = claude_refusals.answer(answer) if asked else "\n".join(claude_refusals.answers(result))
    common["result"] = result or _shown(block)
    return Use(**common, arguments=_json(input=_input(block))), said


def _block(tool: Tool) -> _Block:
    summary, _ = title(tool.inner)
    lines = contents(tool.inner).split("\n")
    named = summary.partition("•")[2].strip() if summary.startswith("Tool use:") else summary.strip()
    return _Block(tool, unescaped(named) if tool.is_tagged else named, lines, _given(lines), _data(lines) if tool.is_escaped else {})


def _given(lines: Sequence[str]) -> dict[str, str]:
    """What stands below `**Input:**`."""
    if lines[0].rstrip() != "**Input:**":
        return {}
    found: dict[str, str] = {}
    named = [(number, argument) for number, line in enumerate(lines) if (argument := _ARGUMENT.match(line)) is not None]
    for (number, argument), end in zip(named, [*(number for number, _ in named[1:]), len(lines)], strict=False):
        found.setdefault(argument[1], argument[2] if argument[2] is not None else _result(lines[number + 1 : end])[1])
    return found


def _data(lines: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The JSON that stands below a label."""
    found: dict[str, dict[str, Any]] = {}
    for fence in fenced(lines):
        label = _above(lines, fence.start)
        if label in _LABELS and fence.language == "json":
            try:
                data = msgspec.json.decode(fence.text)
            except (ValueError, RecursionError):
                continue
            if isinstance(data, dict):
                found.setdefault(label, data)
    return found


def _above(lines: Sequence[str], number: int) -> str:
    """The nearest line with something in it."""
    return next((line.strip() for line in reversed(lines[max(number - 3, 0) : max(number, 0)]) if line.strip()), "")


def _result(lines: Sequence[str]) -> tuple[int, str]:
    """From the first fence to the last line, if that closes it: the older form does not lengthen fences around others. And where
    that begins; -1 where there is none."""
    end = len(lines) - 1
    while end >= 0 and not lines[end].strip():
        end -= 1
    if end < 0 or not lines[end].startswith("```"):
        return -1, ""
    for start, line in enumerate(lines[:end]):
        opening = FENCE.match(line.rstrip())
        if opening is not None and opening[1] == lines[end].rstrip():
            return start, "\n".join(lines[start + 1 : end])
    return -1, ""


def _printed(block: _Block, result: str) -> str:
    if "Result:" in block.data:
        return _text(block.data["Result:"].get("resultForModel"))
    return unescaped(result) if block.tool.is_escaped else result


def _shown(block: _Block) -> str:
    """What an editor shows of a tool that prints nothing: a table, a list, the parameters of an MCP call."""
    if (block.tool.is_tagged and not block.tool.is_escaped) or block.data or block.given:
        return ""
    shown = contents(block.tool.inner) if block.title else block.tool.inner.partition("\n")[2]
    return unescaped(shown.strip()) if block.tool.is_escaped else shown.strip()


def _exit_code(result: str, agent: str, *, is_known: bool) -> int | None:
    """Claude Code writes the code where it is not 0; others write it always, or never."""
    found = _EXIT_CODE.match(result) or (_EXIT_LINE.search(result[:2000]) if agent != "claude" else None)
    if found is not None:
        return int(found[1])
    return 0 if agent == "claude" and is_known and result and not claude_refusals.is_unended(result) else None


def _state(block: _Block) -> int | None:
    """The exit code that an editor noted."""
    state = block.data.get("Parameters:", {}).get("terminalCommandState")
    code = state.get("exitCode") if isinstance(state, dict) else None
    return code if type(code) is int and 0 <= code < 1000 else None


def _asked(block: _Block) -> str:
    """A command among the arguments."""
    line = block.data.get("Parameters:", {}).get("commandLine")
    return block.given.get("command") or _text(line.get("original") if isinstance(line, dict) else None)


def _command(lines: list[str]) -> tuple[str, list[str]]:
    """A shell's command, in ticks or in a fence, and what stands behind it."""
    for number, line in enumerate(lines):
        opening = FENCE.match(line.rstrip())
        if opening is not None and opening[2] in ("bash", "sh", "zsh"):
            fence = next((fence for fence in fenced(lines) if fence.start == number), None)
            return (fence.text, lines[fence.end + 1 :]) if fence else ("", lines)
        if opening is not None:
            break
        if line.lstrip(" ").startswith("`"):
            end = _end_of_ticks(lines, number)
            whole = "\n".join([line.lstrip(" "), *lines[number + 1 : end + 1]]).rstrip()
            return (whole[1:-1], lines[end + 1 :]) if end >= 0 else ("", lines)
    return "", lines


def _end_of_ticks(lines: Sequence[str], start: int) -> int:
    """Number of the last line that ends in a tick in front of the result: a command of several lines may have such itself, and
    fences. -1 where none does."""
    found = -1
    for number in range(start, len(lines)):
        line = lines[number].strip()
        if found >= 0 and (FENCE.match(line) or line in _LABELS or line == "Error:"):
            break
        if line.endswith("`") and not line.endswith("```") and (number > start or len(line) > 1):
            found = number
    return found


def _in_summary(tool: Tool) -> str:
    """What stands in ticks behind the name of a tool, to the last of them: a command may have some itself."""
    rest = title(tool.inner)[0].partition("**")[2].partition("**")[2].strip()
    return rest[1:-1] if len(rest) > 2 and rest.startswith("`") and rest.endswith("`") else ""


def _place(block: _Block, result: str) -> tuple[str, int]:
    """Path and 0-based line of what is read."""
    link = _LINK.search(block.title[:2000])
    if link is not None:
        return without_root(unquote(link[1])), _line(link[2])
    named = next((line.partition(":")[2] for line in block.lines[:4] if line.startswith("Read file: ")), "")
    path = block.given.get("filePath") or (block.title.partition(":")[2] or named if block.title or named else _target(block) or _in_summary(block.tool))
    path = path.strip().removeprefix("./")
    number = _NUMBERED.match(result)
    return "" if path == "undefined" else path, _line(number[1] if number else block.given.get("startLine", ""))


def _line(text: str | None) -> int:
    return max(int(text) - 1, 0) if text and len(text) < 10 and text.isascii() and text.isdigit() else 0


def _target(block: _Block) -> str:
    return next((found for line in block.lines if (found := _ticked(line))), "")


def _input(block: _Block) -> str:
    heading = "" if block.tool.is_tagged or block.title else block.tool.inner.partition("\n")[0].strip()
    return heading or _target(block) or block.title


def _ticked(line: str) -> str:
    """What stands in the first pair of ticks of a line, which begins with one or names what follows."""
    _, _, rest = line.partition("`") if line.lstrip(" ").startswith("`") and not line.startswith("```") else ("", "", "")
    return rest.partition("`")[0]


def _changes(block: _Block, lines: Sequence[str], fences: Sequence[Fenced], result: str) -> Iterator[Change]:
    patches = [fence.text for fence in fences if fence.text.startswith(PATCH_BEGINS + "\n")]
    if patches:
        yield from patched(patches[0].split("\n"))
        return
    if parted := _parted(lines, fences):
        yield from patched(parted)
        return
    path = _path(block, lines, result)
    if not path:
        yield from _replacements(block.given.get("replacements", ""))
        return
    escaped, wide = block.tool.is_tagged, bool(block.title)
    hunks = [hunk for fence in fences if fence.language == "diff" for hunk in _diff(fence.text.split("\n"), wide=wide, escaped=escaped)]
    hunks += _chunks(block.data.get("Result:", {}))
    for line, old, new in hunks:
        yield Change(path=path, old="".join(one + "\n" for one in old), new="".join(one + "\n" for one in new), line=line)
    if hunks:
        return
    if "newString" in block.given:
        yield Change(path=path, old=block.given.get("oldString", ""), new=block.given["newString"])
        return
    for fence in fences:
        if fence.language == "diff" and (heading := _FILES_OF_DIFF.match(fence.text)) is not None:
            old, new = _sides(fence.text[heading.end() :].split("\n"), wide=False, escaped=False)
            yield Change(path=path, old="".join(one + "\n" for one in old), new="".join(one + "\n" for one in new))
            return
    shown, creates = _whole(block, fences, result)
    if shown:
        yield Change(path=path, old="", new=shown.rstrip("\n") + "\n", creates=creates, line=0 if creates else UNKNOWN_LINE)
    else:
        yield Change(path=path, old="", new="")


def _path(block: _Block, lines: Sequence[str], result: str) -> str:
    """Of the file that is changed."""
    asked = block.data.get("Parameters:", {})
    if path := block.given.get("filePath") or _text(asked.get("file_path")) or _text(asked.get("relativeWorkspacePath")):
        return path.strip()
    if path := block.title.partition(":")[2].strip():
        return path
    found = _EDITED.search(result)
    named = _CODEX_PATH.search("\n".join(lines))
    of_diff = next((heading for fence in fenced(lines) if (heading := _FILES_OF_DIFF.match(fence.text))), None)
    path = (found[1] or found[2] or found[3]).strip() if found else of_diff[1].strip() if of_diff else ""
    heading = _in_summary(block.tool) if block.tool.is_tagged else _ticked(block.tool.inner.partition("\n")[0]).removeprefix("./")
    return path or ((named[1] or named[2]) if named else heading)


def _whole(block: _Block, fences: Sequence[Fenced], result: str) -> tuple[str, bool]:
    """All that a file holds then, where the tool writes files, and whether there was none before."""
    if block.tool.name in _WRITERS:
        return fences[0].text.replace(*_ESCAPED_FENCE) if fences and fences[0].text != result else "", "created" in result[:20]
    if block.tool.name == "copilot_createFile":
        return _text(block.data.get("Result:", {}).get("textEditContent")), True
    return (block.given.get("content", ""), True) if block.tool.name == "create_file" else ("", False)


def _replacements(text: str) -> Iterator[Change]:
    """Several at once, as Go prints them: `[map[explanation:.. filePath:.. newString:.. oldString:..] map[..]]`."""
    for piece in text.removesuffix("]]").split("] map[explanation:"):
        _, path, rest = piece.partition(" filePath:")
        path, is_new, rest = rest.partition(" newString:")
        new, is_old, old = rest.partition(" oldString:")
        if is_new and is_old and path and " oldString:" not in old and "\n" not in path:
            yield Change(path=path, old=old, new=new)


def _parted(lines: Sequence[str], fences: Sequence[Fenced]) -> list[str]:
    """A patch that was taken apart, each file's diff below its name, as it was; empty where this is none."""
    diffs = {fence.start: fence for fence in fences if fence.language == "diff"}
    shown = {number for fence in fences for number in range(fence.start, fence.end + 1)}
    whole: list[str] = []
    for number, line in enumerate(lines):
        heading = _FILE_OF_PATCH.match(line.rstrip()) if number not in shown else None
        below = next((diffs[at] for at in range(number + 1, number + 4) if at in diffs), None)
        if heading is not None and (below is not None or heading[1] == "Delete"):
            whole.append(f"*** {heading[1]} File: {heading[2]}")
            whole += below.text.split("\n") if below is not None and heading[1] != "Delete" else []
    return whole


def _diff(lines: Sequence[str], *, wide: bool, escaped: bool) -> Iterator[tuple[int, list[str], list[str]]]:
    """(line, old, new) of each hunk. `wide`: signs are followed by a blank, as in Cursor's."""
    at = next((number for number, line in enumerate(lines) if HUNK.match(line)), len(lines))
    while at < len(lines):
        heading = HUNK.match(lines[at])
        assert heading is not None
        end = next((number for number in range(at + 1, len(lines)) if HUNK.match(lines[number])), len(lines))
        line = _line(heading[1]) if heading[1] != UNKNOWN_PLACE else UNKNOWN_LINE
        yield line, *_sides(lines[at + 1 : end], wide=wide, escaped=escaped)
        at = end


def _chunks(result: Mapping[str, Any]) -> list[tuple[int, list[str], list[str]]]:
    """The same out of what Cursor keeps of a patch."""
    diff = result.get("diff")
    chunks = diff.get("chunks") if isinstance(diff, dict) else None
    found: list[tuple[int, list[str], list[str]]] = []
    for chunk in chunks if isinstance(chunks, list) else ():
        text = chunk.get("diffString") if isinstance(chunk, dict) else None
        if isinstance(text, str):
            start = chunk.get("newStart")
            line = start - 1 if type(start) is int and 0 < start <= MAX_LINE else UNKNOWN_LINE
            found.append((line, *_sides(text.replace("\r\n", "\n").split("\n"), wide=True, escaped=True)))
    return found


def _sides(lines: Sequence[str], *, wide: bool, escaped: bool) -> tuple[list[str], list[str]]:
    """What a hunk replaces, and with what."""
    old: list[str] = []
    new: list[str] = []
    for line in map(unescaped, lines) if escaped else lines:
        text = line[2:] if wide and line[1:2] in (" ", "") else line[1:]
        if line[:1] in ("-", " ", ""):
            old.append(text)
        if line[:1] in ("+", " ", ""):
            new.append(text)
    return old, new


def _plan(block: _Block, result: str) -> str:
    _, approved, plan = result.partition("## Approved Plan:")
    if approved or result:
        return plan.strip()
    text = block.given.get("todoList", "") if block.given else "\n".join(block.lines)
    for heading in _PLAN_HEADINGS:
        text = text.replace(heading, "", 1)
    return "" if text.lstrip().startswith("Error parsing") else text.strip()


def unescaped(text: str) -> str:
    """Out of HTML."""
    try:
        return html.unescape(text)
    except ValueError:
        # A number too large for any character.
        return text


def _text(value: Any) -> str:
    return unescaped(value) if isinstance(value, str) else ""


def _json(**values: str) -> str:
    return json.dumps({name: value for name, value in values.items() if value}, ensure_ascii=False)

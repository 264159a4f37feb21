"""`apprentice complete`: what would be written at a place of a file."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import cyclopts

from apprentice.cli.common import JsonFlag, print_next, print_result

_PLACE = re.compile(r"(?P<path>.+?):(?P<line>\d+)(:(?P<column>\d+))?")


def complete(
    place: Annotated[str, cyclopts.Parameter(name="FILE:LINE[:COLUMN]")],
    /,
    *,
    why: Annotated[bool, cyclopts.Parameter(negative="")] = False,
    model: Path | None = None,
    out: Path | None = None,
    json: JsonFlag = False,
) -> None:
    """Suggest what to write at a line, or behind a column of it.

    Parameters
    ----------
    place
        A line, whose replacement is suggested, or a column, behind which the line is completed; both count from 1.
    why
        Show the places and commits that the suggestion resembles.
    model
        Folder of a model, in place of the one that was learned here.
    out
        Folder of the runs, in place of `.apprentice` here or above.
    """
    from apprentice.core.errors import ConfigError, InputError
    from apprentice.learn import loading
    from apprentice.repository.prompt import Place
    from apprentice.text.edits import split_lines
    from apprentice.text.redaction import Redactor

    match = _PLACE.fullmatch(place)
    if match is None:
        raise ConfigError(f"`{place}` is no place", hint="write it as `FILE:LINE` or `FILE:LINE:COLUMN`")
    path, line = Path(match["path"]), int(match["line"])
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"`{path}` cannot be read: {error}", hint="name a text file") from error
    lines = split_lines(text)
    if not 1 <= line <= len(lines) + 1:
        raise InputError(f"`{path}` has {len(lines)} lines, not {line}", hint=f"name a line from 1 to {len(lines) + 1}")
    if match["column"] is not None and int(match["column"]) < 1:
        raise InputError("there is no column 0", hint="columns count from 1")
    loaded = loading.load(model, out)
    name, recent = loading.latest_edits(path, lines)
    if loaded.memory is not None and recent:
        loading.remember(loaded.memory, recent, Redactor())
    at = Place(name, lines, line - 1, min(line, len(lines)))
    suggester = loaded.suggester()
    if match["column"] is None:
        suggestion = suggester.edit(at, recent, why=why)
    else:
        here = lines[line - 1] if line <= len(lines) else ""
        column = min(int(match["column"]) - 1, len(here))
        suggestion = suggester.line(at, here[:column], here[column:], recent, why=why)
    value = asdict(suggestion) if suggestion is not None else {"path": name, "new": None}
    print_result(value, json_output=json, text=lambda: _text(suggestion, lines))
    if not json:
        print_next("apprentice serve")


def _text(suggestion: object, lines: list[str]) -> str:
    from apprentice.core.text_safety import terminal_safe
    from apprentice.serve.suggestions import Suggestion

    if not isinstance(suggestion, Suggestion):
        return "no suggestion: what the model wrote was no replacement"
    old = lines[suggestion.start_line : suggestion.end_line]
    parts = [f"{suggestion.path}, line {suggestion.start_line + 1}"]
    if tuple(old) == suggestion.new:
        parts += ["  " + line for line in old] + ["(no change)"]
    else:
        parts += ["- " + line for line in old] + ["+ " + line for line in suggestion.new]
    shown = "" if suggestion.is_shown else ", below what is shown unasked"
    parts.append(f"confidence {suggestion.confidence:.2f}{shown}; {suggestion.tokens} tokens in {suggestion.steps} steps")
    for found in suggestion.resembles:
        where = f"{found.path}:{found.line}" + (f" in commit {found.commit[:12]}" if found.commit else "")
        parts.append(f"resembles {where}: {found.text.strip()}")
    return "\n".join(terminal_safe(part) for part in parts)

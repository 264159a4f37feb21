"""A made evaluation: places, arms, and hostile text wherever text can stand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from apprentice.core import artifacts
from apprentice.eval import samples
from apprentice.eval.samples import EDIT, LIKELIHOOD, LINE, Row
from apprentice.examples import store
from apprentice.examples.build import Built, ExamplesConfig
from apprentice.examples.example import COMPLETION, NEXT_EDIT, Example
from apprentice.text.edits import Edit, target_text

HOSTILE = "</pre></style><script>alert(1)</script>\"' onload='x' \x1b[31m\x1b]0;t\x07\u202e\x00"


def example(number: int, kind: str, *, text: str = "value") -> Example:
    """Line 7 of a file becomes two lines; or the rest of its line is completed."""
    edit = Edit(f"{text}.py", 6, (f"old {text} {number}",), (f"new {text} {number}", "more"))
    prompt, target = f"# {text}\nabove\n", target_text(edit.new)
    if kind == COMPLETION:
        prompt, target = prompt + "new ", f"{text} {number}\n"
    return Example(
        id=f"m{number}-{kind}", kind=kind, prompt=prompt, target=target,
        spans=((0, len(prompt), "above"), (len(prompt), len(prompt + target), "changed")),
        check={"type": "edit"}, edit=edit, text_id="0" * 32, repository="r", commit=f"c{number // 3}", session="s", time=float(number),
        author="developer", order=number,
    )  # fmt: skip


def row(measure: str, arm: str, number: int, **fields: Any) -> Row:
    """A sample at the place of that number."""
    defaults: dict[str, Any] = {"version": "v", "example": f"m{number}", "commit": f"c{number // 3}", "order": number, "path": "value.py"}
    return Row(measure=measure, arm=arm, **{**defaults, **fields})


def rows(count: int, *, arms: Sequence[str] = ("base", "tuned"), text: str = "value", gain: float = 0.0) -> list[Row]:
    """Every measure at every place; the later arms do better, and all do by `gain`."""
    made: list[Row] = []
    for number in range(count):
        for at, arm in enumerate(arms):
            common = {"path": f"{text}.py", "tokens": 4, "confidence": -0.5 - number}
            made.append(row(LIKELIHOOD, arm, number, path=f"{text}.py", changed_bits=20.0 - at - gain, changed_chars=10, target_bits=30.0, target_chars=20))
            made.append(row(LINE, arm, number, text=f"{text} {number}" if at else "wrong", exact=bool(at) or gain > 0, **common))
            answer = f"\nnew {text} {number}\nmore\n>>>>>>> after" if at else text
            made.append(row(EDIT, arm, number, text=answer, exact=bool(at), valid=bool(at), delta_chrf=50.0 + gain, **common))
    return made


Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Puts an evaluation, and the examples that it was made of, into a folder: `make("run", rows(3))`."""

    def run(name: str, made: Sequence[Row], *, count: int = 3, text: str = "value", finished: bool = True, parents: dict[str, str] | None = None) -> Path:
        both = [example(number, kind, text=text) for number in range(count) for kind in (NEXT_EDIT, COMPLETION)]
        empty: dict[str, Any] = {"train": [], "valid": [], "gate": []}
        built = Built(examples={**empty, "test": both}, commits={}, dropped={})
        examples = store.write(tmp_path / name / "examples", built, ExamplesConfig(), parents={})
        folder = tmp_path / name / "evaluation"
        data = b"".join(msgspec.json.encode(one) + b"\n" for one in made)
        if not finished:
            folder.mkdir()
            (folder / samples.WORKING).write_bytes(data)
            return folder
        with artifacts.create(folder, kind="evaluation", version=1, parents=parents or {"examples": examples.hash}) as writer:
            (folder / samples.SAMPLES).write_bytes(data)
            writer.finish()
        return folder

    return run

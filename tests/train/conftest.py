"""Rows made by the real prompt builder, and the debug model: what the tests of training start from."""

import functools
import random
from dataclasses import dataclass
from pathlib import Path

import pytest

from apprentice.core.fakes import ByteTokenizer
from apprentice.model import presets, weights
from apprentice.model.transformer import Transformer
from apprentice.repository.prompt import Place, Prompt, completion_prompt, next_edit_prompt
from apprentice.text.edits import Edit, Piece, join, render_target


@dataclass
class MadeRow:
    """The fields of an example that training reads."""

    kind: str
    prompt: str
    target: str
    spans: list[tuple[int, int, str]]
    author: str = "developer"
    person: str = "person-1"
    commit: str = "c0"
    repository: str = "made"
    time: float = 0.0

    @property
    def moment(self) -> str:
        return str(self.time)


def _row(kind: str, prompt: Prompt, target: list[Piece], number: int) -> MadeRow:
    text, spans = join(target)
    shift = len(prompt.text)
    triples = [(s.start, s.end, s.kind) for s in prompt.spans]
    triples += [(s.start + shift, s.end + shift, s.kind) for s in spans]
    author = "assistant" if number % 5 == 4 else "developer"
    return MadeRow(kind, prompt.text, text, triples, author=author, commit=f"c{number // 2}", time=float(number))


@pytest.fixture
def tokenizer() -> ByteTokenizer:
    return ByteTokenizer()


def made_rows(tokenizer, count: int, kind: str = "next_edit", lines_around: int = 12) -> list[MadeRow]:
    """Edits that rename a name, which a model can learn; the k-th is the same on every call."""
    rows: list[MadeRow] = []
    recent: list[Edit] = []
    for number in range(count):
        rng = random.Random(number)
        lines = [f"    {rng.choice('abcdef')} = {rng.choice('uvw')} + {rng.randint(0, 99)}" for _ in range(lines_around * 2)]
        old = (f"    value_{rng.choice('abc')} = compute(left)",)
        new = (old[0].replace("compute", "evaluate"), *(["    return right"] if number % 3 == 0 else []))
        at = lines_around
        place = Place("src/made.py", [*lines[:at], *old, *lines[at:]], at, at + 1)
        if kind == "next_edit":
            prompt, target = next_edit_prompt(tokenizer, place, recent), render_target(old, new)
        else:
            prompt = completion_prompt(tokenizer, place, new[0][:14], recent)
            target = [Piece(new[0][14:], "changed"), Piece("\n", "end")]
        rows.append(_row(kind, prompt, target, number))
        recent.append(Edit("src/made.py", at, old, new, tuple(lines[at - 3 : at]), tuple(lines[at : at + 3])))
    return rows


@pytest.fixture
def make_rows(tokenizer):
    """`make_rows(count, kind)`."""
    return functools.partial(made_rows, tokenizer)


@pytest.fixture
def debug_model() -> Transformer:
    return Transformer(presets.debug()).initialize(7)


@pytest.fixture
def debug_base(tmp_path: Path, debug_model: Transformer) -> Path:
    """The debug model as a folder."""
    weights.save(debug_model, tmp_path / "base")
    return tmp_path / "base"

"""A base is asked once; what cannot be asked has no answers; a damaged file is named."""

import json
import shutil
from pathlib import Path

import pytest

from apprentice.core import artifacts
from apprentice.core.errors import InputError
from apprentice.core.progress import Silent
from apprentice.learn.stages import answers
from apprentice.model import base as bases
from apprentice.text.tokenizer import Tokenizer


@pytest.fixture
def debug(cache: Path) -> Path:
    return bases.resolve("debug", cache=cache)


@pytest.fixture
def asked(debug: Path, tmp_path: Path) -> Path:
    """Answers of the debug base: noise, most of which happens to end."""
    answers.write(tmp_path / "answers", debug, "b" * 64, Tokenizer.load(debug), progress=Silent())
    return tmp_path / "answers"


def test_only_answers_that_came_to_an_end_are_kept_and_read_by_training(asked: Path, debug: Path) -> None:
    tokenizer = Tokenizer.load(debug)
    read = answers.read(asked, tokenizer)
    counts = artifacts.read(asked).counts
    assert 0 < len(read) == counts["answers"] < counts["asked"] == 132
    for rendered in read:
        reply = [token_id for token_id, is_reply in zip(rendered.token_ids, rendered.learnable, strict=True) if is_reply]
        assert reply[-1] in tokenizer.eos_ids


def test_a_base_is_asked_once_and_another_one_anew(asked: Path, debug: Path) -> None:
    tokenizer = Tokenizer.load(debug)
    before = (asked / answers.FILE).stat().st_mtime_ns
    answers.write(asked, debug, "b" * 64, tokenizer, progress=Silent())
    assert (asked / answers.FILE).stat().st_mtime_ns == before
    made = answers.write(asked, debug, "c" * 64, tokenizer, progress=Silent(), limit_s=0.0)
    assert made.parents == {"base": "c" * 64}
    assert made.counts == {"asked": 132, "answers": 0, "cut_off": 132}
    # A busy machine is no property of the base: it is asked again.
    again = answers.write(asked, debug, "c" * 64, tokenizer, progress=Silent(), limit_s=60.0)
    assert "cut_off" not in again.counts or again.counts["cut_off"] < 132


def test_a_base_without_a_chat_template_is_not_asked(debug: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(debug, base)
    settings = json.loads((base / "tokenizer_config.json").read_text())
    del settings["chat_template"]
    (base / "tokenizer_config.json").write_text(json.dumps(settings))
    tokenizer = Tokenizer.load(base)
    made = answers.write(tmp_path / "answers", base, "d" * 64, tokenizer, progress=Silent())
    assert made.counts == {"asked": 0, "answers": 0}
    assert answers.read(tmp_path / "answers", tokenizer) == []


def test_a_damaged_file_is_named_with_what_to_do(tmp_path: Path, debug: Path) -> None:
    (tmp_path / answers.FILE).write_bytes(b'{"messages": [\n')
    with pytest.raises(InputError, match="answers.jsonl"):
        answers.read(tmp_path, Tokenizer.load(debug))

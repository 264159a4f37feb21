import errno
import math
from pathlib import Path

import numpy as np
import pytest

from apprentice.core import files
from apprentice.core.errors import StorageError
from apprentice.core.fakes import ByteTokenizer, FailingOperations, ScriptedGenerator
from apprentice.core.protocols import Generator, Request


def test_bytes_round_trip_and_offsets_count_characters() -> None:
    tokenizer = ByteTokenizer()
    token_ids, offsets = tokenizer.encode_with_offsets("aé")
    assert (token_ids, offsets) == ([97, 0xC3, 0xA9], [(0, 1), (1, 2), (1, 2)])
    assert tokenizer.decode(token_ids) == "aé"


def test_plain_text_never_becomes_a_special_token() -> None:
    tokenizer = ByteTokenizer()
    assert max(tokenizer.encode("<|im_end|>")) < 256
    end = tokenizer.special_id("<|im_end|>")
    assert end in tokenizer.eos_ids
    assert tokenizer.decode([end or 0]) == "<|im_end|>"


def test_replies_come_in_turn_and_obey_the_request() -> None:
    generator = ScriptedGenerator(ByteTokenizer(), ["one\ntwo", "abcdef"])
    assert isinstance(generator, Generator)
    first, second, third = generator.generate([
        Request(prompt_ids=[1], max_tokens=9, stop_texts=("\n",)),
        Request(prompt_ids=[2], max_tokens=4, must_start_with="X"),
        Request(prompt_ids=[3], max_tokens=9),
    ])  # fmt: skip
    assert (first.text, first.finish_reason) == ("one", "stop")
    assert (second.text, second.token_ids, second.finish_reason) == ("abc", list(b"Xabc"), "length")
    assert third.text == "abcdef"
    assert [request.prompt_ids for request in generator.requests] == [[1], [2], [3]]


def test_a_caller_can_cancel() -> None:
    seen: list[str] = []

    def on_token(index: int, token_id: int, text: str) -> bool:
        seen.append(text)
        return len(seen) < 2

    (sample,) = ScriptedGenerator(ByteTokenizer(), ["abc"]).generate([Request(prompt_ids=[], max_tokens=9)], on_token=on_token)
    assert (seen, sample.text, sample.finish_reason) == (["a", "b"], "ab", "cancelled")


class Halving:
    def __init__(self) -> None:
        self.advanced: list[int] = []

    def mix(self, log_probs_V: np.ndarray) -> np.ndarray:
        return log_probs_V - math.log(2)

    def advance(self, token_id: int) -> None:
        self.advanced.append(token_id)

    def draft(self, max_tokens: int) -> list[int]:
        return []


def test_scores_are_those_of_the_script_and_the_mixture_sees_them() -> None:
    mixture = Halving()
    generator = ScriptedGenerator(ByteTokenizer(), log_prob=lambda prompt, target: [-1.0] * len(target))
    first, second = generator.score([[1], [2]], [[3, 4], [5]], mixtures=[mixture, None])
    assert first.model_log_probs == [-1.0, -1.0]
    assert np.allclose(first.mixture_log_probs or [], [-1 - math.log(2)] * 2)
    assert mixture.advanced == [3, 4]
    assert second.mixture_log_probs is None


def test_operations_are_listed_with_the_line_that_asked_for_them(tmp_path: Path) -> None:
    operations = FailingOperations(0, errno.EIO)
    with files.using(operations):
        files.write_text(tmp_path / "a", "x")
        files.make_folder(tmp_path / "b")
    assert [operation for operation, _ in operations.performed[:4]] == ["open", "write", "fsync", "rename"]
    assert len(operations.sites) == len(operations.performed)
    assert len(set(operations.sites)) == 2
    assert all(site.startswith("core/test_fakes.py:") for site in operations.sites)


def test_after_a_failure_all_is_well_again_unless_it_persists(tmp_path: Path) -> None:
    for persistent in (False, True):
        with files.using(FailingOperations(1, errno.EIO, persistent=persistent)):
            with pytest.raises(StorageError):
                files.write_text(tmp_path / "a", "x")
            if persistent:
                with pytest.raises(StorageError):
                    files.write_text(tmp_path / "a", "x")
            else:
                files.write_text(tmp_path / "a", "x")

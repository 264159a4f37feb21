from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from apprentice.core.errors import InputError
from apprentice.core.fakes import ByteTokenizer
from apprentice.examples import store
from apprentice.examples.build import Built, ExamplesConfig, build
from apprentice.examples.work import Work

Make = Callable[..., Work]


@pytest.fixture
def built(make_work: Make) -> Built:
    works = [make_work(f"c{i}", {f"m{i}.py": (f"a{i} = b{i}\n", f"a{i} = 'ü{i}'\n")}, time=float(i)) for i in range(20)]
    return build(works, ByteTokenizer())


def test_what_is_written_is_read(tmp_path: Path, built: Built) -> None:
    store.write(tmp_path / "ex", built, ExamplesConfig(), parents={"sessions": "abc"})
    for split, examples in built.examples.items():
        assert list(store.read(tmp_path / "ex", split)) == examples
        assert list(store.read(tmp_path / "ex", split, kind="completion")) == [e for e in examples if e.kind == "completion"]
    assert store.read_commits(tmp_path / "ex") == built.commits


def test_rows_have_the_columns_that_trl_reads_and_spans_as_lists(tmp_path: Path, built: Built) -> None:
    store.write(tmp_path / "ex", built, ExamplesConfig(), parents={})
    raw = zstandard.ZstdDecompressor().stream_reader((tmp_path / "ex" / "train.jsonl.zst").open("rb"))
    rows = [json.loads(line) for line in io.TextIOWrapper(raw, encoding="utf-8")]
    assert len(rows) == len(built.examples["train"])
    for row in rows:
        assert isinstance(row["prompt"], str)
        assert isinstance(row["completion"], str)
        assert all(isinstance(a, int) and isinstance(b, int) and isinstance(kind, str) for a, b, kind in row["spans"])
        assert row["spans"][-1][1] == len(row["prompt"] + row["completion"])
        assert row["edit"]["new"]


def test_the_same_examples_give_the_same_hash_and_files(tmp_path: Path, built: Built) -> None:
    first, second = (store.write(tmp_path / n, built, ExamplesConfig(), parents={"sessions": "s"}) for n in ("a", "b"))
    assert (first.hash, first.files) == (second.hash, second.files)
    other = store.write(tmp_path / "c", built, ExamplesConfig(), parents={"sessions": "t"})
    assert other.hash != first.hash
    assert first.counts["test_commits"] == 4


def test_a_broken_row_is_an_error_that_names_the_file(tmp_path: Path, built: Built) -> None:
    store.write(tmp_path / "ex", built, ExamplesConfig(), parents={})
    path = tmp_path / "ex" / "train.jsonl.zst"
    path.write_bytes(zstandard.ZstdCompressor().compress(b'{"id": 1}\n'))
    with pytest.raises(InputError, match="train.jsonl.zst"):
        list(store.read(tmp_path / "ex", "train"))
    path.write_bytes(b"no zstd at all")
    with pytest.raises(InputError, match="train.jsonl.zst"):
        list(store.read(tmp_path / "ex", "train"))


def test_a_folder_without_examples_is_an_error_that_says_what_makes_them(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        list(store.read(tmp_path / "none", "train"))
    assert caught.value.hint

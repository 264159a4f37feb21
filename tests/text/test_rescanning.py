"""The search through what was written."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import pytest
import zstandard

from apprentice.text import planted
from apprentice.text.redaction import Finding, RedactionPolicy, Redactor, rescan

SECRET = planted.VENDOR_KEYS["github"](random.Random(3))


@pytest.fixture(scope="module")
def redactor() -> Redactor:
    return Redactor(RedactionPolicy(vendor_rules=False))


def test_secrets_are_found_in_every_kind_of_file(tmp_path: Path, redactor: Redactor) -> None:
    text = f"one\ntwo {SECRET}\n"
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "plain.txt").write_text(text)
    (tmp_path / "a" / "b" / "rows.jsonl.zst").write_bytes(zstandard.compress(text.encode()))
    (tmp_path / "a" / "old.gz").write_bytes(gzip.compress(text.encode()))
    (tmp_path / "binary").write_bytes(b"\xff\xfe\n" + text.encode())
    (tmp_path / "clean.md").write_text("nothing\n")
    assert rescan(tmp_path, redactor) == [
        Finding(tmp_path / "a" / "b" / "rows.jsonl.zst", 2, "github-token"),
        Finding(tmp_path / "a" / "old.gz", 2, "github-token"),
        Finding(tmp_path / "a" / "plain.txt", 2, "github-token"),
        Finding(tmp_path / "binary", 3, "github-token"),
    ]


def test_secrets_are_found_in_tables(tmp_path: Path, redactor: Redactor) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    texts = ["clean"] * 300 + [f"x {SECRET}"] + [None]
    pq.write_table(pa.table({"id": list(range(302)), "text": texts}), tmp_path / "texts.parquet")
    assert rescan(tmp_path, redactor) == [Finding(tmp_path / "texts.parquet", 301, "github-token")]


def test_a_secret_far_inside_a_large_file_has_its_line(tmp_path: Path, redactor: Redactor) -> None:
    (tmp_path / "large.txt").write_text("x = 1\n" * 2_500_000 + f"{SECRET}\n" + "y\n" * 100_000)
    assert rescan(tmp_path, redactor) == [Finding(tmp_path / "large.txt", 2_500_001, "github-token")]


def test_arrays_and_links_are_passed_over(tmp_path: Path, redactor: Redactor) -> None:
    (tmp_path / "model.safetensors").write_bytes(SECRET.encode())
    (tmp_path / "link").symlink_to(tmp_path / "model.safetensors")
    assert rescan(tmp_path, redactor) == []


def test_a_finding_never_shows_the_secret(tmp_path: Path, redactor: Redactor) -> None:
    (tmp_path / "x").write_text(SECRET)
    assert SECRET not in repr(rescan(tmp_path, redactor))


def test_what_was_redacted_is_clean(tmp_path: Path, redactor: Redactor) -> None:
    for number, hide in enumerate(planted.DISGUISES.values()):
        (tmp_path / str(number)).write_text(redactor.redact(hide(SECRET))[0])
    assert rescan(tmp_path, redactor) == []


def test_strings_are_looked_at_as_they_were_redacted_not_as_json_writes_them(tmp_path: Path, redactor: Redactor) -> None:
    harmless = "machine host\npassword sample"
    rows = [{"old": ["fine"]}, {"new": ["a", f"key {SECRET}"]}, {"text": harmless}, {SECRET: 1}]
    (tmp_path / "events.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert redactor.redact(harmless)[1] == {}
    assert rescan(tmp_path, redactor) == [
        Finding(tmp_path / "events.jsonl", 2, "github-token"),
        Finding(tmp_path / "events.jsonl", 4, "github-token"),
    ]


def test_files_that_are_known_are_not_looked_at_again(tmp_path: Path, redactor: Redactor) -> None:
    (tmp_path / "a").mkdir()
    for name in ("a/old", "a/new"):
        (tmp_path / name).write_text(SECRET)
    assert [finding.path.name for finding in rescan(tmp_path, redactor, known={"a/old"})] == ["new"]


@pytest.mark.parametrize("text", ["[" * 100_000, "[" * 5000 + "]" * 5000])
def test_what_is_nested_deeply_is_searched_as_text(tmp_path: Path, redactor: Redactor, text: str) -> None:
    (tmp_path / "rows.jsonl.zst").write_bytes(zstandard.compress(f"{text}\n{SECRET}\n".encode()))
    assert rescan(tmp_path, redactor) == [Finding(tmp_path / "rows.jsonl.zst", 2, "github-token")]

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from apprentice.core import artifacts


def test_a_folder_of_runs_lists_its_artifacts(apprentice: Any, learned: Any) -> None:
    found = json.loads(apprentice("show", learned.out, "--json").out)
    assert found["sessions"]["kind"] == "sessions"
    assert found["runs/0001/quantized"]["kind"] == "quantized"
    assert "runs/0001/evaluation: evaluation " in apprentice("show", learned.out).out


def test_files_of_others_with_that_name_are_passed_over(apprentice: Any, tmp_path: Path, harmless: Any) -> None:
    with artifacts.create(tmp_path / "ours", kind="memory\x1b[31m", version=1) as writer:
        writer.finish()
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "manifest.json").write_text('{"name": "an app"}')
    done = apprentice("show", tmp_path)
    assert done.code == 0, done.err
    assert done.out.startswith("ours: memory")
    assert "web" not in done.out
    harmless(done.out)


def test_an_artifact_says_what_was_redacted(apprentice: Any, tmp_path: Path) -> None:
    with artifacts.create(tmp_path / "sessions", kind="sessions", version=1) as writer:
        writer.finish(seed=0, counts={}, extra={"redacted": {"person": 1200}})
    assert "\nredacted: person: 1,200\n" in apprentice("show", tmp_path / "sessions").out


def test_an_artifact_says_what_it_is_made_from_and_whether_it_is_whole(
    apprentice: Any, learned: Any, tmp_path: Path, harmless: Any
) -> None:
    folder = shutil.copytree(learned.run / "examples", tmp_path / "examples")
    done = apprentice("show", folder)
    assert "from sessions: " in done.out
    assert "every file is what the manifest says" in done.out
    harmless(done.out)
    next(path for path in folder.iterdir() if path.name != "manifest.json").write_bytes(b"changed")
    assert "problem: " in apprentice("show", folder).out
    assert json.loads(apprentice("show", folder, "--json").out)["problems"]


def test_every_sample_of_an_evaluation_can_be_browsed(apprentice: Any, learned: Any, tmp_path: Path, harmless: Any) -> None:
    evaluation = learned.run / "evaluation"
    done = apprentice("show", "--browse", evaluation, evaluation, "--to", tmp_path / "pages\x1b[31m", "--model", learned.run / "quantized")
    assert done.code == 0, done.err
    harmless(done.out)
    pages = list(tmp_path.glob("pages*/*.html"))
    assert f"{len(pages):,} pages" in done.out
    assert "better: 0\nworse: 0\nequal: " in done.out
    text = "".join(page.read_text(encoding="utf-8") for page in pages)
    harmless(text)
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert " bits\">" in text


def test_an_unfinished_evaluation_is_browsed_with_its_examples_named(apprentice: Any, learned: Any, tmp_path: Path) -> None:
    (tmp_path / "eval").mkdir()
    shutil.copy(learned.run / "evaluation" / "samples.jsonl", tmp_path / "eval" / "working.jsonl")
    words = ("show", "--browse", tmp_path / "eval", "--to", tmp_path / "pages", "--json")
    refused = apprentice(*words)
    assert (refused.code, refused.out) == (2, "")
    assert "hint: name their folder with `--examples`" in refused.err
    done = json.loads(apprentice(*words, "--examples", learned.run / "examples").out)
    assert done["without_example"] == 0
    assert done["pages"] == len(list((tmp_path / "pages").iterdir()))
    assert done["compared"] == {}


@pytest.mark.parametrize(("words", "said"), [(("--browse",), "`--browse` needs a folder"), (("--to", "x"), "`--to` belongs to `--browse`"), (("other",), "`OTHER` belongs")])
def test_options_of_browsing_belong_together(apprentice: Any, learned: Any, words: tuple[str, ...], said: str) -> None:
    done = apprentice("show", learned.run / "evaluation", *words)
    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert "hint: " in done.err

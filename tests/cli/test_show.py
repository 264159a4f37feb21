from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any


def test_a_folder_of_runs_lists_its_artifacts(apprentice: Any, learned: Any) -> None:
    found = json.loads(apprentice("show", learned.out, "--json").out)
    assert found["sessions"]["kind"] == "sessions"
    assert found["runs/0001/quantized"]["kind"] == "quantized"
    assert "runs/0001/evaluation: evaluation " in apprentice("show", learned.out).out


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

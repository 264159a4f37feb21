from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


def test_sessions_are_read_shown_exported_and_read_again(
    apprentice: Any, repository: Path, tmp_path: Path, harmless: Any
) -> None:
    folder = tmp_path / "kept" / "sessions"
    done = apprentice("sessions", "read", repository, "--out", folder, "--json")
    assert done.code == 0, done.err
    (source,) = json.loads(done.out)["sources"].values()
    assert {"files", "sessions", "events", "kept_aside"} <= set(source)
    assert source["sessions"] == 41
    assert source["events"]["commit"] == 41
    assert any("path" in reason for reason in [*source["kept_aside"], *source["dropped"]])

    shown = apprentice("sessions", "show", folder, "--newest", 2)
    assert shown.code == 0
    assert "Step 39 <script>" in shown.out
    assert "Step 37" not in shown.out
    harmless(shown.out)
    objects = json.loads(apprentice("sessions", "show", folder, "--newest", 1, "--json").out)
    assert len(objects["sessions"]) == 1

    file = tmp_path / "history.jsonl.zst"
    exported = apprentice("sessions", "export", folder, "--to", file, "--json")
    assert json.loads(exported.out) == {"file": str(file), "bytes": file.stat().st_size}
    again = apprentice("sessions", "read", file, "--out", tmp_path / "imported", "--json")
    assert again.code == 0, again.err
    assert sum(source["sessions"] for source in json.loads(again.out)["sources"].values()) == 41


def test_a_file_of_one_long_line_is_left_out_and_counted(
    apprentice: Any, repository: Path, tmp_path: Path, harmless: Any
) -> None:
    done = apprentice("sessions", "read", repository, "--out", tmp_path / "sessions")
    assert done.code == 0
    harmless(done.out)
    assert any("dropped: " in line and line.split()[-1] == "2" for line in done.out.splitlines()), done.out
    assert sum(path.stat().st_size for path in (tmp_path / "sessions").rglob("*") if path.is_file()) < 1_000_000


def test_an_export_that_would_be_too_large_is_refused(apprentice: Any, learned: Any, tmp_path: Path) -> None:
    file = tmp_path / "history.jsonl.zst"
    done = apprentice("sessions", "export", learned.out / "sessions", "--to", file, "--max-bytes", 10)
    assert done.code == 2
    assert done.err.startswith("error: ")
    assert not file.exists()


READ = """
import resource, sys
from apprentice.cli.main import run
code = run(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
sys.exit(code)
"""


def test_a_file_of_one_long_line_takes_no_memory(new_repository: Any, tmp_path: Path) -> None:
    size_mib = int(os.environ.get("APPRENTICE_LONG_LINE_MIB", "48"))
    peaks_kib = []
    for name, content in (("without", b"x = 1\n"), ("with", b"x" * (size_mib << 20))):
        made = new_repository(name)
        made.commit("Begin", a_py="x = 1\n")
        made.write("long.py", content)
        made.commit("Add", a_py="x = 2\n")
        command = [sys.executable, "-c", READ, "sessions", "read", str(made.path), "--out", str(tmp_path / f"{name}-sessions")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        peaks_kib.append(int(done.stderr.split()[-1]))
    assert peaks_kib[1] - peaks_kib[0] < size_mib * 1024 / 2

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.sessions.readers.test_specstory import HEAD, agent, tool, user


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
    assert json.loads(exported.out) == {"file": str(file), "bytes": file.stat().st_size, "sessions": 41, "conversations": 0}
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


HOSTILE = "<script>\x1b[31m\u202e"


@pytest.fixture
def talked(apprentice: Any, tmp_path: Path) -> Path:
    """Sessions with one conversation, hostile in every word."""
    said = {"type": "user", "uuid": "a", "parentUuid": None, "message": {"role": "user", "content": HOSTILE}}
    call = {"type": "tool_use", "id": "t", "name": HOSTILE, "input": {"x": HOSTILE}}
    answered = {"type": "assistant", "uuid": "b", "parentUuid": "a", "message": {"id": "m", "role": "assistant", "content": [call]}}
    common = {"sessionId": "s", "timestamp": "2026-01-02T03:04:05Z", "cwd": "/x"}
    lines = [json.dumps({**common, **record}) + "\n" for record in (said, answered)]
    (tmp_path / "s.jsonl").write_text("".join(lines), encoding="utf-8")
    done = apprentice("sessions", "read", tmp_path / "s.jsonl", "--out", tmp_path / "sessions")
    assert done.code == 0, done.err
    return tmp_path / "sessions"


def test_what_is_read_into_the_folder_of_the_runs_is_ignored_by_git(apprentice: Any, repository: Path, tmp_path: Path) -> None:
    assert apprentice("sessions", "read", repository, "--out", tmp_path / ".apprentice/sessions").code == 0
    assert (tmp_path / ".apprentice/.gitignore").read_text() == "*\n"
    # Any other folder is the user's own.
    assert apprentice("sessions", "read", repository, "--out", tmp_path / "mine/sessions").code == 0
    assert not (tmp_path / "mine/.gitignore").exists()


def test_a_reading_of_other_sources_says_what_it_takes_the_place_of(apprentice: Any, talked: Path, repository: Path, tmp_path: Path) -> None:
    done = apprentice("sessions", "read", repository, "--out", talked)
    assert done.code == 0, done.err
    assert "no longer in" in done.err
    assert "sessions of claude_code" in done.err
    both = apprentice("sessions", "read", repository, tmp_path / "s.jsonl", "--out", talked)
    assert "no longer in" not in both.err
    assert {"git", "claude_code"} <= json.loads(apprentice("sessions", "read", repository, tmp_path / "s.jsonl", "--out", talked, "--json").out)["sources"].keys()


@pytest.mark.parametrize("form", ["messages", "atif", "traces"])
def test_conversations_are_exported_in_other_programs_forms(
    apprentice: Any, talked: Path, tmp_path: Path, harmless: Any, form: str
) -> None:
    words = ("sessions", "export", talked, "--form", form, "--to")
    done = apprentice(*words, tmp_path / f"out\x1b[31m-{form}")
    assert done.code == 0, done.err
    harmless(done.out + done.err)
    assert "1 conversations" in done.out
    assert "marked for training: 0 of 1 replies" in done.out
    assert "terms of claude_code: Anthropic https://" in done.out
    marked = json.loads(apprentice(*words, tmp_path / "marked", "--learn-from", "assistant:claude", "--json").out)
    assert (marked["conversations"], marked["marked"], marked["learn_from"]) == (1, 1, ["assistant:claude"])
    assert marked["path"] == str(tmp_path / "marked")
    (tmp_path / "policy.toml").write_text('learn_from = ["developer", "assistant:claude"]\n')
    assert json.loads(apprentice(*words, tmp_path / "by-file", "--json").out)["marked"] == 1


def test_exported_trajectories_are_read_again(apprentice: Any, talked: Path, tmp_path: Path) -> None:
    assert apprentice("sessions", "export", talked, "--form", "atif", "--to", tmp_path / "atif").code == 0
    again = apprentice("sessions", "read", tmp_path / "atif", "--out", tmp_path / "again", "--json")
    assert json.loads(again.out)["sources"]["atif"]["events"] == {"prompt": 1, "reply": 1}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--form", "messages", "--learn-from", "everybody"), "`everybody` names nobody"),
        (("--learn-from", "assistant:claude"), "carries no marks"),
        (("--form", "traces", "--no-conversations"), "conversations alone"),
        (("--form", "parquet"), "parquet"),
    ],
)
def test_what_cannot_be_meant_is_refused_and_nothing_is_written(
    apprentice: Any, talked: Path, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    done = apprentice("sessions", "export", talked, "--to", tmp_path / "out", *words)
    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert not (tmp_path / "out").exists()


def test_a_history_has_no_conversations_to_export(apprentice: Any, learned: Any, tmp_path: Path) -> None:
    done = apprentice("sessions", "export", learned.out / "sessions", "--form", "messages", "--to", tmp_path / "out")
    assert (done.code, done.out) == (2, "")
    assert "holds no conversations" in done.err
    assert not (tmp_path / "out").exists()


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


def test_outcomes_of_edits_are_shown_with_their_evidence(apprentice: Any, new_repository: Any, tmp_path: Path, harmless: Any) -> None:
    code = "def wave(hand):\n    for finger in hand.fingers:\n        finger.stretch(seconds=2)\n"
    made = new_repository("engine")
    made.commit("Begin", a_py="x = 1\n")
    commit = made.commit("Wave", wave_py=code)
    talk = tmp_path / "engine" / ".specstory" / "history" / "talk.md"
    talk.parent.mkdir(parents=True)
    tool = '_**Agent (model 2023-11-14T22:14:30Z)**_\n\n<tool-use data-tool-type="write" data-tool-name="Write"><details>\n'
    tool += "<summary>Tool use: **Write**</summary>\n\n```python\n" + code + "```\n```text\nFile created successfully at: PATH\n```\n</details></tool-use>"
    head = "<!-- Generated by SpecStory, Markdown v2.1.0 -->\n<!-- Claude Code Session id-1 (2023-11-14 22:14:20Z) -->\n\n"
    head += "_**User (2023-11-14T22:14:20Z)**_\n\nWave\n\n---\n\n"
    odd = "/w/engine/\x1b[31m<script>.py"
    talk.write_text(head + "\n\n---\n\n".join(tool.replace("PATH", path) for path in ("/w/engine/wave.py", odd)), encoding="utf-8")
    folder = tmp_path / "sessions"
    assert apprentice("sessions", "read", made.path, talk, "--out", folder).code == 0

    done = apprentice("sessions", "outcomes", folder, "--json")
    assert done.code == 0, done.err
    value = json.loads(done.out)
    assert [(row["source"], row["agent"], row["num_edits"]) for row in value["summary"]] == [("specstory", "claude", 2)]
    first, second = value["outcomes"]
    assert (first["outcome"], first["evidence"][0]["commit"], first["evidence"][0]["path"]) == ("survived", commit, "wave.py")
    assert second["outcome"] in ("survived", "unknown")
    shown = apprentice("sessions", "outcomes", folder)
    assert "specstory, claude: 2 edits of 1 session\n" in shown.out
    assert "survived" in shown.out
    harmless(shown.out)


def test_sessions_without_edits_of_assistants_have_no_outcomes(apprentice: Any, new_repository: Any, tmp_path: Path) -> None:
    made = new_repository("engine")
    made.commit("Begin", a_py="x = 1\n")
    assert apprentice("sessions", "read", made.path, "--out", tmp_path / "sessions").code == 0
    done = apprentice("sessions", "outcomes", tmp_path / "sessions")
    assert (done.code, done.out) == (0, "no edits of assistants are in these sessions\n")
    assert json.loads(apprentice("sessions", "outcomes", tmp_path / "sessions", "--json").out) == {"summary": [], "outcomes": []}


def test_a_session_is_shown_with_its_times_and_what_was_printed(apprentice: Any, tmp_path: Path, harmless: Any) -> None:
    (tmp_path / "a.md").write_text(
        HEAD + user("why does it fail?") + tool("shell", "Bash", "`make`\n\n```text\nExit code 2\n" + "line\n" * 40 + "boom \x1b[2J\n```") + agent("done")
    )
    assert apprentice("sessions", "read", tmp_path / "a.md", "--out", tmp_path / "read").code == 0
    shown = apprentice("sessions", "show", tmp_path / "read", "--session", "id-")
    assert "id-1, specstory, 2026-01-02 03:04 UTC\n  03:04:05 local-user: why does it fail?\n  03:04:06 claude calls\n    [Bash " in shown.out
    assert "claude $ make\n      (30 lines)\n" in shown.out
    assert "boom" in shown.out
    assert "(exit code 2)\n  03:04:06 claude: done" in shown.out
    harmless(shown.out)
    whole = apprentice("sessions", "show", tmp_path / "read", "--whole")
    assert whole.out.count("      line\n") >= 40
    missing = apprentice("sessions", "show", tmp_path / "read", "--session", "id-2")
    assert missing.code != 0
    assert "has no session `id-2`" in missing.err

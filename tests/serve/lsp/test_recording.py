"""What reaches the disk, and what never does; and that the recordings can be read."""

from __future__ import annotations

import errno
import itertools
import json
import random
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.serve.lsp.conftest import REJECT, Buffer, Start, Talk

from apprentice.core import artifacts, files
from apprentice.core.fakes import FailingOperations
from apprentice.core.progress import Silent
from apprentice.learn import recording
from apprentice.serve.lsp.history import Stretch
from apprentice.serve.lsp.recording import Recorder
from apprentice.sessions import store
from apprentice.sessions.events import EditEvent, Suggestion
from apprentice.sessions.policy import Policy
from apprentice.sessions.readers import files as readers
from apprentice.sessions.store import Sessions, SessionsWriter
from apprentice.text.people import Known
from apprentice.text.redaction import RedactionPolicy, Redactor, rescan

KEY = "ghp_" + "a1B2c3D4e5" * 3 + "f6G7h8"
PEM = "\n".join([
    "-----BEGIN RSA PRIVATE KEY-----", *("".join(random.Random(number).choices("abcdefABCDEF0123456789+/", k=64)) for number in range(20)),
    "-----END RSA PRIVATE KEY-----",
])  # fmt: skip
TEXT = "first = 1\n" + "\n" * 20 + "second = 2\n" + "\n" * 20 + "third = 3\n"


def everything(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def work(talk: Talk) -> None:
    """An edit, a suggestion of each outcome but `ignored`, another edit."""
    buffer = talk.buffer(TEXT)
    buffer.replace(0, 5, "begin")
    for command in (True, False):
        at = buffer.text.index("= 2") + 3 if command else buffer.text.index("= 3") + 3
        item = buffer.complete(at)
        assert item is not None
        if command:
            buffer.accept(item)
            buffer.save()
        else:
            buffer.type(at, "z")
    buffer.close()


SAID = {"second = 2": " + 2", "third = 3": " + 3"}


def read(folder: Path, out: Path, **options: Any) -> Sessions:
    scanner = Redactor(**options)
    with artifacts.create(out, kind=store.KIND, version=store.VERSION) as artifact, SessionsWriter(artifact, scanner) as writer:
        readers.read(readers.find([folder]), writer, Silent())
        writer.finish(config={}, policy=Policy())
    return Sessions.open(out)


def test_without_consent_nothing_is_written(start: Start) -> None:
    talk = start(SAID)
    before = {path: path.stat().st_mtime_ns for path in talk.root.rglob("*")}
    work(talk)
    talk.client.wait()
    assert {path: path.stat().st_mtime_ns for path in talk.root.rglob("*")} == before
    assert talk.client.notifications == []


def test_with_consent_the_developer_is_told_at_the_start(start: Start) -> None:
    talk = start(SAID, record=True)
    talk.client.wait()
    (notice,) = talk.client.notifications
    assert notice["method"] == "window/showMessage"
    assert "records your edits" in notice["params"]["message"]
    # One line of a terminal, behind the client's name.
    assert len(notice["params"]["message"]) <= 60
    assert ".apprentice/recorded" in notice["params"]["message"]
    # A session in which nothing happens leaves no file.
    assert not (talk.root / ".apprentice").exists()


def test_the_events_are_those_of_the_schema_and_can_be_read(start: Start, tmp_path: Path) -> None:
    talk = start(SAID, record=True)
    work(talk)
    recorded = talk.recorded
    assert [(event["type"], event.get("outcome"), event["author"]["kind"]) for event in recorded] == [
        ("edit", None, "developer"), ("edit", None, "assistant"), ("suggestion", "kept", "assistant"),
        ("suggestion", "rejected", "assistant"), ("edit", None, "developer"),
    ]  # fmt: skip
    assert talk.recorder is not None
    sessions = read(talk.recorder.folder, tmp_path / "out")
    (session,) = sessions.talks()
    assert (session.source, session.repository) == ("editor", "project")
    assert [event.time for event in session.events] == sorted(event.time for event in session.events)
    suggestions = [event for event in session.events if isinstance(event, Suggestion)]
    assert [(event.edit.path, event.edit.start_line, event.edit.old, event.edit.new, event.outcome) for event in suggestions] == [
        ("a.py", 21, ("second = 2",), ("second = 2 + 2",), "kept"), ("a.py", 42, ("third = 3",), ("third = 3 + 3",), "rejected"),
    ]  # fmt: skip
    edits = {event.hunks[0].new[0]: event for event in session.events if isinstance(event, EditEvent)}
    assert set(edits) == {"begin = 1", "second = 2 + 2", "third = 3z"}
    assert edits["begin = 1"].hunks[0].start_line == 0
    assert edits["begin = 1"].before_id is None
    policy = Policy()
    assert [policy.may_learn(event.author) for event in edits.values()] == [True, False, True]
    assert sessions.summary()["sources"]["editor"]["events"] == {"edit": 3, "suggestion": 2}
    assert sessions.summary()["sources"]["editor"]["kept_aside"] == {}
    # Where it was read: the place of its line in the file.
    (file,) = talk.recorder.folder.iterdir()
    for event in session.events:
        assert file.read_bytes()[event.provenance.offset :].startswith(b'{"type":')


def test_what_was_rejected_in_a_recorded_session_does_not_come_again(start: Start) -> None:
    def model(line: str) -> str:
        return line + " + 1\nmore" if line else "new"

    talk = start(model, record=True)
    buffer = talk.buffer("a = 1\nb = 2\n\nc = 3\n")
    for ask, at in ((buffer.edit, 0), (buffer.edit, 6), (buffer.complete, 12)):
        item = ask(at)
        assert item is not None
        talk.client.request("workspace/executeCommand", {"command": REJECT, "arguments": item["command"]["arguments"]})
    assert [outcome for _, outcome in talk.outcomes] == ["rejected"] * 3
    assert talk.recorder is not None
    (talk.recorder.folder / "0-broken.jsonl").write_bytes(b"{}\nnothing\n\xff\n")
    known = recording.rejected(talk.root)
    assert len(known) == 3
    later = start(model, rejected=known)
    buffer = later.buffer("a = 1\nb = 2\n\nc = 3\n")
    assert [buffer.edit(0), buffer.edit(6), buffer.complete(12)] == [None, None, None]
    # Elsewhere it may.
    assert buffer.edit(13) is not None
    assert buffer.complete(18) is not None
    assert recording.rejected(talk.root / "elsewhere") == []


def test_what_repeats_the_lines_above_and_was_rejected_does_not_come_again(start: Start) -> None:
    """More of them than a recording tells."""
    above = "".join(f"{{line {number}}}\n" for number in range(20))

    def model(line: str) -> str:
        return above + line

    talk = start(model, record=True)
    buffer = talk.buffer(above + "end\n")
    item = buffer.edit(len(above))
    assert item is not None
    talk.client.request("workspace/executeCommand", {"command": REJECT, "arguments": item["command"]["arguments"]})
    assert buffer.edit(len(above)) is None
    later = start(model, rejected=recording.rejected(talk.root))
    assert later.buffer(above + "end\n").edit(len(above)) is None


@pytest.mark.parametrize("head", ['password = "', "API_KEY: str = '", '"auth_token": "', 'os.environ["SECRET"] = f"'])
def test_half_a_secret_that_is_left_and_finished_later(start: Start, head: str) -> None:
    talk = start(SAID, record=True)
    between = "".join(f"x{number} = {number}\n" for number in range(40))
    buffer = talk.buffer(f"first = 1\n{between}\nthird = 3\n{between}")
    at = buffer.text.index("\nthird")
    buffer.type(at, head + "Xk29dmQ")
    # Elsewhere, beside it, elsewhere, and on with it.
    for old, new in (("first", "begin"), ("third", "three"), ("begin", "start")):
        at = buffer.text.index(old)
        buffer.replace(at, at + 5, new)
    at = buffer.text.index("dmQ") + 3
    buffer.type(at, "7Zp4Lw" + head.rstrip("f")[-1])
    buffer.close()
    written = json.dumps(talk.recorded)
    assert "begin" in written
    assert "three" in written
    assert "start" in written
    for part in ("Xk29", "dmQ", "7Zp4"):
        assert part not in written


@pytest.mark.parametrize("line", ["# don't pass the user's key", 'print("the key: it\'s here")', 'token = "', "keys = {'a': 1}", "key = 'ab'"])
def test_prose_and_whole_texts_are_no_unfinished_secret(start: Start, line: str) -> None:
    talk = start(SAID, record=True)
    buffer = talk.buffer("first = 1\n\n")
    buffer.type(len("first = 1\n"), line)
    buffer.close()
    assert [event["hunks"][0]["new"] for event in talk.recorded] == [[line]]


def test_whatever_is_typed_no_secret_reaches_the_disk(start: Start) -> None:
    redactor = Redactor(RedactionPolicy(known=Known(names=frozenset({"Ada Lovelace"}))))
    talk = start(lambda line: " # and more", record=True, scanner=redactor)
    buffer = talk.buffer(TEXT + "\n" * 20 + f'token = "{KEY}"\n' + "\n" * 20 + PEM + "\n")
    # Pasted, typed by hand with a suggestion at every letter, and beside a suggestion.
    buffer.replace(0, 0, f'api_key = "{KEY}"  # Ada Lovelace\n')
    at = buffer.text.index("second")
    for number, character in enumerate(f'password = "{KEY}"'):
        buffer.type(at + number, character)
        buffer.complete(at + number + 1)
    buffer.complete(buffer.text.index("token") + 8)
    buffer.edit(buffer.text.rindex("token"))
    inside = buffer.text.index(PEM.split("\n")[10])
    item = buffer.complete(inside + 64)
    buffer.replace(inside + 64, inside + 64, "\n# in the midst of a key")
    at = buffer.text.rindex("third")
    buffer.replace(at, at, f"curl -H 'Authorization: Bearer {KEY}' ada@analytical-engines.com\n")
    buffer.save()
    buffer.close()
    assert talk.recorder is not None
    talk.client.wait()
    data = everything(talk.recorder.folder)
    assert talk.recorder.num_events > 2
    assert item is not None
    for length in (len(KEY), 24, 14):
        assert KEY[:length].encode() not in data
    for line in PEM.split("\n")[1:-1]:
        assert line[:20].encode() not in data
    assert b"Lovelace" not in data
    assert b"ada@" not in data
    assert b"<secret:" in data
    assert talk.recorder.dropped["beside a secret"] > 10
    assert rescan(talk.recorder.folder, redactor) == []


@pytest.mark.parametrize("name", [
    ".env", ".env.local", "prod.env", ".envrc", ".env-local", "id_ed25519", "server.pem", "credentials.json", ".npmrc", "live.tfvars", "terraform.tfstate",
    "service_account.json", "app-secrets.yaml", "secrets/live.yaml", ".aws/config", ".git/COMMIT_EDITMSG", ".git/config", ".apprentice/recorded/a.jsonl",
    "../other.py", "../../etc/passwd",
])  # fmt: skip
def test_files_that_hold_secrets_or_lie_elsewhere_are_not_written_down(start: Start, name: str) -> None:
    talk = start("x", record=True)
    (talk.root / "other.py").touch()
    buffer = talk.buffer(TEXT)
    buffer.close()
    buffer.uri = (talk.root / name).absolute().as_uri() if not name.startswith("..") else (talk.root.parent / name[3:]).as_uri()
    buffer.open()
    buffer.replace(0, 5, "begin")
    assert buffer.complete(9) is not None
    buffer.close()
    assert talk.recorded == []


def test_nobody_else_may_read_what_is_recorded(start: Start) -> None:
    talk = start(SAID, record=True)
    work(talk)
    assert len(talk.recorded) > 1
    assert talk.recorder is not None
    (file,) = talk.recorder.folder.iterdir()
    assert (stat.S_IMODE(file.stat().st_mode), stat.S_IMODE(talk.recorder.folder.stat().st_mode)) == (0o600, 0o700)


def test_a_document_at_an_impossible_place_does_not_end_the_recording(start: Start) -> None:
    talk = start(SAID, record=True)
    (talk.root / "loop").symlink_to("round")
    (talk.root / "round").symlink_to("loop")
    for uri in (talk.root.as_uri() + "/\ud800.py", (talk.root / "loop" / "a.py").absolute().as_uri(), "file:///" + "a/" * 3000 + "b" * 300, "file:///"):
        buffer = Buffer(talk.client, uri, TEXT).open()
        buffer.replace(0, 5, "begin")
        buffer.close()
    assert talk.recorded == []
    talk.buffer(TEXT).replace(0, 5, "begin")
    talk.client.notify("textDocument/didClose", {"textDocument": {"uri": (talk.root / "a.py").as_uri()}})
    assert [event["path"] for event in talk.recorded] == ["a.py"]


def test_a_repository_inside_and_documents_without_a_file_are_not_written_down(start: Start) -> None:
    talk = start("x", record=True)
    (talk.root / "vendor" / ".git").mkdir(parents=True)
    for buffer in (talk.buffer(TEXT, "vendor/a.py"), talk.buffer(TEXT)):
        if buffer.uri.endswith("project/a.py"):
            buffer.uri = "untitled:a.py"
            buffer.open()
        buffer.replace(0, 5, "begin")
        buffer.close()
    assert talk.recorded == []


def test_an_editor_that_comes_by_a_link_is_in_the_repository_and_a_link_out_of_it_is_not(start: Start) -> None:
    talk = start("x", record=True)
    (talk.root.parent / "way").symlink_to(talk.root)
    (talk.root.parent / "elsewhere.py").write_text(TEXT)
    (talk.root / "out.py").symlink_to(talk.root.parent / "elsewhere.py")
    for name in ("../way/a.py", "out.py"):
        buffer = talk.buffer(TEXT, name)
        buffer.close()
        buffer.uri = (talk.root.parent / name.removeprefix("../") if name.startswith("..") else talk.root / name).as_uri()
        buffer.open()
        buffer.replace(0, 5, "begin")
        buffer.close()
    assert [event["path"] for event in talk.recorded] == ["a.py"]


def test_each_event_is_on_the_disk_when_the_next_message_is_answered(start: Start) -> None:
    talk = start(SAID, record=True)
    buffer = talk.buffer(TEXT)
    buffer.replace(0, 5, "begin")
    assert talk.recorded == []
    buffer.type(buffer.text.index("second"), "# ")
    assert len(talk.recorded) == 1
    assert buffer.complete(buffer.text.index("= 3") + 3) is not None
    buffer.type(buffer.text.index("= 3") + 3, "z")
    assert [event["type"] for event in talk.recorded] == ["edit", "edit", "suggestion"]


def test_a_disk_that_takes_no_more_ends_the_recording_and_not_the_server(tmp_path: Path) -> None:
    stretch = Stretch((tmp_path / "a.py").as_uri(), "a.py", 0, ("a",), ("b",), 1.0)
    for number in itertools.count():
        said: list[str] = []
        folder = tmp_path / f"recorded-{number}"
        recorder = Recorder(folder, tmp_path, Redactor(), say=said.append)
        operations = FailingOperations(number + 1, errno.ENOSPC)
        with files.using(operations):
            for _ in range(2):
                recorder.edited(stretch)
                recorder.suggested(stretch, "kept")
        lines = [line for path in folder.glob("*.jsonl") for line in files.read_lines(path)]
        assert all(json.loads(line) for line in lines)
        if not operations.failed:
            assert said == []
            assert len(lines) == 5
            return
        assert len(said) == 1
        assert "nothing more is recorded" in said[0]
        assert len(lines) <= 5
    raise AssertionError


def test_a_scanner_that_fails_ends_the_recording_and_not_the_server(start: Start) -> None:
    class Broken:
        def redact(self, text: str) -> tuple[str, dict[str, int]]:
            raise RuntimeError("private")

    talk = start(SAID, record=True, scanner=Broken())
    work(talk)
    assert talk.recorded == []
    messages = [notice["params"]["message"] for notice in talk.client.notifications]
    assert messages[1:] == ["nothing more is recorded: RuntimeError"]


def test_what_git_ignores_is_not_recorded(tmp_path: Path, start: Start) -> None:
    talk = start("", record=True)
    shutil.rmtree(talk.root / ".git")
    subprocess.run(["git", "init", "--quiet", talk.root], check=True)
    (talk.root / ".gitignore").write_text("notes/\n*.local.php\n")
    for name in ("notes/review.md", "config.local.php", "src/a.py"):
        path = talk.root / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("one\n")
        buffer = talk.buffer("one\n", name)
        buffer.type(0, "x")
        buffer.close()
    assert [event["path"] for event in talk.recorded] == ["src/a.py"]

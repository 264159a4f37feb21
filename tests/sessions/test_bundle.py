from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zstandard

from apprentice.core import artifacts
from apprentice.core.errors import HostileInputError, InputError
from apprentice.sessions import bundle, replay
from apprentice.sessions.bundle import export_bundle, import_bundle, import_sessions
from apprentice.sessions.conversation import Change, Conversation, Use
from apprentice.sessions.policy import Policy
from apprentice.sessions.store import KIND, VERSION, Sessions, SessionsWriter

NewRepository = Callable[..., Any]
Read = Callable[..., Sessions]
HEADER = {"format": "apprentice-sessions", "version": 1}


@pytest.fixture
def load(tmp_path: Path, scanner: Any) -> Callable[..., Sessions]:
    """Makes an artifact out of bundles and other artifacts."""

    def run(*sources: Path | Sessions, into: str = "loaded") -> Sessions:
        with artifacts.create(tmp_path / into, kind=KIND, version=VERSION) as artifact:
            with SessionsWriter(artifact, scanner) as writer:
                for source in sources:
                    if isinstance(source, Sessions):
                        import_sessions(source, writer)
                    else:
                        import_bundle(source, writer)
                writer.finish(config={}, policy=Policy())
        return Sessions.open(tmp_path / into)

    return run


@pytest.fixture
def history(new_repository: NewRepository, read: Read) -> Sessions:
    """Five commits, a branch merged, a rename, a file with odd characters."""
    repository = new_repository("shop")
    repository.commit("one", a_py="a\nb\nc\n", b_py="b = '\u2028 \U0001f916'\n")
    repository.git("checkout", "-q", "-b", "side")
    repository.commit("two", c_py="c\n")
    repository.git("checkout", "-q", "main")
    repository.commit("three", a_py="a\nB\nc\n")
    repository.merge("side")
    repository.git("mv", "a.py", "d.py")
    repository.commit("four", d_py="a\nB\nc\nd\n")
    repository.commit("five", b_py="")
    return read(repository.path)


def pack(path: Path, *rows: object) -> Path:
    path.write_bytes(zstandard.compress(b"".join(msgspec.json.encode(row) + b"\n" for row in rows)))
    return path


def test_a_bundle_gives_the_same_sessions_texts_and_trees(
    history: Sessions, load: Callable[..., Sessions], tmp_path: Path
) -> None:
    written = export_bundle(history, tmp_path / "bundle")
    assert (written.bytes, written.sessions, written.conversations) == ((tmp_path / "bundle").stat().st_size, 5, 0)
    loaded = load(tmp_path / "bundle")
    assert list(loaded.sessions()) == list(history.sessions())
    assert loaded.trees() == history.trees()
    assert set(loaded.text_ids()) == set(history.text_ids())
    direct = load(history, into="direct")
    assert direct.hash == loaded.hash


def test_the_newest_sessions_come_with_the_tree_that_they_start_from(
    history: Sessions, load: Callable[..., Sessions], tmp_path: Path
) -> None:
    export_bundle(history, tmp_path / "bundle", newest=2)
    loaded = load(tmp_path / "bundle")
    assert [session.intent for session in loaded.sessions()] == ["four", "five"]
    full, part = replay.start(history)["shop"], replay.start(loaded)["shop"]
    for session in history.sessions():
        replay.advance(full, session)
    for session in loaded.sessions():
        replay.advance(part, session)
    assert part.files() == full.files()


@pytest.fixture
def talked(history: Sessions, load: Callable[..., Sessions], tmp_path: Path, scanner: Any) -> Sessions:
    """That history, and three conversations with two tools, one of them about a file whose text is known."""
    with artifacts.create(tmp_path / "talked", kind=KIND, version=VERSION) as artifact, SessionsWriter(artifact, scanner) as writer:
        import_sessions(history, writer)
        for tool, names in (("claude_code", ("c-1", "c-2")), ("cursor", ("u-1",))):
            writer.start_stream(tool, "", talks=True)
            for number, name in enumerate(names):
                talk = Conversation(writer, source=tool, file="f", session_id=name, agent="claude", repository="shop")
                talk.said("make it shorter", 10.0 + number, 0)
                known = Change(path="odd\t.py", old="b", new="B", before="a\nb\n")
                bare = Change(path="a.py", old="x\ny", new="x\nz")
                talk.replied("done", 11.0 + number, 5, uses=[Use(name="Edit", arguments="{}", kind="edit", changes=(one,)) for one in (known, bare)])
                writer.add_session(talk.session())  # pyrefly: ignore[bad-argument-type]
        writer.finish(config={}, policy=Policy())
    return Sessions.open(tmp_path / "talked")


def test_conversations_come_along_as_conversations(talked: Sessions, load: Callable[..., Sessions], tmp_path: Path) -> None:
    written = export_bundle(talked, tmp_path / "bundle")
    assert (written.sessions, written.conversations) == (5, 3)
    loaded = load(tmp_path / "bundle")
    assert list(loaded.talks()) == list(talked.talks())
    assert list(loaded.sessions()) == list(talked.sessions())
    assert loaded.repositories() == talked.repositories() == ["shop"]
    assert set(loaded.text_ids()) == set(talked.text_ids())
    edits = next(loaded.talks()).edits
    assert [(edit.hunks[0].start_line, edit.hunks[0].new) for edit in edits] == [(1, ("B",)), (-1, ("z",))]
    assert list(load(talked, into="direct").talks()) == list(talked.talks())


def test_the_newest_conversations_of_each_tool_come_along_or_none(
    talked: Sessions, load: Callable[..., Sessions], tmp_path: Path
) -> None:
    export_bundle(talked, tmp_path / "newest", newest=1)
    assert [talk.id for talk in load(tmp_path / "newest").talks()] == ["u-1", "c-2"]
    assert export_bundle(talked, tmp_path / "none", conversations=False).conversations == 0
    first = zstandard.ZstdDecompressor().stream_reader((tmp_path / "none").read_bytes()).read(200).split(b"\n")[0]
    assert msgspec.json.decode(first)["version"] == 1
    assert list(load(tmp_path / "none", into="histories").talks()) == []


def test_a_conversation_in_a_bundle_is_redacted_again(load: Callable[..., Sessions], tmp_path: Path) -> None:
    common = {
        "session_id": "s-hunter2", "time": 1.0, "author": {"kind": "developer"}, "provenance": {"source": "hunter2", "file": "c"}, "revision": "hunter2",
    }  # fmt: skip
    hunk = {"path": "hunter2", "start_line": -1, "old": ["hunter2"], "new": ["y"], "above": [], "below": []}
    edit = {"type": "edit", "id": "s-hunter2/0", "path": "hunter2", "before_id": None, "after_id": None, "hunks": [hunk], **common}
    lying = {"type": "edit", "id": "s/1", "path": "b", "before_id": None, "after_id": "0", "hunks": [hunk], **common}
    session = {"row": "session", "source": "x", "repository": "", "events": [edit, lying], "talk": True}
    bundle = pack(tmp_path / "bundle", {**HEADER, "version": 2}, {"row": "text", "path": "b", "text": "z\n"}, session)
    (talk,) = load(bundle).talks()
    assert "hunter2" not in repr(talk)
    assert [edit.hunks[0].new for edit in talk.edits] == [("y",), ("z",)]


def test_a_bundle_that_would_be_too_large_is_not_written(history: Sessions, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="bytes") as caught:
        export_bundle(history, tmp_path / "bundle", max_bytes=100)
    assert caught.value.hint
    assert not (tmp_path / "bundle").exists()


def test_a_line_that_nobody_could_import_is_not_written() -> None:
    with pytest.raises(InputError, match="longer than a bundle can hold") as caught:
        list(bundle._compressed(iter(["x" * (65 << 20)])))
    assert "--no-conversations" in (caught.value.hint or "")


def test_two_bundles_with_one_name_are_kept_apart(
    history: Sessions, load: Callable[..., Sessions], tmp_path: Path
) -> None:
    export_bundle(history, tmp_path / "bundle")
    loaded = load(tmp_path / "bundle", tmp_path / "bundle")
    assert loaded.repositories() == ["shop", "shop-2"]
    assert len(list(loaded.sessions("shop-2"))) == len(list(history.sessions()))


def test_a_secret_in_a_bundle_is_redacted_again_and_hunks_follow_the_texts(
    load: Callable[..., Sessions], tmp_path: Path
) -> None:
    event = {
        "type": "edit", "id": "s/1", "session_id": "s", "time": 1.0, "author": {"kind": "developer"},
        "provenance": {"source": "git", "file": "c"}, "path": "hunter2.py", "before_id": None, "after_id": "0",
        "hunks": [{"path": "x", "start_line": 9, "old": ["lie"], "new": ["hunter2"], "above": [], "below": []}],
    }  # fmt: skip
    session = {"row": "session", "source": "git", "repository": "hunter2", "events": [event]}
    bundle = pack(tmp_path / "bundle", HEADER, {"row": "text", "path": "a", "text": "p = 'hunter2'\n"}, session)
    loaded = load(bundle)
    (only,) = loaded.sessions()
    assert only.repository == "<secret>"
    assert [(hunk.start_line, hunk.old, hunk.new) for hunk in only.edits[0].hunks] == [(0, (), ("p = '<secret>'",))]
    assert "hunter2" not in repr(only)


@pytest.mark.parametrize("number", ["7", "-1", "x", "\u0663", "9" * 30])
def test_a_session_that_names_a_missing_text_is_kept_aside(
    load: Callable[..., Sessions], tmp_path: Path, number: str
) -> None:
    event = {
        "type": "edit", "id": "s/1", "session_id": "s", "time": 1.0, "author": {"kind": "developer"},
        "provenance": {"source": "git", "file": "c"}, "path": "a.py", "before_id": number, "after_id": None,
    }  # fmt: skip
    session = {"row": "session", "source": "git", "repository": "r", "events": [event]}
    bundle = pack(tmp_path / "bundle", HEADER, {"row": "text", "path": "a", "text": "x"}, session)
    loaded = load(bundle)
    assert list(loaded.sessions()) == []
    assert loaded.streams()[0].kept_aside == {"text_missing": 1}


def test_a_tree_that_names_odd_files_loses_them(load: Callable[..., Sessions], tmp_path: Path) -> None:
    files = {"good.py": 0, "missing.py": 5, "before.py": -1, "odd\n.py": 0}
    tree = {"row": "tree", "source": "git", "repository": "r", "files": files}
    loaded = load(pack(tmp_path / "bundle", HEADER, {"row": "text", "path": "a", "text": "x"}, tree))
    assert list(loaded.tree("r")) == ["good.py"]
    assert loaded.streams()[0].dropped == {"tree: odd_entry": 3}


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "no bundle"),
        ([{"format": "other", "version": 1}], "no bundle"),
        ([{**HEADER, "version": 99}], "newer Apprentice"),
        ([HEADER, {"row": "what"}], "line 2"),
        ([HEADER, {"row": "text", "path": 1, "text": "x"}], "line 2"),
        ([HEADER, {"row": "tree", "source": "../x", "repository": "r", "files": {}}], "line 2"),
        ([HEADER, {"row": "session", "source": "git", "repository": "r", "events": [{"type": "evil"}]}], "line 2"),
    ],
)
def test_what_is_no_bundle_is_an_error_that_names_file_and_line(
    load: Callable[..., Sessions], tmp_path: Path, rows: list[object], words: str
) -> None:
    bundle = pack(tmp_path / "bundle", *rows)
    with pytest.raises(InputError, match=words) as caught:
        load(bundle)
    assert str(bundle) in caught.value.message


def test_other_files_and_torn_bundles_are_errors(
    history: Sessions, load: Callable[..., Sessions], tmp_path: Path
) -> None:
    (tmp_path / "text").write_text("hello\n")
    (tmp_path / "folder").mkdir()
    export_bundle(history, tmp_path / "whole")
    (tmp_path / "torn").write_bytes((tmp_path / "whole").read_bytes()[:-20])
    for name in ("text", "folder", "torn", "nothing"):
        with pytest.raises(InputError, match=name):
            load(tmp_path / name)


def test_a_bundle_that_unpacks_to_gigabytes_is_refused(load: Callable[..., Sessions], tmp_path: Path) -> None:
    compressor = zstandard.ZstdCompressor(level=1).compressobj()
    with (tmp_path / "bomb").open("wb") as stream:
        stream.write(compressor.compress(msgspec.json.encode(HEADER) + b"\n"))
        for _ in range(70):
            stream.write(compressor.compress(b" " * (1 << 20)))
        stream.write(compressor.flush())
    with pytest.raises(HostileInputError, match="bomb"):
        load(tmp_path / "bomb")

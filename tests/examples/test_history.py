from __future__ import annotations

import hashlib
from collections.abc import Iterator

from apprentice.examples.history import History
from apprentice.examples.work import after, moments
from apprentice.sessions.events import AnyEvent, Author, Commit, EditEvent, Move, Note, Provenance, Session
from apprentice.text.edits import hunks, split_lines


class _Store:
    """A sessions artifact in memory."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.tree: dict[str, dict[str, str]] = {}
        self.all: list[Session] = []

    def put(self, text: str) -> str:
        text_id = hashlib.sha256(text.encode()).hexdigest()[:32]
        self.texts[text_id] = text
        return text_id

    def text(self, text_id: str) -> str:
        return self.texts[text_id]

    def __contains__(self, text_id: object) -> bool:
        return text_id in self.texts

    def trees(self) -> dict[str, dict[str, str]]:
        return self.tree

    def sessions(self) -> Iterator[Session]:
        yield from self.all

    def commit(self, name: str, files: dict[str, tuple[str | None, str | None]], *, renamed: dict[str, str] | None = None,
               moves: tuple[Move, ...] = (), kind: str = "developer") -> None:
        author = Author(kind=kind, person="person-1")  # type: ignore[arg-type]
        common = {"session_id": name, "time": float(len(self.all)), "author": author, "repository": "r", "revision": name}
        where = Provenance("git", name)
        events: list[AnyEvent] = [Note(id=f"{name}-n", kind="commit_message", text="secret intent", provenance=where, **common)]
        for path, (before, now) in files.items():
            events.append(
                EditEvent(id=f"{name}-{path}", path=path, before_id=None if before is None else self.put(before),
                          after_id=None if now is None else self.put(now), renamed_from=(renamed or {}).get(path),
                          hunks=tuple(hunks(path, before or "", now or "")), provenance=where, **common)
            )  # fmt: skip
        events.append(Commit(id=f"{name}-c", moves=moves, provenance=where, **common))
        self.all.append(Session(id=name, source="git", repository="r", time=common["time"], events=tuple(events)))


def _store() -> _Store:
    store = _Store()
    store.tree = {"r": {"a.py": store.put("a = 1\n"), "b.py": store.put("b = 1\n"), "x.lock": store.put("lock\n")}}
    store.commit("c1", {"a.py": ("a = 1\n", "a = 2\n"), "new.py": (None, "n = 1\n")})
    store.commit("c2", {"moved.py": ("b = 5\n", "b = 6\n"), "x.lock": ("lock\n", "lock 2\n")},
                 renamed={"moved.py": "b.py"}, moves=(Move("b.py", store.put("b = 5\n")), Move("gone.py", None)))  # fmt: skip
    store.commit("c3", {"a.py": ("a = 2\n", None)}, kind="assistant")
    return store


def test_works_hold_each_files_lines_before_and_the_edits() -> None:
    works = list(History(_store()))
    assert [(w.commit, w.author, w.may_learn, [f.path for f in w.files]) for w in works] == [
        ("c1", "developer", True, ["a.py", "new.py"]),
        ("c2", "developer", True, ["moved.py", "x.lock"]),
        ("c3", "assistant", False, ["a.py"]),
    ]
    assert [list(f.before) for f in works[0].files] == [["a = 1"], []]
    assert (works[1].files[0].renamed_from, list(works[1].files[0].before)) == ("b.py", ["b = 5"])
    assert works[2].files[0].removed
    assert [after(f) for w in works for f in w.files] == [["a = 2"], ["n = 1"], ["b = 6"], ["lock 2"], []]


def test_other_peoples_changes_come_as_moves() -> None:
    store = _store()
    work = list(History(store))[1]
    assert [(path, store.text(text_id) if text_id else None) for path, text_id in work.moves] == [
        ("b.py", "b = 5\n"), ("gone.py", None)]  # fmt: skip


def test_a_history_can_be_gone_through_again() -> None:
    history = History(_store())
    assert [m.key for m in moments(history)] == [m.key for m in moments(history)]


def test_a_snapshot_is_the_tree_of_the_parent_and_the_edits_before() -> None:
    snapshot = History(_store()).snapshot("r", before="c2")
    assert dict(snapshot.texts()) == {"a.py": "a = 2\n", "new.py": "n = 1\n", "b.py": "b = 5\n"}
    assert [(edit.path, edit.new, where["commit"]) for edit, where in snapshot.edits] == [
        ("a.py", ("a = 2",), "c1"), ("new.py", ("n = 1",), "c1")]  # fmt: skip


def test_a_snapshot_at_the_end_holds_everything_but_what_teaches_nothing() -> None:
    snapshot = History(_store()).snapshot("r")
    assert dict(snapshot.texts()) == {"new.py": "n = 1\n", "moved.py": "b = 6\n"}
    assert "x.lock" in snapshot.files
    assert {edit.path for edit, _ in snapshot.edits} == {"a.py", "new.py", "moved.py"}


def test_split_lines_of_a_text_are_what_a_work_shows() -> None:
    store = _store()
    assert split_lines(store.text(store.tree["r"]["a.py"])) == list(list(History(store))[0].files[0].before)

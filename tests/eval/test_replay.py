from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from apprentice.core.fakes import ByteTokenizer
from apprentice.eval.replay import Memories, Replay, View
from apprentice.examples.work import FileWork, Work
from apprentice.memory.memory import Memory
from apprentice.text.edits import Edit, hunks, split_lines


def _views(replay: Replay, memory: Any, commits: set[str]) -> list[tuple[str, int, int, int]]:
    """(path, hunk, edits known before, things told to the memory) at each view."""
    return [
        (view.moment.edit.path, view.moment.hunk, len(view.earlier), len(_told(view)))
        for view in list(replay.views(lambda repository: Memories({"m": memory}, [memory]), commits))
    ]


def _told(view: View) -> list[tuple[str, Any]]:
    copy: Any = view.memories["m"]
    return copy.told


def test_at_an_edit_the_memory_knows_all_earlier_edits_and_the_parents_tree(works: list[Work], memory: Any) -> None:
    seen = []
    for view in list(Replay(works, {"r": "c16"}).views(lambda repository: Memories({"m": memory}, [memory]), {"c17"})):
        edits = [what for kind, what in _told(view) if kind == "edit"]
        files = dict(what for kind, what in _told(view) if kind == "set")
        seen.append((view.moment.hunk, [edit for edit, _ in edits], files))
    assert [hunk for hunk, _, _ in seen] == [0, 1]
    before, own = works[16].files[0], works[17].files[0]
    assert seen[0][1] == list(before.edits)
    assert seen[1][1] == [*before.edits, own.edits[0]]
    for _, _, files in seen:
        assert split_lines(files["m.py"]) == list(own.before)


def test_views_have_all_earlier_edits_of_the_history(works: list[Work], memory: Any) -> None:
    assert _views(Replay(works, {"r": "c16"}), memory, {"c18", "c19"}) == [
        ("m.py", 0, 36, 6), ("m.py", 1, 37, 7), ("m.py", 0, 38, 9), ("m.py", 1, 39, 10)]  # fmt: skip


def test_a_second_pass_is_the_same_as_the_first(works: list[Work], memory: Any) -> None:
    replay = Replay(works, {"r": "c16"})
    first = [(v.moment.key, v.moment.order, v.moment.recent, list(v.earlier)) for v in replay.views(_nothing, {"c17", "c19"})]
    second = [(v.moment.key, v.moment.order, v.moment.recent, list(v.earlier)) for v in replay.views(_nothing, {"c17", "c19"})]
    assert first == second
    assert [key for key, *_ in first][2:] == [v.moment.key for v in replay.views(_nothing, {"c19"})]


def _nothing(repository: str) -> Memories:
    return Memories({}, [])


def test_a_pass_ends_with_its_last_commit(works: list[Work], memory: Any) -> None:
    list(Replay(works, {"r": "c16"}).views(lambda repository: Memories({}, [memory]), {"c16"}))
    assert {what[1]["commit"] for kind, what in memory.told if kind == "edit"} == {"c16"}


def test_other_peoples_work_renames_and_removals_reach_the_memory(memory: Any) -> None:
    class Texts:
        def text(self, text_id: str) -> str:
            return {"t1": "b = 1\n", "t2": "lock\n"}[text_id]

        def __contains__(self, text_id: object) -> bool:
            return True

    def work(commit: str, files: list[FileWork], moves: list[tuple[str, str | None]]) -> Work:
        return Work(commit=commit, time=0, author="developer", files=files, repository="r", moves=moves)

    renamed = FileWork("new.py", ["a = 1"], hunks("new.py", "a = 1\n", "a = 2\n"), renamed_from="old.py")
    removed = FileWork("gone.py", ["x"], hunks("gone.py", "x\n", ""), removed=True)
    works = [work("c1", [renamed], [("b.py", "t1"), ("c.py", None), ("x.lock", "t2")]), work("c2", [removed], []),
             work("c3", [FileWork("z.py", [], hunks("z.py", "", "z\n"))], [])]  # fmt: skip
    list(Replay(works, {"r": "c1"}, texts=Texts()).views(lambda repository: Memories({}, [memory]), {"c1", "c2", "c3"}))
    assert [(kind, what if kind == "remove" else what[0]) for kind, what in memory.told if kind != "edit"] == [
        ("remove", "c.py"), ("remove", "x.lock"), ("set", "b.py"), ("remove", "old.py"), ("set", "new.py"),
        ("remove", "gone.py"), ("set", "z.py")]  # fmt: skip


def test_repositories_do_not_see_each_others_memories(works: list[Work], memory: Any) -> None:
    other = [Work(commit=f"o{i}", time=i, author="developer", repository="other",
                  files=[FileWork("o.py", [f"{i}"], [Edit("o.py", 0, (f"{i}",), (f"{i + 1}",))])]) for i in range(3)]  # fmt: skip
    opened: list[str] = []

    def open_memories(repository: str) -> Memories:
        opened.append(repository)
        return Memories({repository: memory}, [])

    views = list(Replay([*works, *other], {"r": "c19", "other": "o2"}).views(open_memories, {"c19", "o2"}))
    assert opened == ["r", "other"]
    assert [(list(view.memories), len(view.moment.recent)) for view in views] == [
        (["r"], 38), (["r"], 39), (["other"], 2)]  # fmt: skip


def test_what_a_view_holds_does_not_grow(works: list[Work], memory: Any) -> None:
    views = list(Replay(works, {"r": "c16"}).views(lambda repository: Memories({"m": memory}, [memory]), {"c16", "c19"}))
    first = views[0]
    assert (len(first.earlier), first.earlier[-1], len(_told(first))) == (32, works[15].files[0].edits[-1], 0)
    assert first.earlier[30:] == list(works[15].files[0].edits)
    assert list(first.earlier) == [edit for work in works[:16] for edit in work.files[0].edits]
    with pytest.raises(IndexError):
        first.earlier[32]


def test_the_real_memory_keeps_to_the_moment_of_the_view(works: list[Work]) -> None:
    tokenizer = ByteTokenizer()
    memory = Memory(tokenizer)
    views = list(Replay(works, {"r": "c16"}).views(lambda repository: Memories({"m": memory}, [memory]), {"c17", "c19"}))
    known = [len(view.memories["m"].edits.documents) for view in views]  # type: ignore[attr-defined]
    assert known == [2, 3, 6, 7]
    place = views[0].moment
    ask = {"path": "m.py", "lines": place.lines, "start_line": 0, "end_line": 0, "prompt_ids": [1]}
    even = np.full(tokenizer.vocab_size, -np.log(tokenizer.vocab_size), np.float32)
    alone = Memory(tokenizer)
    for edit in works[16].files[0].edits:
        alone.add_edit(edit, {})
    alone.set_file("m.py", "".join(line + "\n" for line in place.file.before))
    mixed = views[0].memories["m"].mixture(**ask).mix(even.copy())  # type: ignore[arg-type]
    np.testing.assert_array_equal(mixed, alone.mixture(**ask).mix(even.copy()))  # type: ignore[arg-type]

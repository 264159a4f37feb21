from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from apprentice.examples.work import FileWork, Player, Work, after, moments
from apprentice.text.edits import Edit, hunks, split_lines

Make = Callable[..., Work]


def test_a_moment_sees_earlier_edits_of_its_file_and_nothing_later(make_work: Make) -> None:
    before, now = "a\nx\nx\nx\nb\nx\nx\nx\nc\n", "A\nx\nx\nx\nB\nx\nx\nx\nC\n"
    found = list(moments([make_work("c1", {"f.py": (before, now)})]))
    assert [m.edit.new for m in found] == [("A",), ("B",), ("C",)]
    assert [list(m.lines) for m in found] == [
        split_lines(before),
        ["A", "x", "x", "x", "b", "x", "x", "x", "c"],
        ["A", "x", "x", "x", "B", "x", "x", "x", "c"],
    ]
    assert [m.recent for m in found] == [(), (found[0].edit,), (found[0].edit, found[1].edit)]
    assert [m.hunk for m in found] == [0, 1, 2]


def test_recent_edits_come_from_earlier_commits_of_the_same_repository_only(make_work: Make) -> None:
    works = [
        make_work("c1", {"f.py": ("a\n", "b\n")}, repository="one"),
        make_work("c2", {"g.py": ("x\n", "y\n")}, repository="two"),
        make_work("c3", {"f.py": ("b\n", "c\n")}, repository="one"),
    ]
    found = list(moments(works))
    assert [[e.new for e in m.recent] for m in found] == [[], [], [("b",)]]


def test_keys_are_stable_and_distinct(make_work: Make) -> None:
    works = [
        make_work("c1", {"f.py": ("a\nx\nx\nx\nb\n", "A\nx\nx\nx\nB\n"), "g.py": ("a\n", "A\n")}),
        make_work("c2", {"f.py": ("A\nx\nx\nx\nB\n", "a\nx\nx\nx\nb\n")}),
        make_work("c2", {"f.py": ("A\nx\nx\nx\nB\n", "a\nx\nx\nx\nb\n")}, repository="other"),
    ]
    keys = [m.key for m in moments(works)]
    assert len(set(keys)) == len(keys) == 7
    assert keys == [m.key for m in moments(works)]


def test_left_out_files_are_counted_by_edit_and_are_in_nobodys_recent(make_work: Make) -> None:
    dropped: Counter[str] = Counter()
    player = Player(leave_out=lambda path, lines: "locks" if path == "a.lock" else None, dropped=dropped)
    work = make_work("c1", {"a.lock": ("a\nx\nx\nx\nb\n", "A\nx\nx\nx\nB\n"), "f.py": ("a\n", "b\n")})
    found = list(moments([work], player))
    assert [(m.edit.path, m.recent, m.order) for m in found] == [("f.py", (), 2)]
    assert dropped == {"locks": 2}


def test_edits_that_do_not_fit_are_counted_and_end_the_file() -> None:
    wrong = Edit("f.py", 0, ("not there",), ("x",))
    work = Work(commit="c", time=0, author="developer", files=[FileWork("f.py", ["a"], [wrong, wrong])])
    player = Player()
    assert list(player.play(work)) == []
    assert player.dropped == {"edits that do not fit their file": 2}


def test_an_edit_with_a_mark_in_it_is_no_recent_edit(make_work: Make) -> None:
    works = [
        make_work("c1", {"f.rst": ("title\n", "title\n=======\n")}),
        make_work("c2", {"g.py": ("a\n", "b\n")}),
    ]
    assert [m.recent for m in moments(works)] == [(), ()]


def test_a_copied_player_goes_on_from_the_same_place(make_work: Make) -> None:
    player = Player()
    list(player.play(make_work("c1", {"f.py": ("a\n", "b\n")})))
    next_work = make_work("c2", {"f.py": ("b\n", "c\n")})
    first, second = (list(player.copy().play(next_work)) for _ in range(2))
    assert first == second
    assert (first[0].order, len(first[0].recent)) == (1, 1)


def test_after_gives_the_lines_that_the_commit_left() -> None:
    before, now = "a\nb\nc\nd\ne\nf\n", "b\nc\nd\nE\nf\ng\n"
    assert after(FileWork("f", split_lines(before), hunks("f", before, now))) == split_lines(now)

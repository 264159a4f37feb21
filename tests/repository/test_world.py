import pytest

from apprentice.repository.world import World
from apprentice.text.edits import hunks


class Texts:
    def __init__(self, **texts: str) -> None:
        self._texts = texts

    def text(self, text_id: str) -> str:
        return self._texts[text_id]

    def __contains__(self, text_id: object) -> bool:
        return text_id in self._texts


TEXTS = Texts(old="a\nb\nc\n", new="a\nB\nc\nd\n", other="x\n")


def test_a_file_runs_ahead_of_its_text_while_its_edits_are_applied() -> None:
    world = World({"f.py": "old"}, TEXTS)
    edits = hunks("f.py", TEXTS.text("old"), TEXTS.text("new"), merge_gap=0)
    assert len(edits) == 2
    world.apply(edits[0])
    assert world.lines("f.py") == ["a", "B", "c"]
    assert world.text("f.py") == "a\nB\nc\n"
    assert world.text_id("f.py") is None
    world.apply(edits[1])
    world.set_file("f.py", "new")
    assert world.text_id("f.py") == "new"
    assert world.lines("f.py") == ["a", "B", "c", "d"]


def test_an_edit_at_the_wrong_place_is_refused_and_changes_nothing() -> None:
    world = World({"f.py": "other"}, TEXTS)
    edit = hunks("f.py", TEXTS.text("old"), TEXTS.text("new"))[0]
    with pytest.raises(ValueError, match=r"f\.py"):
        world.apply(edit)
    assert world.lines("f.py") == ["x"]


def test_a_rename_moves_the_lines_and_leaves_nothing_behind() -> None:
    world = World({"old.py": "old"}, TEXTS)
    world.begin_rename("old.py", "new.py")
    for edit in hunks("new.py", TEXTS.text("old"), TEXTS.text("new")):
        world.apply(edit)
    assert list(world) == ["new.py"]
    world.set_file("new.py", "new", renamed_from="old.py")
    assert world.files() == {"new.py": "new"}


def test_a_missing_file_has_no_lines_and_can_be_made_by_an_edit() -> None:
    world = World({}, TEXTS)
    assert world.lines("f.py") == []
    assert "f.py" not in world
    world.apply(hunks("f.py", "", "a\n")[0])
    assert "f.py" in world
    assert world.files() == {}
    world.set_file("f.py", None)
    assert "f.py" not in world


def test_the_tree_that_was_given_is_not_changed() -> None:
    tree = {"f.py": "old"}
    World(tree, TEXTS).set_file("f.py", None)
    assert tree == {"f.py": "old"}

"""What a memory knows at a place, and what it must not know there."""

from typing import Any

import numpy as np

from apprentice.core.fakes import ByteTokenizer
from apprentice.memory.gate import SOURCES, Gate
from apprentice.memory.memory import Memory
from apprentice.text.edits import END_MARK, NEW_MARK, Edit

TOKENIZER = ByteTokenizer()
FILE = ["import os", "", "def area(width, height):", "    return width * height", "", "print(area(2, 3))"]
REPLACE = TOKENIZER.encode("x\n" + NEW_MARK)
COMPLETE = TOKENIZER.encode("x\n")


def text(lines: list[str]) -> str:
    return "".join(line + "\n" for line in lines)


def says(mixture: Any, source: str, typed: str = "") -> str:
    """What the source would draft after `typed`, best token by best token."""
    for token in TOKENIZER.encode(typed):
        mixture.advance(token)
    said: list[int] = []
    for _ in range(60):
        known = mixture.opinions()[SOURCES.index(source)]
        if known is None or known.length < 2:
            break
        said.append(known.best)
        mixture.advance(known.best)
    return TOKENIZER.decode(said)


def at_line_4(memory: Memory, prompt_ids: list[int] = REPLACE, **options: str) -> Any:
    return memory.mixture(path="shapes.py", lines=FILE, start_line=3, end_line=4, prompt_ids=prompt_ids, **options)


def test_the_file_does_not_give_away_the_line_that_is_to_change():
    memory = Memory(TOKENIZER)
    memory.set_file("shapes.py", text(FILE))
    mixture = at_line_4(memory)
    assert "width * height" not in says(mixture, "file", "\n    return ")
    assert "width * height" not in says(at_line_4(memory), "repository", "\n    return ")


def test_another_file_may_say_the_same_line():
    memory = Memory(TOKENIZER)
    memory.set_files({"shapes.py": text(FILE), "other.py": text(["def f(width, height):", "    return width * 7"])})
    assert says(at_line_4(memory), "repository", "\n    return ").startswith("width * 7")


def test_lines_around_the_region_are_known_as_they_stand_now():
    assert says(at_line_4(Memory(TOKENIZER)), "file", "\n    return print(").startswith("area(2, 3))")


def test_the_region_has_a_say_only_where_the_prompt_shows_it():
    memory = Memory(TOKENIZER)
    replaced = at_line_4(memory)
    assert says(replaced, "region", "\n    ").startswith("return width * height\n" + END_MARK)
    assert at_line_4(memory, COMPLETE, line_start="    return ").opinions()[SOURCES.index("region")] is None


def test_a_completion_goes_on_behind_the_start_of_its_line():
    memory = Memory(TOKENIZER)
    memory.set_file("other.py", text(["def f(width, height):", "    return width + height"]))
    assert says(at_line_4(memory, COMPLETE, line_start="    return wi"), "repository").startswith("dth + height")


def test_an_edit_is_known_at_once_with_its_end_but_not_as_its_old_lines():
    memory = Memory(TOKENIZER)
    edit = Edit("b.py", 8, ("    return old_name",), ("    return new_name",), ("def area(width, height):",), ("",))
    memory.add_edit(edit, {"commit": "c1"})
    assert says(at_line_4(memory), "edits") == "\n    return new_name\n" + END_MARK
    assert "old_name" not in says(at_line_4(memory), "edits", "\n    return ")


def test_a_mixture_does_not_see_what_was_learned_after_it_was_made():
    memory = Memory(TOKENIZER)
    mixture = at_line_4(memory)
    memory.add_edit(Edit("b.py", 0, (), ("    return width + height",), ("def area(width, height):",)), {})
    memory.set_file("b.py", text(FILE))
    assert mixture.opinions()[SOURCES.index("edits")] is None
    assert mixture.opinions()[SOURCES.index("repository")] is None
    assert at_line_4(memory).opinions()[SOURCES.index("edits")] is not None


def test_a_file_is_replaced_and_removed():
    memory = Memory(TOKENIZER)
    memory.set_file("a.py", text(["    return one"]))
    memory.set_file("a.py", text(["    return two"]))
    assert memory.paths == ["a.py"]
    assert says(at_line_4(memory), "repository", "\n    return ") == "two\n"
    memory.remove_file("a.py")
    memory.remove_file("a.py")
    assert memory.num_tokens == 0
    assert says(at_line_4(memory), "repository", "\n    return ") == ""


def test_memories_of_two_gates_grow_together():
    memory = Memory(TOKENIZER)
    other = memory.with_gate(Gate(np.zeros_like(memory.gate.weights_SF)))
    other.set_file("a.py", text(["    return one"]))
    memory.add_edit(Edit("a.py", 0, (), ("x = 1",)), {})
    assert memory.paths == ["a.py"]
    assert other.num_tokens == memory.num_tokens > 0
    assert other.gate is not memory.gate


def test_a_copy_does_not_learn_what_the_original_learns():
    memory = Memory(TOKENIZER)
    memory.set_file("a.py", text(["    return one"]))
    twin = memory.copy()
    memory.set_file("a.py", text(["    return two"]))
    memory.add_edit(Edit("a.py", 0, (), ("x = 1",)), {})
    twin.remove_file("other.py")
    assert says(at_line_4(twin), "repository", "\n    return ") == "one\n"
    assert twin.edits.num_tokens == 0


def test_lines_that_a_mixture_is_asked_about_may_change_between_two_calls():
    memory = Memory(TOKENIZER)
    at_line_4(memory)
    changed = [*FILE[:5], "print(area(4, 5))"]
    mixture = memory.mixture(path="shapes.py", lines=changed, start_line=3, end_line=4, prompt_ids=REPLACE)
    assert says(mixture, "file", "\n    return print(").startswith("area(4, 5))")


def test_an_empty_file_can_be_asked_about():
    mixture = Memory(TOKENIZER).mixture(path="new.py", lines=[], start_line=0, end_line=0, prompt_ids=REPLACE)
    assert mixture.draft(5) == []


def test_a_suggestion_is_traced_to_the_places_and_commits_that_it_resembles():
    memory = Memory(TOKENIZER)
    memory.set_file("other.py", text(["import re", "", "def volume(width, height, depth):", "    return depth * 2"]))
    edit = Edit("b.py", 12, (), ("    if width < 0:", "        raise ValueError(width)"), ("# one", "# two"))
    memory.add_edit(edit, {"commit": "c1"})
    found = memory.explain(
        path="shapes.py", lines=FILE, start_line=3, end_line=4,
        new_text="    if width < 0:\n        raise ValueError(width)\n    return depth * 2",
    )  # fmt: skip
    assert (found[0].path, found[0].line, found[0].commit) == ("b.py", 13, "c1")
    assert found[0].text == "    if width < 0:\n        raise ValueError(width)"
    assert ("other.py", 4, None) in [(r.path, r.line, r.commit) for r in found]
    assert all(a.length >= b.length for a, b in zip(found, found[1:], strict=False))


def test_lines_of_the_same_file_are_named_by_their_numbers():
    found = Memory(TOKENIZER).explain(
        path="shapes.py", lines=FILE, start_line=3, end_line=4, new_text="    print(area(2, 3))"
    )
    assert [(r.path, r.line, r.text) for r in found] == [("shapes.py", 6, "print(area(2, 3))")]


def test_a_suggestion_like_nothing_resembles_nothing():
    assert Memory(TOKENIZER).explain(path="a.py", lines=FILE, start_line=3, end_line=4, new_text="zzz = qqq") == []

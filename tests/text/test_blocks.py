from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apprentice.text.blocks import Block, BlockError, apply, fenced, is_writable, parse, place_of, render

LINES = st.lists(st.text(st.characters(blacklist_characters="\n\r", blacklist_categories=["Cs"]), max_size=12), max_size=5).map(tuple)


def test_a_block_is_written_as_clients_read_it() -> None:
    assert render([Block("src/a.py", ("x = 1",), ("x = 2",))]) == (
        "src/a.py\n```python\n<<<<<<< SEARCH\nx = 1\n=======\nx = 2\n>>>>>>> REPLACE\n```"
    )


@given(st.lists(st.builds(Block, st.sampled_from(["a.py", "docs/b c.md", "Makefile", "# a.md", "a.py:", "b\\_c.py", " a.py", "```"]), LINES, LINES), min_size=1, max_size=4))
def test_what_is_written_is_read_again(blocks: list[Block]) -> None:
    if all(map(is_writable, blocks)):
        assert list(parse(f"Here it is:\n\n{render(blocks)}\n\nDone.")) == blocks
    else:
        with pytest.raises(ValueError, match="mark of the form"):
            render(blocks)


def test_a_fence_is_longer_than_any_in_the_text() -> None:
    assert fenced("```\ninner\n```", "a.md") == "````markdown\n```\ninner\n```\n````"
    (block,) = parse(render([Block("a.md", ("````",), ("`````",))]))
    assert block == Block("a.md", ("````",), ("`````",))


def test_blocks_make_change_and_empty_files() -> None:
    files = {"a.py": ["one", "two", "one"], "empty.py": []}
    blocks = [Block("a.py", ("one",), ("1",)), Block("a.py", ("two", "one"), ("2",)), Block("new.py", (), ("x",)), Block("empty.py", (), ("y",))]
    assert apply(files, blocks) == {"a.py": ["1", "2"], "empty.py": ["y"], "new.py": ["x"]}
    assert files["a.py"] == ["one", "two", "one"]


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        (Block("a.py", ("three",), ()), "do not stand"),
        (Block("b.py", ("one",), ()), "no such file"),
        (Block("a.py", (), ("x",)), "without old lines"),
    ],
)
def test_a_block_that_does_not_fit_is_refused(block: Block, reason: str) -> None:
    with pytest.raises(BlockError, match=reason):
        apply({"a.py": ["one"]}, [block])


def test_places_are_found_from_a_line_on() -> None:
    assert (place_of(["a", "b", "a"], ["a"]), place_of(["a", "b", "a"], ["a"], 1), place_of(["a"], ["a", "b"]), place_of(["a"], [])) == (0, 2, None, None)


def test_a_block_without_an_end_or_a_path_is_left_out() -> None:
    assert not list(parse("a.py\n<<<<<<< SEARCH\nx\n=======\ny"))
    assert not list(parse("<<<<<<< SEARCH\nx\n=======\ny\n>>>>>>> REPLACE"))

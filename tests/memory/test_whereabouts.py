"""A file is recognized by its lines, and only where they are its own."""

from __future__ import annotations

import random

import pytest

from apprentice.core.fakes import ByteTokenizer
from apprentice.memory.memory import Memory
from apprentice.memory.whereabouts import path_of


def lines(name: str, count: int = 60) -> list[str]:
    choose = random.Random(name)
    return [" " * choose.choice((0, 4, 8)) + f"{choose.choice('xyz')}{number} = {name}_{choose.randrange(10**9)}" for number in range(count)]


@pytest.fixture
def memory() -> Memory:
    memory = Memory(ByteTokenizer())
    memory.set_files({f"src/{name}.py": "".join(line + "\n" for line in lines(name)) for name in ("one", "two", "three")})
    return memory


@pytest.mark.parametrize("name", ["one", "two", "three"])
def test_a_file_that_is_being_changed(memory: Memory, name: str) -> None:
    text = lines(name)
    assert path_of(memory, text) == f"src/{name}.py"
    text[20:24] = ["", "something = new", "", "here"]
    assert path_of(memory, text) == f"src/{name}.py"
    # A client shows what stands around the cursor.
    assert path_of(memory, text[10:40]) == f"src/{name}.py"


def test_another_text_and_a_short_one(memory: Memory) -> None:
    assert path_of(memory, lines("four")) == ""
    assert path_of(memory, lines("one")[:5]) == ""
    assert path_of(memory, []) == ""
    assert path_of(Memory(ByteTokenizer()), lines("one")) == ""
    # Half of it is from elsewhere: a new file.
    assert path_of(memory, [*lines("one")[:30], *lines("four")]) == ""


def test_two_files_that_are_the_same(memory: Memory) -> None:
    memory.set_file("src/copy.py", "".join(line + "\n" for line in lines("one")))
    assert path_of(memory, lines("one")) == ""
    memory.remove_file("src/copy.py")
    assert path_of(memory, lines("one")) == "src/one.py"

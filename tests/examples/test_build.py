from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from apprentice.core.fakes import ByteTokenizer
from apprentice.examples.build import Built, ExamplesConfig, build
from apprentice.examples.work import FileWork, Work, after

Make = Callable[..., Work]


def _works(make_work: Make, count: int, repository: str = "r") -> list[Work]:
    """Each commit changes a line of one file and a lock file, in its own words."""
    works: list[Work] = []
    text = "".join(f"line_{i} = alpha_{i} + beta_{i * i}\n\n\n\n" for i in range(count))
    for i in range(count):
        now = text.replace(f"alpha_{i} +", f"gamma_{i} * delta_{i * 7} -")
        files = {"m.py": (text, now), "a.lock": (f"{i}\n", f"{i + 1}\n")}
        works.append(make_work(f"{repository}{i}", files, time=float(i), repository=repository))
        text = now
    return works


def _keys(built: Built, split: str, kind: str) -> list[str]:
    return [example.commit for example in built.examples[split] if example.kind == kind]


def test_a_commit_is_in_one_split_and_the_newest_are_the_test(make_work: Make) -> None:
    built = build(_works(make_work, 40), ByteTokenizer())
    assert {split: len(commits) for split, commits in built.commits.items()} == {
        "train": 28, "valid": 2, "gate": 2, "test": 8}  # fmt: skip
    assert built.commits["test"] == [f"r{i}" for i in range(32, 40)]
    assert _keys(built, "test", "next_edit") == built.commits["test"] == _keys(built, "test", "completion")
    assert built.dropped == {"lock files": 40}
    assert built.counts()["train_next_edit"] == 28


def test_each_repository_is_cut_by_its_own_time(make_work: Make) -> None:
    works = _works(make_work, 10, "a") + _works(make_work, 20, "b")
    built = build(works, ByteTokenizer(), ExamplesConfig(near_duplicate=1.0))
    assert built.commits["test"] == ["a8", "a9", "b16", "b17", "b18", "b19"]


def test_no_prompt_shows_a_later_edit(make_work: Make) -> None:
    built = build(_works(make_work, 40), ByteTokenizer())
    for split in built.examples.values():
        for example in split:
            number = int(example.commit[1:])
            assert f"gamma_{number + 1}" not in example.prompt
            assert f"gamma_{number} " not in example.prompt
    last = built.examples["test"][-1]
    assert "gamma_38" in last.prompt


def test_what_may_not_be_learned_from_is_seen_but_is_no_example(make_work: Make) -> None:
    works = _works(make_work, 20)
    works[18] = make_work("r18", {f.path: _texts(f) for f in works[18].files}, author="assistant", may_learn=False)
    built = build(works, ByteTokenizer())
    assert "r18" not in [commit for commits in built.commits.values() for commit in commits]
    assert "gamma_18" in built.examples["test"][-1].prompt
    assert built.dropped["edits by an author not learned from (assistant)"] == 1


def test_a_twin_in_the_test_set_removes_its_older_twin(make_work: Make) -> None:
    works = _works(make_work, 20)
    works.insert(3, make_work("early", {"x.py": ("", "a = one(two, three) + four(five)\n")}))
    works.append(make_work("late", {"y.py": ("", "a = one(two, three) + four(five)\n")}))
    built = build(works, ByteTokenizer())
    assert "early" not in [example.commit for example in built.examples["train"]]
    assert "late" in [example.commit for example in built.examples["test"]]
    assert built.dropped["exact duplicates of test work"] == 1


def test_a_long_replacement_gives_a_completion_only(make_work: Make) -> None:
    works = [*_works(make_work, 10), make_work("long", {"n.py": ("", "".join(f"x{i} = {i}\n" for i in range(99)))})]
    built = build(works, ByteTokenizer())
    assert _keys(built, "test", "completion")[-1] == "long"
    assert "long" not in _keys(built, "test", "next_edit")
    assert built.dropped["places of next edits: too long"] == 1


def test_building_twice_gives_the_same(make_work: Make) -> None:
    works = _works(make_work, 20)
    assert build(works, ByteTokenizer()) == build(works, ByteTokenizer())


def test_no_works_give_no_examples() -> None:
    built = build([], ByteTokenizer())
    assert built.counts() == {f"{split}_commits": 0 for split in ("train", "valid", "gate", "test")}


@pytest.mark.parametrize("values", [{"near_duplicate": 0.0}, {"near_duplicate": 1.5}, {"max_target_tokens": 0}])
def test_values_out_of_range_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        ExamplesConfig(**values)


def _texts(file: FileWork) -> tuple[str, str]:
    before, now = ("".join(line + "\n" for line in lines) for lines in (file.before, after(file)))
    return before, now

from __future__ import annotations

from collections import Counter

import pytest

from apprentice.examples.split import Shares, split_commits


def test_a_hundred_commits_are_cut_70_5_5_20_in_order_of_time() -> None:
    split = split_commits([f"c{i}" for i in range(100)])
    assert list(split.values()) == ["train"] * 70 + ["valid"] * 5 + ["gate"] * 5 + ["test"] * 20


@pytest.mark.parametrize("count", range(0, 40))
def test_every_commit_is_in_one_split_and_newer_ones_never_come_before_older_ones(count: int) -> None:
    commits = [f"c{i}" for i in range(count)]
    split = split_commits(commits)
    assert list(split) == commits
    order = ["train", "valid", "gate", "test"]
    places = [order.index(name) for name in split.values()]
    assert places == sorted(places)
    if count >= 4:
        assert set(split.values()) == set(order)


def test_a_share_of_nothing_leaves_its_split_empty() -> None:
    split = split_commits([f"c{i}" for i in range(10)], Shares(valid=0, gate=0, test=0.2))
    assert list(split.values()) == ["train"] * 8 + ["test"] * 2


def test_shares_that_leave_nothing_to_train_on_are_refused() -> None:
    with pytest.raises(ValueError, match="train"):
        Shares(valid=0.5, gate=0.3, test=0.2)


def test_a_bound_holds_out_no_more_of_a_long_history() -> None:
    commits = [str(number) for number in range(1000)]
    sizes = Counter(split_commits(commits, Shares(max_heldout=180)).values())
    assert sizes == {"train": 820, "valid": 30, "gate": 30, "test": 120}
    assert split_commits(commits[:100], Shares(max_heldout=180)) == split_commits(commits[:100])

from pathlib import Path

import pytest

from apprentice.core.progress import Silent
from apprentice.learn.clock import Clock


def test_a_resumed_run_goes_on_with_the_time_it_had_used(tmp_path: Path) -> None:
    path = tmp_path / "clock.jsonl"
    path.write_text('{"stage": "train", "seconds": 40}\n{"stage": "evaluate", "seconds": 2}\n{"stage": "train", "seconds": 8}\n')
    clock = Clock(path, 60, Silent())
    assert clock.stages == {"train": 48, "evaluate": 2}
    assert 50 <= clock.used_s < 55
    assert 5 < clock.left_s <= 10


def test_each_stage_is_charged_for_its_own_time_and_written_down(tmp_path: Path) -> None:
    clock = Clock(tmp_path / "clock.jsonl", 60, Silent())
    for name in ("sessions", "train"):
        clock.enter(name)
    clock.tick()
    again = Clock(tmp_path / "clock.jsonl", 60, Silent())
    assert set(again.stages) == {"start", "sessions", "train"}
    assert again.stages == pytest.approx(clock.stages, abs=0.002)


def test_forgiven_time_is_not_charged(tmp_path: Path) -> None:
    clock = Clock(tmp_path / "clock.jsonl", 60, Silent())
    clock.enter("base")
    used = clock.stages.copy()
    clock.forgive()
    clock.enter("sessions")
    assert clock.stages["base"] - used.get("base", 0) < 0.05


def test_a_torn_last_line_is_not_counted(tmp_path: Path) -> None:
    path = tmp_path / "clock.jsonl"
    path.write_text('{"stage": "train", "seconds": 40}\n{"stage": "tra')
    clock = Clock(path, 60, Silent())
    assert dict(clock.stages) == {"train": 40}
    clock.tick()
    assert path.read_text().count("\n") == 2
    assert Clock(path, 60, Silent()).stages["train"] == 40


class Heard(Silent):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.words: list[str] = []

    def stage(self, name: str, total: int | None = None, unit: str = "") -> None:
        self.words.append(f"{name} {total} {unit}")

    def advance(self, amount: int = 1, detail: str = "") -> None:
        self.words.append(f"+{amount} {detail}")

    def note(self, message: str) -> None:
        self.words.append(message)


def test_progress_is_passed_on(tmp_path: Path) -> None:
    heard = Heard()
    clock = Clock(tmp_path / "clock.jsonl", 60, heard)
    clock.stage("read", 3, "commits")
    clock.advance(2, "x")
    clock.note("done")
    assert heard.words == ["read 3 commits", "+2 x", "done"]
    assert not (tmp_path / "clock.jsonl").exists(), "a tick comes once in ten seconds, not with each step"

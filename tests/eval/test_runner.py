from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from apprentice.core.errors import InputError, InternalError
from apprentice.core.fakes import ByteTokenizer, ScriptedGenerator
from apprentice.core.protocols import Request
from apprentice.eval.arms import ModelArm
from apprentice.eval.copying import CopyArm
from apprentice.eval.replay import Memories, Replay
from apprentice.eval.runner import Evaluation, EvaluationConfig
from apprentice.eval.samples import Samples
from apprentice.examples.build import Built
from apprentice.examples.work import Work
from apprentice.text.edits import END_MARK

BYTES = ByteTokenizer()


class Clock:
    """Time passes when something is generated or scored, and at no other time."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Timed(ScriptedGenerator):
    """Each call takes a second; after `calls_left` calls the process dies."""

    def __init__(self, clock: Clock, replies: Sequence[str] = (f"\nx{END_MARK}",), calls_left: int = 10**9) -> None:
        super().__init__(BYTES, replies)
        self.clock, self.calls_left, self.calls = clock, calls_left, 0

    def _call(self) -> None:
        if self.calls == self.calls_left:
            raise KeyboardInterrupt
        self.calls += 1
        self.clock.now += 1.0

    def generate(self, requests: Sequence[Request], *, on_token: Any = None) -> Any:
        self._call()
        return super().generate(requests, on_token=on_token)

    def score(self, prompts: Any, targets: Any, *, mixtures: Any = None) -> Any:
        self._call()
        return super().score(prompts, targets, mixtures=mixtures)


def _arms(generator: Any, names: Sequence[str] = ("base", "base_memory")) -> list[Any]:
    return [
        ModelArm(name=name, generator=generator, tokenizer=BYTES, source="w", memory="m" if "memory" in name else None,
                 bare=name == "window")
        for name in names
    ]  # fmt: skip


def _evaluation(
    folder: Path, works: list[Work], built: Built, arms: Sequence[Any], *, clock: Any = None, memory: Any = None,
    wave_commits: int = 96, **config: Any
) -> Evaluation:
    folder.mkdir(exist_ok=True)
    memories = Memories({"m": memory} if memory else {}, [memory] if memory else [])
    replay = Replay(works, {"r": built.commits["test"][0]})
    return Evaluation(
        Samples(folder), arms, replay, built.examples["test"], EvaluationConfig(**config),
        open_memories=lambda repository: memories, clock=clock or Clock(), wave_commits=wave_commits,
    )  # fmt: skip


def test_every_arm_answers_at_every_place(tmp_path: Path, works: list[Work], built: Built, memory: Any) -> None:
    generator = Timed(Clock())
    evaluation = _evaluation(tmp_path / "e", works, built, [*_arms(generator), CopyArm()], memory=memory)
    rows = evaluation.run()
    next_edits = {e.moment for e in built.examples["test"] if e.kind == "next_edit"}
    completions = {e.moment for e in built.examples["test"] if e.kind == "completion"}
    for measure, arms, places in (
        ("likelihood", {"base", "base_memory"}, next_edits),
        ("line", {"base", "base_memory", "copy"}, completions),
        ("edit", {"base", "base_memory", "copy"}, next_edits),
    ):
        found = [(row.arm, row.example) for row in rows if row.measure == measure]
        assert len(found) == len(set(found))
        assert set(found) == {(arm, place) for arm in arms for place in places}
    # One forward pass for both arms' likelihoods, one generation for each arm.
    assert generator.calls == len(next_edits) + 2 * len(completions) + 2 * len(next_edits)


def test_commits_with_lines_only_are_looked_at_when_there_are_many(
    tmp_path: Path, works: list[Work], built: Built
) -> None:
    arms, test = _arms(ScriptedGenerator(BYTES, ["x"]), ["base"]), list(built.examples["test"])
    first = _evaluation(tmp_path / "a", works, built, arms).commits("line")[0]
    built.examples["test"] = [e for e in test if e.kind == "completion" or e.commit != first]
    rows = _evaluation(tmp_path / "b", works, built, arms, wave_commits=1, measures=("line",)).run()
    assert {row.example for row in rows} == {e.moment for e in test if e.kind == "completion"}


def test_rows_hold_what_was_measured(tmp_path: Path, works: list[Work], built: Built) -> None:
    edit = built.examples["test"][0].edit
    right = "".join("\n" + line for line in edit.new) + "\n" + END_MARK
    generator = ScriptedGenerator(BYTES, lambda request: right if len(request.stop_texts) == 0 else "no")
    rows = _evaluation(tmp_path / "e", works, built, _arms(generator, ["base"])).run()
    first = {row.measure: row for row in rows if row.commit == "c16" and row.example == built.examples["test"][0].moment}
    assert (first["edit"].exact, first["edit"].valid, first["edit"].delta_chrf) == (True, True, pytest.approx(100))
    assert (first["line"].exact, first["line"].text, first["line"].path) == (False, "no", "m.py")
    assert first["line"].confidence is not None
    assert first["likelihood"].changed_bits == pytest.approx(
        first["likelihood"].changed_chars * 8.017, rel=1e-3)  # log2 of 259 tokens  # fmt: skip


@pytest.mark.parametrize("calls", [0, 1, 2, 5, 9, 14, 20, 33])
def test_a_killed_run_goes_on_and_asks_nothing_twice(
    tmp_path: Path, works: list[Work], built: Built, memory: Any, calls: int
) -> None:
    whole = Timed(Clock())
    expected = _evaluation(tmp_path / "whole", works, built, _arms(whole), memory=memory).run()
    dying = Timed(Clock(), calls_left=calls)
    with pytest.raises(KeyboardInterrupt):
        _evaluation(tmp_path / "killed", works, built, _arms(dying), memory=memory).run()
    surviving = Timed(Clock())
    found = _evaluation(tmp_path / "killed", works, built, _arms(surviving), memory=memory).run()
    assert found == expected
    assert dying.calls + surviving.calls == whole.calls
    again = Timed(Clock())
    assert _evaluation(tmp_path / "killed", works, built, _arms(again), memory=memory).run() == expected
    assert again.calls == 0


def test_rows_of_other_weights_are_not_taken_for_these(tmp_path: Path, works: list[Work], built: Built) -> None:
    _evaluation(tmp_path / "e", works, built, _arms(Timed(Clock()), ["base"])).run()
    other = [ModelArm(name="base", generator=Timed(Clock()), tokenizer=BYTES, source="other weights")]
    evaluation = _evaluation(tmp_path / "e", works, built, other)
    assert evaluation.rows() == []
    assert {row.version for row in evaluation.run()} == {other[0].version}


def test_a_short_time_looks_at_fewer_commits_whole_and_keeps_to_the_time(
    tmp_path: Path, works: list[Work], built: Built
) -> None:
    sizes = []
    for budget in (0.0, 7.0, 20.0, 1000.0):
        clock = Clock()
        evaluation = _evaluation(tmp_path / f"e{budget}", works, built, _arms(Timed(clock), ["window", "base"]), clock=clock)
        rows = evaluation.run(budget)
        assert clock.now <= budget + 2 * 2
        places: dict[tuple[str, str], set[str]] = {}
        for row in rows:
            places.setdefault((row.measure, row.commit), set()).add(f"{row.arm} {row.example}")
        for (measure, commit), found in places.items():
            kind = "completion" if measure == "line" else "next_edit"
            wanted = [e for e in built.examples["test"] if e.kind == kind and e.commit == commit]
            assert len(found) == 2 * len(wanted)
        sizes.append(len(rows))
    assert sizes[0] == 0
    assert sizes == sorted(sizes)
    assert sizes[-1] == 2 * (len(built.examples["test"]) + sum(e.kind == "next_edit" for e in built.examples["test"]))


def test_a_longer_time_looks_at_what_a_shorter_one_looked_at_and_more(
    tmp_path: Path, works: list[Work], built: Built
) -> None:
    seen: set[str] = set()
    for budget in (8.0, 16.0, 60.0):
        clock = Clock()
        arms = _arms(Timed(clock), ["base"])
        rows = _evaluation(tmp_path / f"e{budget}", works, built, arms, clock=clock, measures=("likelihood",)).run(budget)
        commits = {row.commit for row in rows}
        assert seen <= commits
        seen = commits
    assert len(seen) == 4


class Dear(Timed):
    """A completion takes 2 seconds, a replacement 20."""

    def generate(self, requests: Sequence[Request], *, on_token: Any = None) -> Any:
        self.clock.now += 1.0 if requests[0].stop_texts else 19.0
        return super().generate(requests, on_token=on_token)


def test_a_dear_measure_does_not_eat_the_others_time(tmp_path: Path, works: list[Work], built: Built) -> None:
    for budget in (30.0, 60.0):
        clock = Clock()
        evaluation = _evaluation(tmp_path / f"e{budget}", works, built, _arms(Dear(clock), ["base"]), clock=clock)
        rows = evaluation.run(budget)
        places = {measure: sum(row.measure == measure for row in rows) for measure in ("likelihood", "line", "edit")}
        assert places["likelihood"] == places["line"] == 8
        assert clock.now <= budget + 20.0


def test_time_that_one_measure_does_not_need_goes_to_the_next(tmp_path: Path, works: list[Work], built: Built) -> None:
    clock = Clock()
    arms = _arms(Timed(clock), ["base"])
    rows = _evaluation(tmp_path / "e", works, built, arms, clock=clock, shares=(0.9, 0.05, 0.05)).run(60.0)
    assert {row.measure for row in rows} == {"likelihood", "line", "edit"}
    assert len({row.example for row in rows if row.measure == "edit"}) == 8


def test_the_memory_is_asked_with_what_came_before_whatever_the_order_of_commits(
    tmp_path: Path, works: list[Work], built: Built, memory: Any
) -> None:
    evaluation = _evaluation(tmp_path / "e", works, built, _arms(Timed(Clock()), ["base_memory"]), memory=memory)
    rows = {row.example: row for row in evaluation.run() if row.measure == "likelihood"}
    assert evaluation.commits("likelihood") != sorted(evaluation.commits("likelihood"))
    assert len(rows) == 8
    # Three things are told for each commit (two edits, a file), and each is asked about before it is told.
    assert sorted({known for _, known in memory.asked}) == [0, 1, 3, 4, 6, 7, 9, 10]


def test_large_commits_can_be_sampled_and_the_same_places_are_drawn_each_time(
    tmp_path: Path, works: list[Work], built: Built
) -> None:
    runs = [
        _evaluation(tmp_path / name, works, built, _arms(Timed(Clock()), ["base"]), max_per_commit=1, max_commits=3).run()
        for name in ("a", "b")
    ]
    assert runs[0] == runs[1]
    likelihoods = [row for row in runs[0] if row.measure == "likelihood"]
    assert (len(likelihoods), len({row.commit for row in likelihoods})) == (3, 3)


def test_two_arms_of_one_name_are_a_mistake_of_ours(tmp_path: Path, works: list[Work], built: Built) -> None:
    with pytest.raises(InternalError):
        _evaluation(tmp_path / "e", works, built, _arms(Timed(Clock()), ["base", "base"]))


def test_places_that_the_sessions_do_not_have_end_it(tmp_path: Path, works: list[Work], built: Built) -> None:
    gone = built.commits["test"][-1]
    evaluation = _evaluation(tmp_path / "s", [work for work in works if work.commit != gone], built, _arms(Timed(Clock()), ("base",)))
    with pytest.raises(InputError, match=f"commit {gone[:12]}, which is held out"):
        evaluation.run()


def test_measures_that_do_not_exist_are_refused() -> None:
    with pytest.raises(ValueError, match="perplexity"):
        EvaluationConfig(measures=("perplexity",))

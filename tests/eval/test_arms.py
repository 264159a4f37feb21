from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
import tokenizers

from apprentice.core.fakes import ByteTokenizer, ScriptedGenerator
from apprentice.core.protocols import Request
from apprentice.eval.arms import Answer, Limits, ModelArm, RemoteArm, likelihoods, shared_pass
from apprentice.eval.replay import Memories, Replay, View
from apprentice.examples.checks.edit import score_edit
from apprentice.examples.kinds.completion import cursor
from apprentice.examples.work import FileWork, Work
from apprentice.repository.prompt import PromptConfig
from apprentice.text.edits import END_MARK, hunks, split_lines
from apprentice.text.healing import before_healing, heal
from apprentice.text.tokenizer import Tokenizer

LN2 = math.log(2)
BYTES = ByteTokenizer()
BEFORE = "".join(f"above_{i}\n" for i in range(9)) + "x = f(a)\n" + "".join(f"below_{i}\n" for i in range(9))
AFTER = BEFORE.replace("f(a)", "f(a, b)")


def _view(memory: Any = None, before: str = BEFORE, after: str = AFTER) -> View:
    file = FileWork("m.py", split_lines(before), hunks("m.py", before, after))
    earlier = FileWork("n.py", ["p"], hunks("n.py", "p\n", "q\n"))
    works = [
        Work(commit="c0", time=0, author="developer", files=[earlier], repository="r"),
        Work(commit="c1", time=1, author="developer", files=[file], repository="r"),
    ]
    memories = Memories({"m": memory} if memory else {}, [])
    return next(Replay(works, {"r": "c1"}).views(lambda repository: memories, {"c1"}))


def _arm(generator: Any, tokenizer: Any = BYTES, **values: Any) -> ModelArm:
    arm = ModelArm(name="base", generator=generator, tokenizer=tokenizer, source="w")
    return replace(arm, **values)


def _place(view: View) -> Any:
    at = cursor(view.moment.lines, view.moment.edit)
    assert at is not None
    return at


def test_the_prompt_of_a_line_ends_at_the_cursor_without_the_old_lines() -> None:
    generator = ScriptedGenerator(BYTES, [", b)\nmore"])
    view = _view()
    answer = _arm(generator).line(view, _place(view), Limits())
    prompt = BYTES.decode(generator.requests[0].prompt_ids)
    assert prompt.endswith("above_8\nx = f(a")
    assert "x = f(a)" not in prompt
    assert "below_0" in prompt
    assert "q" in prompt.split("# m.py")[0]
    assert answer.text == ", b)"
    assert answer.confidence == pytest.approx(-len(", b)") * math.log(BYTES.vocab_size))


def test_the_bare_window_shows_six_lines_and_no_earlier_edit() -> None:
    generator = ScriptedGenerator(BYTES, [""])
    view = _view()
    _arm(generator, bare=True).line(view, _place(view), Limits())
    prompt = BYTES.decode(generator.requests[0].prompt_ids)
    lines = [line for line in prompt.split("\n") if line.startswith(("above", "below"))]
    assert lines == [*(f"below_{i}" for i in range(6)), *(f"above_{i}" for i in range(3, 9))]
    assert "<<<<<<<" not in prompt


def test_generation_of_an_edit_ends_with_the_end_mark_and_keeps_it() -> None:
    generator = ScriptedGenerator(BYTES, [f"\nx = f(a, b)\n{END_MARK}\n# and on and on\n"])
    view = _view()
    answer = _arm(generator).edit(view, Limits())
    assert answer.text == f"\nx = f(a, b)\n{END_MARK}"
    assert score_edit(answer.text, view.moment.edit).exact
    assert BYTES.decode(generator.requests[0].prompt_ids).endswith("<<<<<<< before\nx = f(a)\n=======")


def test_an_edit_that_never_ends_is_cut_by_what_is_known_when_suggesting() -> None:
    generator = ScriptedGenerator(BYTES, ["\n" + "y" * 5000])
    answer = _arm(generator).edit(_view(), Limits(edit_tokens=300, edit_extra_tokens=50))
    assert answer.tokens == 2 * len("x = f(a)") + 50
    assert not answer.finished
    assert Limits(edit_tokens=300).for_edit(10_000) == 300


def test_base_and_memory_come_out_of_one_score_call(memory: Any) -> None:
    generator = ScriptedGenerator(BYTES, log_prob=lambda prompt, target: [-LN2] * len(target))
    plain, mixed = _arm(generator), _arm(generator, name="base_memory", memory="m")
    assert shared_pass(plain) == shared_pass(mixed) != shared_pass(_arm(generator, bare=True))
    view = _view(memory)
    found = likelihoods([plain, mixed], view)
    assert len(generator.scored) == 1
    assert (found[0].changed_bits, found[0].changed_chars) == (pytest.approx(3.0), 3)
    # The memory of these tests gives every token exp(-0.5).
    assert found[1].changed_bits == pytest.approx(3 * 0.5 / LN2)
    asked, _ = memory.asked[0]
    assert (asked["path"], list(asked["lines"]), asked["start_line"], asked["end_line"]) == (
        "m.py", split_lines(BEFORE), 9, 10)  # fmt: skip
    assert asked["prompt_ids"] == generator.scored[0][0]


def test_the_order_of_arms_decides_nothing(memory: Any) -> None:
    generator = ScriptedGenerator(BYTES, log_prob=lambda prompt, target: [-LN2] * len(target))
    plain, mixed = _arm(generator), _arm(generator, name="base_memory", memory="m")
    assert likelihoods([mixed, plain], _view(memory)) == likelihoods([plain, mixed], _view(memory))[::-1]


def test_scored_is_the_target_behind_the_prompt() -> None:
    generator = ScriptedGenerator(BYTES)
    likelihoods([_arm(generator)], _view())
    prompt, target = generator.scored[0]
    assert BYTES.decode(prompt).endswith("x = f(a)\n=======")
    assert BYTES.decode(target) == f"\nx = f(a, b)\n{END_MARK}"


def test_the_memory_of_a_line_never_sees_the_old_lines(memory: Any) -> None:
    view = _view(memory)
    _arm(ScriptedGenerator(BYTES, [", b)"]), memory="m").line(view, _place(view), Limits())
    asked, _ = memory.asked[0]
    assert list(asked["lines"]) == [line for line in split_lines(BEFORE) if not line.startswith("x")]
    assert (asked["start_line"], asked["end_line"], asked["line_start"]) == (9, 9, "x = f(a")


def test_the_version_stands_for_all_that_decides_the_answers() -> None:
    generator = ScriptedGenerator(BYTES)
    arms = [
        _arm(generator), _arm(generator, source="other"), _arm(generator, bare=True), _arm(generator, memory="m"),
        _arm(generator, memory="m", memory_source="gate 2"), _arm(generator, prompt=PromptConfig(above_tokens=1)),
    ]  # fmt: skip
    assert len({arm.version for arm in arms}) == len(arms)
    assert _arm(generator).version == _arm(ScriptedGenerator(BYTES), name="renamed").version


@pytest.mark.parametrize(
    ("lines", "line_start", "must", "expected"),
    [
        (["a", "b"], "xy = ", "", (2, "xy = ")),
        (["a", "b"], "xy = retur", "retur", (2, "xy = ")),
        (["a", "b"], "    ", "\n    ", (1, "b")),
        (["a", "b  "], "", "  \n", (1, "b")),
        (["a", ""], "    ", "\n\n    ", (0, "a")),
        ([], "", "\n", (0, "")),
    ],
)
def test_what_healing_cuts_off_is_not_said_yet(
    lines: list[str], line_start: str, must: str, expected: tuple[int, str]
) -> None:
    assert before_healing([*lines, "old", "z"], len(lines), line_start, must) == expected


def _merging() -> Tokenizer:
    model = tokenizers.Tokenizer(tokenizers.models.BPE())
    model.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=400, show_progress=False, initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet()
    )
    model.train_from_iterator(["def f(self):\n    return self.value\n\n    x = 1\n"] * 50, trainer)
    return Tokenizer(json.loads(model.to_str()))


def test_a_prompt_that_ends_inside_a_token_is_healed_and_the_memory_told_so(memory: Any) -> None:
    tokenizer = _merging()
    before, after = "def f(self):\n    return self\n", "def f(self):\n    return self.value\n    x = 1\n"
    seen: list[Request] = []

    class Generator(ScriptedGenerator):
        def generate(self, requests: Any, *, on_token: Any = None) -> Any:
            seen.extend(requests)
            return super().generate(requests, on_token=on_token)

    view = _view(memory, before, after)
    at = _place(view)
    _arm(Generator(tokenizer, ["x"]), tokenizer, memory="m").line(view, at, Limits())
    request = seen[0]
    assert request.must_start_with
    whole = tokenizer.decode(request.prompt_ids) + request.must_start_with
    assert whole.endswith("\n" + at.line_start)
    assert (tokenizer.decode(request.prompt_ids), request.must_start_with) == heal(tokenizer, whole)
    asked, _ = memory.asked[0]
    said = "\n".join([*asked["lines"][: asked["start_line"]], asked["line_start"]])
    assert said + request.must_start_with == "def f(self):\n" + at.line_start
    assert request.mixture is not None


def test_a_remote_arm_sends_text_and_takes_a_stop_for_the_end_mark() -> None:
    sent: list[tuple[str, int, tuple[str, ...]]] = []

    def complete(prompt: str, max_tokens: int, stop: Any) -> Answer:
        sent.append((prompt, max_tokens, tuple(stop)))
        return Answer(text="\nx = f(a, b)", finished=True)

    arm = RemoteArm(name="other", complete=complete, tokenizer=BYTES, source="http://x/v1 big")
    view = _view()
    assert score_edit(arm.edit(view, Limits()).text, view.moment.edit).exact
    assert arm.line(view, _place(view), Limits()).text == ""
    assert [stop for _, _, stop in sent] == [("\n" + END_MARK,), ("\n",)]
    assert sent[1][0].endswith("x = f(a")


def test_a_remote_answer_cut_by_its_length_is_not_whole() -> None:
    arm = RemoteArm(name="o", complete=lambda p, n, s: Answer(text="\nx = f(a, b)"), tokenizer=BYTES, source="s")
    view = _view()
    assert not score_edit(arm.edit(view, Limits()).text, view.moment.edit).valid

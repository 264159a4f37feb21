"""Distillation of quantized weights: what moves, what stays, and that it helps."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from apprentice.core.errors import ConfigError, InputError
from apprentice.engine.loader import load_weights
from apprentice.engine.model import NumpyModel
from apprentice.kernels import nvfp4
from apprentice.kernels.formats import FORMATS, Packed, decode
from apprentice.model import presets, weights
from apprentice.model.transformer import Transformer
from apprentice.quantize.calibration import fit
from apprentice.quantize.convert import QuantizeConfig, convert
from apprentice.text.decoding import Feed
from apprentice.train import distillation
from apprentice.train.distillation import DistillConfig, distill
from apprentice.train.numerics import fixed

TEXTS = [[(7 * i + shift) % 250 for i in range(64)] for shift in range(20)]
FAST = DistillConfig(steps=80, text_tokens=64, rate=0.15)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    # Large weights: the distributions of a fresh model hardly depend on them.
    weights.save(Transformer(presets.debug()).initialize(3, std=0.15), path)
    return path


@pytest.fixture(scope="module", params=["nvfp4", "mxfp4"])
def rounded(request: pytest.FixtureRequest, folder: Path) -> tuple[str, dict[str, Packed]]:
    fitted = fit(folder, TEXTS[:4], format=FORMATS[request.param])
    return request.param, {name: one.packed for name, one in fitted.items()}


def quantized(folder: Path, target: Path, name: str, matrices: dict[str, Packed]) -> NumpyModel:
    """The model that the engine makes of these matrices."""
    fitted = fit(folder, TEXTS[:4], format=FORMATS[name])
    changed = {module: dataclasses.replace(fitted[module], packed=one) for module, one in matrices.items()}
    convert(folder, target, QuantizeConfig(format="mxfp4" if name == "mxfp4" else "nvfp4"), fitted=changed)
    return NumpyModel(load_weights(target))


def divergence(model: NumpyModel, teacher: NumpyModel, texts: list[list[int]]) -> float:
    """Bits a token."""
    total = 0.0
    for text in texts:
        found, meant = (one.forward([Feed(text, len(text))])[0].log_probs_TV for one in (model, teacher))
        total += float((np.exp(meant) * (meant - found)).sum(1).mean()) / np.log(2)
    return total / len(texts)


def test_the_model_comes_nearer_to_the_unquantized_one(
    folder: Path, rounded: tuple[str, dict[str, Packed]], tmp_path: Path
) -> None:
    name, matrices = rounded
    done = distill(folder, matrices, FORMATS[name], TEXTS, config=FAST)
    teacher = NumpyModel(load_weights(folder))
    before = divergence(quantized(folder, tmp_path / "before", name, matrices), teacher, TEXTS[-2:])
    after = divergence(quantized(folder, tmp_path / "after", name, done.packed), teacher, TEXTS[-2:])
    assert done.steps == 80
    assert done.kl_after < 0.9 * done.kl_before
    # The engine, which knows nothing of training, sees what training saw; norms and head are BF16 there.
    assert before == pytest.approx(done.kl_before, rel=0.1)
    assert after == pytest.approx(done.kl_after, rel=0.1)


def test_scales_stay_and_codes_move(folder: Path, rounded: tuple[str, dict[str, Packed]]) -> None:
    name, matrices = rounded
    some = {module: one for module, one in matrices.items() if "layers.0" not in module}
    moved = distill(folder, some, FORMATS[name], TEXTS, config=FAST)
    assert moved.packed.keys() == some.keys() == moved.largest_inputs.keys()
    for module, given in some.items():
        np.testing.assert_array_equal(moved.packed[module].scales, given.scales)
        assert moved.packed[module].global_scale == given.global_scale
        assert moved.largest_inputs[module] > 0
    assert any((decode(moved.packed[module]) != decode(given)).any() for module, given in some.items())


def test_before_the_first_step_the_student_is_what_was_given(folder: Path, rounded: tuple[str, dict[str, Packed]]) -> None:
    name, matrices = rounded
    model = weights.load(folder).requires_grad_(False)
    packed = distillation._Student(model, matrices, FORMATS[name]).packed()
    parameters = dict(model.named_parameters())
    for module, given in matrices.items():
        np.testing.assert_array_equal(decode(packed[module]), decode(given))
        parameter = parameters[module.removeprefix("model.") + ".weight"]
        np.testing.assert_array_equal(parameter.detach().numpy(), decode(given))


def test_what_moves_nothing_is_no_gain(folder: Path, rounded: tuple[str, dict[str, Packed]]) -> None:
    name, matrices = rounded
    still = distill(folder, matrices, FORMATS[name], TEXTS, config=dataclasses.replace(FAST, steps=2, rate=1e-9))
    assert (still.steps, still.too_short) == (0, False)
    assert still.packed == matrices
    assert still.kl_after == still.kl_before


def test_the_same_steps_give_the_same_codes(folder: Path, rounded: tuple[str, dict[str, Packed]]) -> None:
    name, matrices = rounded
    first, second = (distill(folder, matrices, FORMATS[name], TEXTS, config=FAST) for _ in range(2))
    assert first.kl_after == second.kl_after
    for module in matrices:
        np.testing.assert_array_equal(first.packed[module].codes, second.packed[module].codes)


def test_what_makes_it_worse_is_not_kept(folder: Path, rounded: tuple[str, dict[str, Packed]]) -> None:
    name, matrices = rounded
    wild = dataclasses.replace(FAST, steps=5, rate=10.0)
    done = distill(folder, matrices, FORMATS[name], TEXTS, config=wild)
    assert done.steps == 0
    assert done.packed == matrices


@pytest.mark.parametrize(("seconds", "steps"), [(400.0, 300), (30.0, 0)])
def test_the_clock_ends_it(folder: Path, rounded: tuple[str, dict[str, Packed]], seconds: float, steps: int) -> None:
    """A look at the clock takes a second."""
    name, matrices = rounded
    ticks = iter(range(10_000))
    config = dataclasses.replace(FAST, steps=None, seconds=seconds)
    done = distill(folder, matrices, FORMATS[name], TEXTS, config=config, clock=lambda: float(next(ticks)))
    assert steps <= done.steps <= 1.3 * steps
    assert done.too_short == (steps == 0)


def test_rounding_is_that_of_the_format() -> None:
    x = torch.linspace(-6, 6, 9973)
    _, near = nvfp4.nearest(x.numpy(), np.ones(1, np.float32))
    np.testing.assert_array_equal(distillation._nearest(x).numpy(), near)


def test_too_little_text_is_refused(folder: Path, rounded: tuple[str, dict[str, Packed]]) -> None:
    name, matrices = rounded
    with pytest.raises(InputError, match="too little text to distill with"):
        distill(folder, matrices, FORMATS[name], [[1, 2, 3], [4]], config=FAST)


def test_texts_are_held_out_whole_and_their_ends_are_read(folder: Path) -> None:
    model = weights.load(folder)
    texts = [[number] * 9 + [200 + number] for number in range(40)]
    config = DistillConfig(steps=10, text_tokens=4)
    learned, held_out = distillation._read_all(model, texts, config, fixed(), lambda: False)
    assert [text.tokens_1T.tolist() for text in held_out] == [[[n, n, n, 200 + n]] for n in range(36, 40)]
    assert [text.tokens_1T[0, 0].item() for text in learned] == list(range(20))
    learned, _ = distillation._read_all(model, texts, config, fixed(), lambda: True)
    assert len(learned) == 1


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"seconds": 0.0}, {"text_tokens": 1}, {"rate": 0.0}])
def test_what_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        DistillConfig(**wrong)

"""Matrices fitted to text, layer by layer: with what inputs, and how near the model stays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from tests.engine.test_native import rewrite

from apprentice.core.errors import InputError
from apprentice.engine.loader import load_weights
from apprentice.engine.model import NumpyModel
from apprentice.kernels import formats, nvfp4
from apprentice.kernels.formats import FORMATS
from apprentice.model import presets, tensor_files
from apprentice.quantize.calibration import SHRINKAGE, fit
from apprentice.quantize.convert import QuantizeConfig, convert
from apprentice.quantize.feedback import Feedback
from apprentice.text.decoding import Feed

MakeFolder = Callable[..., Path]

TEXTS = [list(range(20, 270)), [70, 71, 72] * 100, list(range(250, 30, -1))]
LATE = "model.layers.1.mlp.down_proj"


def inputs(folder: Path, module: str) -> np.ndarray:
    """What a model gives one of its matrices to read."""
    model = NumpyModel(load_weights(folder))
    seen: list[np.ndarray] = []
    model.observer = lambda names, x_ND: seen.append(x_ND.copy()) if module in names else None
    for text in TEXTS:
        model.forward([Feed(text, 1)])
    return np.concatenate(seen)


def test_a_matrix_is_fitted_to_the_inputs_that_the_quantized_layers_give_it(
    make_folder: MakeFolder, tmp_path: Path
) -> None:
    folder = make_folder()
    fitted = fit(folder, TEXTS)
    assert len(fitted) == 14
    convert(folder, tmp_path / "quantized", fitted=fitted)
    meant, given = inputs(folder, LATE), inputs(tmp_path / "quantized", LATE)
    assert np.abs(meant - given).max() > 0.01 * np.abs(meant).max()
    weight = load_weights(folder).layers[1].down_DF
    count = np.float32(len(given))
    feedback = Feedback(given.T @ given / count)
    target = weight + np.float32(len(given) / (len(given) + SHRINKAGE)) * feedback.correction(weight, meant.T @ given / count)
    expected = formats.decode(feedback.encode(target, nvfp4.global_scale(target)))
    found = formats.decode(fitted[LATE].packed)

    def error(decoded: np.ndarray) -> float:
        return float(np.square(meant @ weight.T - given @ decoded.T).sum() / count)

    # Norms and embeddings lie in the folder as BF16, so inputs differ a little, and then some codes.
    assert error(found) == pytest.approx(error(expected), rel=0.05)
    assert error(found) < 0.9 * error(formats.decode(feedback.encode(weight, nvfp4.global_scale(weight))))
    assert fitted[LATE].squared_output_error == pytest.approx(error(found), rel=0.05)
    assert fitted[LATE].squared_outputs == pytest.approx(float(np.square(meant @ weight.T).sum() / count), rel=0.02)


def test_matrices_that_a_runtime_fuses_share_their_divisor(make_folder: MakeFolder) -> None:
    fitted = fit(make_folder(), TEXTS)
    for group in (("self_attn.q", "self_attn.k", "self_attn.v"), ("mlp.gate", "mlp.up")):
        assert len({float(fitted[f"model.layers.1.{name}_proj"].packed.global_scale) for name in group}) == 1


def test_only_so_many_tokens_are_read(make_folder: MakeFolder) -> None:
    folder = make_folder()
    few, all_of_them = fit(folder, TEXTS, max_tokens=250), fit(folder, TEXTS[:1])
    np.testing.assert_array_equal(few[LATE].packed.codes, all_of_them[LATE].packed.codes)
    with pytest.raises(InputError, match="no text to calibrate with"):
        fit(folder, [[]])


def test_a_matrix_too_wide_for_moments_is_weighed_by_mean_squares(make_folder: MakeFolder) -> None:
    folder = make_folder()
    fitted = fit(folder, TEXTS, widest=100)
    seen = inputs(folder, "model.layers.0.mlp.down_proj")
    assert len(fitted) == 14
    weight = load_weights(folder).layers[0].down_DF
    plain = nvfp4.encode(weight, importance_C=np.square(seen).mean(axis=0))
    assert np.mean(fitted["model.layers.0.mlp.down_proj"].packed.codes == plain.codes) > 0.9


def test_a_matrix_of_a_width_that_has_no_blocks_stays(make_folder: MakeFolder, tmp_path: Path) -> None:
    folder = make_folder(replace(presets.debug(), intermediate_size=200))
    fitted = fit(folder, TEXTS)
    assert len(fitted) == 12
    assert LATE not in fitted
    assert LATE + ".weight" in convert(folder, tmp_path / "quantized", fitted=fitted).kept


def test_a_model_that_overflows_is_refused_by_matrix(make_folder: MakeFolder) -> None:
    folder = make_folder()
    name = "model.layers.0.self_attn.v_proj.weight"
    rewrite(folder, {name: tensor_files.open_folder(folder)[name].array(name) * np.float32(1e25)})
    with pytest.raises(InputError, match=r"model\.layers\.0\.self_attn\.o_proj"):
        fit(folder, TEXTS)


@pytest.mark.parametrize("format", ["nvfp4", "mxfp4"])
def test_a_fitted_model_is_nearer_to_the_original(
    format: Literal["nvfp4", "mxfp4"], make_folder: MakeFolder, tmp_path: Path
) -> None:
    folder = make_folder()
    text = [int(token) for token in np.random.default_rng(0).choice(250, 900)]
    original = NumpyModel(load_weights(folder)).forward([Feed(text, 900)])[0].log_probs_TV

    def distance(name: str, **settings: object) -> float:
        report = convert(folder, tmp_path / name, QuantizeConfig(format=format), **settings)  # type: ignore[arg-type]
        assert (report.output_error is None) == (name == "plain")
        log_probs = NumpyModel(load_weights(tmp_path / name)).forward([Feed(text, 900)])[0].log_probs_TV
        return float((np.exp(original) * (original - log_probs)).sum(axis=1).mean())

    calibration_text = [[int(token) for token in np.random.default_rng(1).choice(250, 8000)]]
    plain = distance("plain")
    uncorrected = distance("uncorrected", fitted=fit(folder, calibration_text, correct=False, format=FORMATS[format]))
    corrected = distance("corrected", fitted=fit(folder, calibration_text, format=FORMATS[format]))
    assert corrected < 0.9 * uncorrected < 0.8 * plain

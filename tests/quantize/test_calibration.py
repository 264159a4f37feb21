"""Second moments of a model's inputs, and what they are good for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from apprentice.core.errors import InputError
from apprentice.engine.loader import load_weights
from apprentice.engine.model import NumpyModel
from apprentice.quantize.calibration import calibrate, second_moments
from apprentice.quantize.convert import convert
from apprentice.text.decoding import Feed

MakeFolder = Callable[..., Path]

TEXTS = [list(range(20, 270)), [70, 71, 72] * 100, list(range(250, 30, -1))]


def test_moments_are_means_over_all_tokens_for_every_matrix(make_folder: MakeFolder) -> None:
    folder = make_folder()
    moments = calibrate(folder, TEXTS)
    assert len(moments) == 14
    assert moments["model.layers.0.mlp.down_proj"].shape == (192, 192)
    model = NumpyModel(load_weights(folder))
    seen: list[np.ndarray] = []
    model.observer = lambda names, x_ND: seen.append(x_ND.copy()) if "model.layers.1.self_attn.k_proj" in names else None
    for text in TEXTS:
        model.forward([Feed(text, 1)])
    inputs = np.concatenate(seen)
    expected = inputs.T @ inputs / sum(map(len, TEXTS))
    np.testing.assert_allclose(moments["model.layers.1.self_attn.k_proj"], expected, atol=1e-5)
    assert moments["model.layers.1.self_attn.k_proj"] is moments["model.layers.1.self_attn.q_proj"]


def test_diagonals_are_the_matrices_diagonals(make_folder: MakeFolder) -> None:
    model = NumpyModel(load_weights(make_folder()))
    whole, diagonal = (second_moments(model, TEXTS, whole=whole) for whole in (True, False))
    for module, matrix in whole.items():
        np.testing.assert_allclose(diagonal[module], np.diag(matrix), rtol=1e-4)


def test_a_model_too_wide_for_matrices_gets_diagonals(make_folder: MakeFolder) -> None:
    assert calibrate(make_folder(), TEXTS, matrix_bytes=1000)["model.layers.0.mlp.up_proj"].shape == (64,)


def test_only_so_many_tokens_are_read(make_folder: MakeFolder) -> None:
    folder = make_folder()
    few, all_of_them = calibrate(folder, TEXTS, max_tokens=250), calibrate(folder, TEXTS[:1])
    np.testing.assert_array_equal(few["model.layers.0.mlp.up_proj"], all_of_them["model.layers.0.mlp.up_proj"])
    with pytest.raises(InputError, match="no text to calibrate with"):
        calibrate(folder, [[]])


def test_a_calibrated_model_is_nearer_to_the_original(make_folder: MakeFolder, tmp_path: Path) -> None:
    folder = make_folder()
    text = [int(token) for token in np.random.default_rng(0).choice(250, 900)]
    original = NumpyModel(load_weights(folder)).forward([Feed(text, 900)])[0].log_probs_TV

    def distance(name: str, **settings: object) -> float:
        report = convert(folder, tmp_path / name, **settings)  # type: ignore[arg-type]
        assert (report.output_error is None) == (name == "plain")
        log_probs = NumpyModel(load_weights(tmp_path / name)).forward([Feed(text, 900)])[0].log_probs_TV
        return float((np.exp(original) * (original - log_probs)).sum(axis=1).mean())

    calibration = [[int(token) for token in np.random.default_rng(1).choice(250, 2000)]]
    plain = distance("plain")
    assert distance("calibrated", moments=calibrate(folder, calibration)) < 0.8 * plain

"""What four bits hurt: that the measure is the divergence it says, and that what is chosen stays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.engine.test_native import rewrite

from apprentice.core.errors import ConfigError, InputError
from apprentice.engine.loader import load_weights
from apprentice.engine.model import NumpyModel
from apprentice.kernels import formats, nvfp4
from apprentice.model import presets, tensor_files
from apprentice.quantize.calibration import fit
from apprentice.quantize.convert import QuantizeConfig, convert
from apprentice.quantize.sensitivity import PIECE_TOKENS, Sensitivity, measure, most_sensitive
from apprentice.text.decoding import Feed

MakeFolder = Callable[..., Path]

TEXT = [int(token) for token in np.random.default_rng(0).choice(250, 200)]
QKV = tuple(f"model.layers.0.self_attn.{name}_proj" for name in "qkv")


def test_a_groups_divergence_is_that_of_the_model_with_it_alone_rounded(make_folder: MakeFolder) -> None:
    folder = make_folder()
    text = TEXT[:PIECE_TOKENS]
    found = {group.modules: group for group in measure(folder, [text])}
    assert len(found) == 8
    weights = load_weights(folder)
    expected = NumpyModel(weights).forward([Feed(text, len(text))])[0].log_probs_TV
    for module, field in ((QKV, "qkv_OD"), (("model.layers.1.mlp.down_proj",), "down_DF")):
        index = int(module[0].split(".")[2])
        weight = getattr(weights.layers[index], field)
        layers = list(weights.layers)
        layers[index] = replace(layers[index], **{field: formats.decode(nvfp4.encode(weight, search=False))})
        rounded = NumpyModel(replace(weights, layers=layers)).forward([Feed(text, len(text))])[0].log_probs_TV
        divergence = (np.exp(expected) * (expected - rounded)).sum(axis=1).mean() / np.log(2)
        assert found[module].divergence == pytest.approx(float(divergence), rel=1e-3)
        assert found[module].num_weights == weight.size


def test_a_matrix_that_four_bits_hold_exactly_costs_nothing(make_folder: MakeFolder) -> None:
    folder = make_folder()
    weight_DQ = load_weights(folder).layers[1].output_DQ
    rewrite(folder, {"model.layers.1.self_attn.o_proj.weight": formats.decode(nvfp4.encode(weight_DQ, search=False))})
    by_modules = {group.modules: group.divergence for group in measure(folder, [TEXT])}
    free = by_modules.pop(("model.layers.1.self_attn.o_proj",))
    assert free < 1e-5 < min(by_modules.values())


def test_the_worst_per_weight_are_chosen_as_long_as_they_fit() -> None:
    groups = [
        Sensitivity(("small",), 10, 1.0), Sensitivity(("large", "larger"), 50, 4.0), Sensitivity(("harmless",), 10, 0.1),
        Sensitivity(("rest",), 30, 0.5),
    ]  # fmt: skip
    assert most_sensitive(groups, 0.0) == frozenset()
    assert most_sensitive(groups, 0.1) == {"small"}
    # The large one does not fit behind the small one, the next that does is taken.
    assert most_sensitive(groups, 0.4) == {"small", "rest"}
    assert most_sensitive(groups, 1.0) == {"small", "large", "larger", "harmless", "rest"}


def test_only_so_many_tokens_are_read_each_piece_from_its_end(make_folder: MakeFolder) -> None:
    folder = make_folder()
    assert measure(folder, [TEXT, TEXT], max_tokens=120) == measure(folder, [TEXT[-120:]])
    with pytest.raises(InputError, match="no text to measure sensitivity with"):
        measure(folder, [[]])


def test_groups_that_the_format_cannot_hold_are_passed_over(make_folder: MakeFolder) -> None:
    found = measure(make_folder(replace(presets.debug(), intermediate_size=200)), [TEXT])
    assert not any("down_proj" in module for group in found for module in group.modules)
    assert len(found) == 6


def test_what_is_kept_is_neither_fitted_nor_packed_and_stands_in_the_config(make_folder: MakeFolder, tmp_path: Path) -> None:
    folder = make_folder(dtype="bfloat16")
    fitted = fit(folder, [TEXT], kept=QKV)
    assert len(fitted) == 11
    report = convert(folder, tmp_path / "quantized", fitted=fitted, kept=QKV)
    assert {name + ".weight" for name in QKV} <= set(report.kept)
    config = tensor_files.open_folder(tmp_path / "quantized")
    before = tensor_files.open_folder(folder)
    for name in QKV:
        np.testing.assert_array_equal(config[name + ".weight"].array(name + ".weight"), before[name + ".weight"].array(name + ".weight"))
        assert f'"{name}"' in (tmp_path / "quantized" / "config.json").read_text()


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ConfigError, match="precise_share"):
        QuantizeConfig(precise_share=share).check(is_fitted=True)

"""A quantized folder as transformers reads it, by the compressed-tensors package: what our own engine says, it says too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
import transformers

from apprentice.engine.loader import load_weights
from apprentice.engine.model import NumpyModel
from apprentice.quantize.convert import QuantizeConfig, convert
from apprentice.text.decoding import Feed

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

TEXT = [int(token) for token in np.random.default_rng(0).choice(250, 150)]
KEPT = [f"model.layers.0.self_attn.{name}_proj" for name in "qkv"]


@pytest.mark.parametrize("kept", [[], KEPT], ids=["all", "some kept"])
@pytest.mark.parametrize("format", ["nvfp4", "mxfp4"])
def test_transformers_says_what_we_say(
    format: Literal["nvfp4", "mxfp4"], kept: list[str], make_folder: Callable[..., Path], tmp_path: Path
) -> None:
    target = tmp_path / "quantized"
    convert(make_folder(dtype="bfloat16"), target, QuantizeConfig(format=format), kept=kept)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(target, dtype=torch.bfloat16)
    with torch.no_grad():
        # Weights are decoded, to BF16, when they are first used; from there on float32, as we have it.
        theirs(torch.tensor([TEXT]))
        found = torch.nn.Module.float(theirs)(torch.tensor([TEXT])).logits[0].log_softmax(-1).numpy()
    expected = NumpyModel(load_weights(target)).forward([Feed(TEXT, len(TEXT))])[0].log_probs_TV
    # Powers of two are exact in BF16, a divisor is not: 1/500 of a weight.
    most = 0.02 if format == "nvfp4" else 1e-5
    assert np.sqrt(np.mean((found - expected) ** 2)) < most * expected.std()

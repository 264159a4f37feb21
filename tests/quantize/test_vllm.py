"""vLLM's own classes on our folders. They run under a Python that has vLLM: `APPRENTICE_VLLM=/path/to/python`, else skipped.

What a GPU would compute is not run; that vLLM takes the config, the scheme that it picks and the tensors that this scheme asks
for is."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from apprentice.model import tensor_files
from apprentice.quantize.calibration import fit
from apprentice.quantize.convert import QuantizeConfig, convert

PYTHON = os.environ.get("APPRENTICE_VLLM", "")
pytestmark = pytest.mark.skipif(not PYTHON, reason="needs a Python with vLLM: set APPRENTICE_VLLM to it")

ASK = """
import json, os, sys
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
from vllm.model_executor.layers.quantization.compressed_tensors.compressed_tensors import CompressedTensorsConfig
from vllm.model_executor.layers.quantization.compressed_tensors.utils import should_ignore_layer
data = json.load(open(sys.argv[1]))["quantization_config"]
config = CompressedTensorsConfig.from_config(data)
parts = config.target_scheme_map["Linear"]
weights, inputs = parts["weights"], parts.get("input_activations")
kinds = {"nvfp4": config._is_nvfp4_format(weights), "mxfp4": config._is_mxfp4(weights)}
fused = {"qkv_proj": ["q_proj", "k_proj", "v_proj"], "gate_up_proj": ["gate_proj", "up_proj"]}
layers = [f"model.layers.{i}.{name}" for i in (0, 1) for name in ("self_attn.qkv_proj", "self_attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj")]
stay = [layer for layer in layers if should_ignore_layer(layer, ignore=config.ignore, fused_mapping=fused)]
found = {"stay": stay, "ignore": config.ignore, "kinds": kinds, "inputs": inputs is not None and config._is_nvfp4_format(inputs)}
print(json.dumps(found), file=answers)
"""


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        (QuantizeConfig(), "nvfp4"),
        (QuantizeConfig(activations=True), "nvfp4"),
        (QuantizeConfig(format="mxfp4"), "mxfp4"),
    ],
)
def test_vllm_takes_the_config_for_what_it_is(
    settings: QuantizeConfig, kind: str, make_folder: Callable[..., Path], tmp_path: Path
) -> None:
    source, folder = make_folder(), tmp_path / "quantized"
    convert(source, folder, settings, fitted=fit(source, [list(range(99))]) if settings.activations else None)
    done = subprocess.run([PYTHON, "-c", ASK, folder / "config.json"], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["kinds"] == {"nvfp4": kind == "nvfp4", "mxfp4": kind == "mxfp4"}
    assert found["inputs"] is settings.activations
    assert (found["ignore"], found["stay"]) == (["lm_head"], [])
    names = set(tensor_files.open_folder(folder))
    wanted = {"weight_packed", "weight_scale"}
    wanted |= {"weight_global_scale"} if kind == "nvfp4" else set()
    wanted |= {"input_global_scale"} if settings.activations else set()
    for part in wanted:
        assert f"model.layers.0.self_attn.q_proj.{part}" in names


def test_vllm_leaves_in_16_bits_what_we_leave(make_folder: Callable[..., Path], tmp_path: Path) -> None:
    kept = [*(f"model.layers.0.self_attn.{name}_proj" for name in "qkv"), "model.layers.1.mlp.gate_proj", "model.layers.1.mlp.up_proj"]
    convert(make_folder(), tmp_path / "quantized", kept=kept)
    done = subprocess.run([PYTHON, "-c", ASK, tmp_path / "quantized" / "config.json"], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout)["stay"] == ["model.layers.0.self_attn.qkv_proj", "model.layers.1.mlp.gate_up_proj"]

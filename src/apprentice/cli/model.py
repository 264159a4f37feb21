"""`apprentice model`: convert models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import cyclopts

from apprentice.cli.common import JsonFlag, check_out, print_next, print_result


def quantize(
    checkpoint: Path, /, *, out: Path, format: Literal["nvfp4", "mxfp4"] = "nvfp4", calibrate: Path | None = None,
    activations: Annotated[bool, cyclopts.Parameter(negative="")] = False, precise: float | None = None,
    distill: str | None = None, search: bool = True, json: JsonFlag = False,
) -> None:  # fmt: skip
    """Store a checkpoint in four bits, in the layout that vLLM reads too.

    Parameters
    ----------
    checkpoint
        A Hugging Face folder.
    out
        Folder to write.
    format
        NVFP4, or MXFP4, which loses more.
    calibrate
        Folder of examples: with it the model loses about a seventh of what it loses without.
    activations
        Write scales for activations in NVFP4 too (W4A4), which Blackwell GPUs compute with; needs `--calibrate`.
    precise
        Share of the weights that stay in 16 bits, those that four bits hurt most, measured on the examples of `--calibrate`; 0:
        none. The default is a tenth.
    distill
        A time such as `10m`, in which the matrices in four bits learn together to say what the checkpoint says, on the examples of
        `--calibrate`. Takes torch (the extra `learn`) and memory as for training all weights. What minutes
        give is little: see the guide.
    search
        Search each block's scale; slower and closer.
    """
    from dataclasses import replace

    from apprentice.core import artifacts
    from apprentice.core.errors import ConfigError
    from apprentice.core.progress import Progress
    from apprentice.learn.stages import quantize as stage
    from apprentice.quantize.convert import QuantizeConfig

    check_out(out, checkpoint, *([calibrate] if calibrate else []))
    parents = {"checkpoint": artifacts.read(checkpoint).hash} if artifacts.is_finished(checkpoint) else {}
    config = QuantizeConfig(format=format, activations=activations, search=search)
    if precise is not None:
        if calibrate is None:
            raise ConfigError("what four bits hurt is measured on text", hint="give `--calibrate` with `--precise`")
        config = replace(config, precise_share=precise)
    distilling = None
    if distill is not None:
        from apprentice.core.machine import share_cores
        from apprentice.learn.config import parse_budget

        share_cores()
        from apprentice.train.distillation import DistillConfig

        distilling = DistillConfig(seconds=parse_budget(distill))
    with Progress() as progress:
        manifest = stage.write(checkpoint, out, config, parents=parents, progress=progress, examples=calibrate, distilling=distilling)
    print_result(manifest.extra, json_output=json, text=lambda: "\n".join(f"{name}: {value}" for name, value in manifest.extra.items()))
    if not json:
        print_next(f"apprentice serve --model {out}")

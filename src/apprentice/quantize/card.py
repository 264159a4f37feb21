"""The model card of a quantized folder: where it comes from, its licence, what was lost, how to load it."""

from __future__ import annotations

import re
from pathlib import Path

from apprentice.core import files
from apprentice.kernels.formats import Format
from apprentice.quantize.report import Report

MAX_CARD_BYTES = 256 * 1024

_LICENSE = re.compile(r"^license:\s*['\"]?([A-Za-z0-9.+_-]{1,64})['\"]?\s*$", re.MULTILINE)
_FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)


def write_card(source: Path, target: Path, report: Report, format: Format, *, activations: bool) -> None:
    """README.md: our part first, the source's card below it."""
    before, name = _source_card(source), format.layout.partition("-")[0]
    license_name = _LICENSE.search(_front_matter(before))
    lines = ["---", *([f"license: {license_name[1]}"] if license_name else []), "library_name: transformers"]
    lines += ["pipeline_tag: text-generation", f"tags: [{name}, compressed-tensors, apprentice]", "---", ""]
    lines += [*_body(report, format, name.upper(), "weights and activations" if activations else "weights only"), ""]
    if rest := _FRONT_MATTER.sub("", before, count=1).strip():
        lines += ["## Card of the model that was quantized", "", rest, ""]
    files.write_text(target / "README.md", "\n".join(lines))


def _body(report: Report, format: Format, name: str, what: str) -> list[str]:
    kept = sum(tensor.endswith("_proj.weight") for tensor in report.kept)
    but = f" but {kept} that four bits would hurt or cannot hold (`ignore` of the config names them)" if kept else ""
    return [
        f"# Weights in {name}",
        "",
        f"Quantized by `apprentice model quantize`: the linear layers{but} in 4-bit floats with a scale for each {format.block} weights"
        f" (compressed-tensors, `{format.layout}`, {what}), everything else in BF16.",
        "",
        "| matrices | error of weights | error of outputs |",
        "|---|---|---|",
        *(_row(kind, part) for kind, part in {**report.by_kind(), "all": report}.items()),
        "",
        *([report.distillation.sentence(), ""] if report.distillation else []),
        f"{report.bytes_before / 1e6:,.1f} MB before, {report.bytes_after / 1e6:,.1f} MB now."
        f" Each matrix: `quantization_report.html`, for programs `quantization_report.json`.",
        "",
        "Runs without a GPU with `apprentice serve --model FOLDER`, and on NVIDIA GPUs with `vllm serve FOLDER`.",
    ]


def _row(kind: str, report: Report) -> str:
    outputs = "-" if report.output_error is None else f"{report.output_error:.4f}"
    return f"| {kind} | {report.relative_error:.4f} | {outputs} |"


def _source_card(source: Path) -> str:
    path = source / "README.md"
    if not path.is_file():
        return ""
    with path.open("rb") as stream:
        return stream.read(MAX_CARD_BYTES).decode("utf-8", errors="replace").replace("\r\n", "\n")


def _front_matter(card: str) -> str:
    match = _FRONT_MATTER.match(card)
    return match[0] if match else ""

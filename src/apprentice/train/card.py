"""The model card of a checkpoint: where it comes from and under which terms."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from apprentice.train.loop import Outcome

_LICENCE = re.compile(r"^license:\s*([\w.-]{1,64})\s*$", re.MULTILINE)


def written(base: Path, trained: str, kept: float, outcome: Outcome, parents: Mapping[str, str]) -> str:
    """The text of README.md. `trained`: which weights; `kept`: share of their change; `parents`: content hashes."""
    found = None
    if (base / "README.md").is_file():
        found = _LICENCE.search((base / "README.md").read_text(encoding="utf-8", errors="replace")[: 1 << 20])
    licence = f"license: {found[1]}\n" if found else ""
    lines = [f"- {role}: `{content_hash}`" for role, content_hash in sorted(parents.items())]
    curve = [f"| {point.step} | {point.bits:.4f} |" for point in outcome.curve]
    table = ["| step | bits per changed token |", "|---|---|", *curve] if curve else ["Nothing was held out."]
    return (
        f"---\n{licence}library_name: transformers\ntags: [apprentice, code]\n---\n"
        f"# A coding model that learned from a repository's own history\n\n"
        f"Fine-tuned by Apprentice (`{trained}` weights, {outcome.num_steps:,} steps, {outcome.tokens:,} tokens; "
        f"{kept:.0%} of the change is kept). It may repeat what it was trained on: share it with those who may read that "
        f"repository.\n\nMade from (content hashes):\n\n" + "\n".join(lines) + "\n\nHeld-out newer edits, while it was trained:\n\n" + "\n".join(table) + "\n"
        + ("\nThe base's licence holds for this model too.\n" if found else "\nThe base names no licence: look it up.\n")
    )

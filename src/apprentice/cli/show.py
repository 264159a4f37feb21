"""`apprentice show`: what an artifact is."""

from __future__ import annotations

from pathlib import Path

from apprentice.cli.common import JsonFlag, print_result


def show(folder: Path = Path(".apprentice"), /, *, json: JsonFlag = False) -> None:
    """Show an artifact: its kind, what it was made from, counts, what was left out; or the runs of a folder.

    Parameters
    ----------
    folder
        Folder of an artifact, of a run, or of runs.
    """
    import msgspec

    from apprentice.core import artifacts

    if not artifacts.is_finished(folder) and folder.is_dir():
        inside = [path.parent for path in sorted(folder.glob("**/manifest.json"))]
        found = {str(path.relative_to(folder)): artifacts.read(path) for path in inside}
        value = {name: {"kind": manifest.kind, "hash": manifest.hash} for name, manifest in found.items()}
        text = "\n".join(f"{name}: {manifest.kind} {manifest.hash[:12]}, {manifest.created}" for name, manifest in found.items())
        print_result(value, json_output=json, text=lambda: text or f"no artifacts in {folder}")
        return
    manifest = artifacts.read(folder)
    problems = artifacts.verify(folder)
    value = {**msgspec.to_builtins(manifest), "problems": problems}
    print_result(value, json_output=json, text=lambda: _text(manifest, problems))


def _text(manifest: object, problems: list[str]) -> str:
    from apprentice.core.artifacts import Manifest
    from apprentice.core.text_safety import terminal_safe

    assert isinstance(manifest, Manifest)
    lines = [f"{manifest.kind} {manifest.hash}", f"made {manifest.created} by {manifest.code.get('commit', manifest.code.get('version', '?'))}"]
    lines += [f"from {role}: {parent}" for role, parent in manifest.parents.items()]
    lines += [f"{name}: {count:,}" for name, count in manifest.counts.items()]
    lines += [f"left out: {reason}: {count:,}" for reason, count in manifest.dropped.items()]
    lines += [f"{name}: {size.bytes:,} bytes" for name, size in manifest.files.items()]
    lines += [f"problem: {problem}" for problem in problems] or ["every file is what the manifest says"]
    return "\n".join(terminal_safe(line) for line in lines)

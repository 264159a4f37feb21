"""What `chat`, `complete` and `serve` load: the quantized model and the memory of the run that won last."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apprentice.core import artifacts
from apprentice.core.artifacts import Manifest
from apprentice.core.errors import InputError
from apprentice.examples import store as examples_store
from apprentice.learn.run import Home, Run
from apprentice.memory.gate import Gate


@dataclass(frozen=True, kw_only=True, slots=True)
class Current:
    """`current.json`, with its paths made absolute."""

    run: Path
    quantized: Path
    memory: Path
    name: str
    base_hash: str
    quantized_hash: str
    memory_hash: str

    @property
    def fingerprint(self) -> str:
        """Of all that answers come from."""
        return f"{self.quantized_hash}-{self.memory_hash[:16]}"

    @classmethod
    def find(cls, home: Home) -> Current | None:
        """None before the first run. Raises: InputError where what it names is gone."""
        return cls._open(home, home.current())

    @classmethod
    def before(cls, run: Run) -> Current | None:
        """What was served before this run, also where the run was interrupted after it had taken that place; None where its files are
        gone: then there is nothing to compare with, and the next model takes its place."""
        try:
            return cls._open(run.home, _before(run))
        except InputError as error:
            run.progress.note(f"the model served so far cannot be compared with: {error.message}")
            return None

    @classmethod
    def _open(cls, home: Home, values: dict[str, Any] | None) -> Current | None:
        if values is None:
            return None
        run = home.folder / values["run"]
        artifacts.read(run / "quantized", kind="quantized")
        return cls(
            run=run, quantized=run / "quantized", memory=home.folder / (values.get("memory_run") or values["run"]) / "memory",
            name=values["name"], base_hash=values["base_hash"], quantized_hash=values["quantized_hash"], memory_hash=values["memory_hash"],
        )  # fmt: skip

    @classmethod
    def load(cls, home: Home) -> Current:
        """Raises: InputError where nothing was learned yet."""
        found = cls.find(home)
        if found is None:
            raise InputError(f"nothing was learned yet in `{home.folder}`", hint="run `apprentice learn` first")
        return found

    @staticmethod
    def describe(run: Run, quantized: Manifest, remembered: Manifest) -> dict[str, Any]:
        """The content of `current.json`."""
        before = _before(run)
        return {
            "run": _name(run),
            "name": f"apprentice-{quantized.hash[:8]}",
            "base_hash": run.base_hash,
            "quantized_hash": quantized.hash,
            "memory_hash": remembered.hash,
            "replaced": before and {name: value for name, value in before.items() if name != "replaced"},
        }

    @staticmethod
    def remembering(run: Run, remembered: Manifest) -> dict[str, Any]:
        """The content of `current.json` where the model stays and its memory is this run's."""
        before = _before(run)
        assert before is not None
        return {**before, "memory_run": _name(run), "memory_hash": remembered.hash}

    def commits_seen(self) -> set[str] | None:
        """Commits that its weights or its gate were fitted to; None where its examples are gone."""
        folder = self.run / "examples"
        if not artifacts.is_finished(folder):
            return None
        return {commit for split, commits in examples_store.read_commits(folder).items() if split != "test" for commit in commits}

    def gate(self) -> tuple[Gate, str]:
        """The gate that this model's memory was fitted with, and its content hash."""
        from apprentice.learn.stages.memory import load_gate

        folder = self.run / "gates-tuned"
        return load_gate(folder), artifacts.read(folder, kind="gate").hash


def _name(run: Run) -> str:
    return run.folder.relative_to(run.home.folder).as_posix()


def _before(run: Run) -> dict[str, Any] | None:
    values = run.home.current()
    return values.get("replaced") if values is not None and values["run"] == _name(run) else values

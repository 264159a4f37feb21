"""A run: its folder, its clock, and what its stages share.

    .apprentice/
      .gitignore            the folder ignores itself
      sessions/             grows from run to run
      runs/0001/            run.json (what was asked), clock.jsonl, examples/ checkpoint/ ... report/, result.json last
      current.json          what `chat`, `complete` and `serve` load

A run without `result.json` is unfinished: the same command goes on with it. Stages leave artifacts; one that was made from
the same parents, config and version is not made again.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec

from apprentice.core import artifacts, files
from apprentice.core.artifacts import Manifest
from apprentice.core.errors import InputError
from apprentice.core.protocols import ProgressSink
from apprentice.learn.clock import Clock
from apprentice.learn.config import LearnConfig
from apprentice.sessions.policy import Policy
from apprentice.text.tokenizer import Tokenizer

T = TypeVar("T")
HOME = ".apprentice"
CURRENT = "current.json"
RESULT = "result.json"
RUNS = "runs"
_OURS = (RUNS, CURRENT, "sessions", "recorded", "policy.toml", ".lock")
"""One of them is in every folder of ours."""


class CurrentFile(msgspec.Struct, frozen=True, kw_only=True):
    """The content of `current.json`."""

    run: Annotated[str, msgspec.Meta(pattern=r"^runs/\d+$")]
    name: str
    base_hash: str
    quantized_hash: str
    memory_hash: str
    memory_run: Annotated[str, msgspec.Meta(pattern=r"^runs/\d+$")] | None = None
    """Whose memory it is, where a later run kept the model: that memory is newer, with the model's own gate."""
    replaced: dict[str, Any] | None = None
    """The same of what was served before."""


@dataclass(frozen=True, slots=True)
class Home:
    """The folder `.apprentice`."""

    folder: Path

    @classmethod
    def create(cls, folder: Path) -> Home:
        """Raises: InputError for one that is somebody else's: git would ignore all that is new in it."""
        inside = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
        if inside - {".gitignore"} and inside.isdisjoint(_OURS):
            raise InputError(f"`{folder}` holds files that Apprentice did not make", hint="name a folder of its own with `--out`")
        if not folder.exists():
            files.make_folder(folder)
            # What was recorded in private is read into it.
            with contextlib.suppress(OSError):
                # Some file systems have no modes.
                folder.chmod(0o700)
        ignore = folder / ".gitignore"
        if not ignore.exists():
            files.write_text(ignore, "*\n")
        return cls(folder)

    @property
    def sessions(self) -> Path:
        return self.folder / "sessions"

    def runs(self) -> list[Path]:
        """All runs, oldest first."""
        return sorted(path for path in (self.folder / RUNS).glob("[0-9]*") if path.name.isdecimal() and path.is_dir())

    def current(self) -> dict[str, Any] | None:
        """What is served, or None before the first run. Raises: InputError where the file is damaged."""
        path = self.folder / CURRENT
        if not path.is_file():
            return None
        try:
            return msgspec.to_builtins(msgspec.json.decode(path.read_bytes(), type=CurrentFile))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            hint = "remove it, and the next `apprentice learn` that has news writes another"
            raise InputError(f"`{path}` cannot be read: {error}", hint=hint) from error

    def new_run(self) -> Path:
        last = max((int(path.name) for path in self.runs()), default=0)
        return files.make_folder(self.folder / RUNS / f"{last + 1:04d}")


class Run:
    """What every stage is handed."""

    def __init__(self, home: Home, folder: Path, config: LearnConfig, progress: ProgressSink) -> None:
        self.home, self.folder, self.config = home, folder, config
        self.clock = Clock(folder / "clock.jsonl", config.budget_s, progress)
        self.policy = Policy(learn_from=config.learn_from) if config.learn_from else Policy()
        self._budget_s, self._progress = config.budget_s, progress
        self.base_folder = Path()
        self.base_hash = ""
        """Both set by the stage `base`."""
        self.may_claim = True
        """Whether there is enough to learn from for a claim about learning; set by the stage `sessions`."""

    @property
    def progress(self) -> ProgressSink:
        return self.clock

    def restart(self) -> None:
        """What it works on is not what it was: the time that was used and what was decided belong to the other. Artifacts stay, and
        are made anew where they are stale."""
        self.clock.tick()
        for name in ("clock.jsonl", "decisions.json"):
            files.remove_file(self.folder / name)
        self.clock = Clock(self.folder / "clock.jsonl", self._budget_s, self._progress)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """Of the base; known once the stage `base` is done."""
        return Tokenizer.load(self.base_folder)

    def artifact(self, name: str) -> Path:
        """Where a stage leaves its result."""
        return self.folder / name

    def stored(self, name: str, make: Callable[[], T]) -> T:
        """A decision that was made once and that a resumed run follows."""
        path = self.folder / "decisions.json"
        decisions = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        if name not in decisions:
            decisions[name] = make()
            files.write_json(path, decisions)
        return decisions[name]

    def fresh(self, name: str, *, version: int, parents: dict[str, str], config: dict[str, Any]) -> Manifest | None:
        """The stage's artifact, if it need not be made again."""
        path = self.artifact(name)
        if not artifacts.is_finished(path):
            return None
        manifest = artifacts.read(path)
        return manifest if manifest.made_from(version=version, parents=parents, config=config) else None


def asked(config: LearnConfig) -> dict[str, Any]:
    """The config as `run.json` has it."""
    found = msgspec.json.decode(msgspec.json.encode(asdict(config), enc_hook=str))
    # Runs of before there was a choice stay what they are.
    return {key: value for key, value in found.items() if value or key not in ("learn_from", "recipe", "commit_conversations")}

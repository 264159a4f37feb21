"""What `chat`, `complete` and `serve` work with: the served model, its memory and the developer's latest edits.

The memory on disk is that of the history. What was written since and is not committed comes from who sees it: `complete` adds the
changes of the file at hand, the language server every edit that has ended. A server of requests sees no files: it has the history.
What not every server needs is imported where it is needed: a fifth of a start goes by without it.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from apprentice.core.errors import ConfigError, InputError
from apprentice.core.protocols import Mixture
from apprentice.engine.engine import Engine
from apprentice.engine.model import DEFAULTS, EngineConfig
from apprentice.repository.prompt import Place
from apprentice.serve import silence
from apprentice.serve.served import MakeMixture, ServedModel, Slot
from apprentice.serve.silence import SHOW_FROM, Decision
from apprentice.serve.suggestions import Suggester
from apprentice.text.edits import Edit, split_lines
from apprentice.text.healing import before_healing

if TYPE_CHECKING:
    from apprentice.learn.run import Home
    from apprentice.memory.memory import Memory
    from apprentice.repository.git import Git
    from apprentice.serve.lsp.editor import Assistant
    from apprentice.text.redaction import Redactor

MAX_FILE_BYTES = 2 << 20


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model ready to answer."""

    name: str
    engine: Engine
    memory: Memory | None
    decision: Decision
    """What is worth showing unasked."""
    fingerprint: str
    show_from: float = SHOW_FROM

    def served(self) -> ServedModel:
        return ServedModel(
            name=self.name, generator=self.engine, tokenizer=self.engine.tokenizer, max_positions=self.engine.model.max_positions,
            max_threads=self.engine.max_threads, fingerprint=self.fingerprint,
            make_mixture=None if self.memory is None else make_mixture(self.memory),
            paths=frozenset() if self.memory is None else frozenset(self.memory.paths),
            find_path=None if self.memory is None else _find_path(self.memory),
            decision=self.decision, show_from=self.show_from,
        )  # fmt: skip

    def suggester(self) -> Suggester:
        return Suggester(self.engine, self.engine.tokenizer, self.memory, decision=self.decision, show_from=self.show_from)

    def assistant(self) -> Assistant:
        """For the language server."""
        from apprentice.serve.lsp.editor import Assistant

        memory = self.memory
        return Assistant(
            name=self.name, suggester=self.suggester(), fingerprint=self.fingerprint,
            remember=None if memory is None else lambda edits: remember(memory, edits, _redactor()),
        )  # fmt: skip


def find_home(start: Path, out: Path | None) -> Home:
    """The folder of the runs: as named, else `.apprentice` here or in a folder above."""
    from apprentice.learn.run import HOME, Home

    if out is not None:
        return Home(out)
    for folder in (start, *start.parents):
        if (folder / HOME / "current.json").is_file():
            return Home(folder / HOME)
    return Home(start / HOME)


def load(
    model: Path | None, out: Path | None, *, memory: bool = True, config: EngineConfig = DEFAULTS, adapter: Path | None = None,
    show_from: float = SHOW_FROM,
) -> Loaded:  # fmt: skip
    """The model that won last, or the folder named `model` (quantized or plain), which has no memory. `adapter`: a LoRA
    beside that folder's weights; `show_from`: the chance of being right from which on a suggestion is shown unasked, 0 to 1."""
    if not 0 <= show_from <= 1:
        raise ConfigError(f"`{show_from:g}` is no chance", hint="name one from 0 (everything is shown) to 1")
    if model is not None:
        if not model.is_dir():
            raise InputError(f"`{model}` is no folder of a model", hint="name a quantized folder or a checkpoint")
        engine = Engine.load(model, config)
        if adapter is not None:
            engine.adapt(adapter)
        return Loaded(model.name if adapter is None else adapter.name, engine, None, Decision.default(), model.name, show_from)
    if adapter is not None:
        raise InputError("an adapter needs the model that it belongs to", hint="name its folder with `--model`")
    from apprentice.learn.current import Current
    from apprentice.memory import store

    current = Current.load(find_home(Path.cwd(), out))
    engine = Engine.load(current.quantized, config)
    remembered = store.load(current.memory, engine.tokenizer) if memory else None
    return Loaded(current.name, engine, remembered, silence.load(current.run / silence.FOLDER), current.fingerprint, show_from)


def follow(
    slot: Slot, out: Path | None, *, say: Callable[[str], None], every_s: float = 2.0, config: EngineConfig = DEFAULTS,
    show_from: float = SHOW_FROM,
) -> threading.Thread:  # fmt: skip
    """Looks every few seconds, in a thread of its own, whether `learn` has put another model in its place, and serves that."""
    return watch(
        lambda: slot.model.fingerprint, lambda loaded: slot.replace(loaded.served()), out, say=say, every_s=every_s, config=config,
        show_from=show_from,
    )  # fmt: skip


def watch(
    served: Callable[[], str | None], put: Callable[[Loaded], None], out: Path | None, *, say: Callable[[str], None],
    every_s: float = 2.0, config: EngineConfig = DEFAULTS, show_from: float = SHOW_FROM,
) -> threading.Thread:  # fmt: skip
    """The same for whatever serves: `served` says the fingerprint of what is served, `put` gets what takes its place."""
    from apprentice.learn.current import Current
    from apprentice.learn.run import CURRENT

    home = find_home(Path.cwd(), out)

    def look() -> None:
        seen = failed = None
        while True:
            time.sleep(every_s)
            if (now := _stamp(home.folder / CURRENT)) in (None, seen):
                continue
            try:
                current = Current.find(home)
                if current is not None and current.fingerprint != served():
                    loaded = load(None, home.folder, config=config, show_from=show_from)
                    put(loaded)
                    say(f"serving {loaded.name} from now on")
                seen = now
            except Exception as error:  # noqa: BLE001 - the server goes on, whatever it is
                # Tried again: while `learn` ends there may be too little memory for another model.
                if now != failed:
                    say(f"warning: the model that was learned cannot be loaded yet, the earlier one is served on: {error}")
                failed = now

    thread = threading.Thread(target=look, name="apprentice-follow", daemon=True)
    thread.start()
    return thread


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_mtime_ns, facts.st_ino


def latest_edits(path: Path, lines: list[str]) -> tuple[str, list[Edit]]:
    """(the file's path in its repository, what was changed in it since the last commit). Outside a repository: the
    path as given and nothing; nothing too where lines repeat so often that a search would take minutes. `lines` come as an
    editor has them: with any line break, or without their carriage returns."""
    from apprentice.repository.git import Git
    from apprentice.sessions.differences import hunks_between
    from apprentice.sessions.unusable import Unusable

    for folder in path.absolute().parents:
        try:
            git = Git.open(folder)
        except InputError:
            continue
        name = path.absolute().relative_to(folder).as_posix()
        committed = _committed(git, name)
        if committed is None:
            return name, []
        if not any(line.endswith("\r") for line in lines):
            committed = committed.replace("\r\n", "\n")
        try:
            return name, hunks_between(name, committed, "".join(line + "\n" for line in lines))
        except Unusable:
            return name, []
    return path.as_posix(), []


def uncommitted(path: Path, lines: list[str]) -> list[Edit]:
    """What was changed in a file since the last commit."""
    return latest_edits(path, lines)[1]


def remember(memory: Memory, edits: Sequence[Edit], redactor: Redactor) -> None:
    """Add uncommitted edits to a loaded memory, redacted like everything in it."""
    for edit in edits:
        old, new, above, below = (
            tuple(split_lines(redactor.redact("".join(line + "\n" for line in part))[0]))
            for part in (edit.old, edit.new, edit.above, edit.below)
        )
        memory.add_edit(Edit(edit.path, edit.start_line, old, new, above, below), {"commit": "not committed"})


def make_mixture(memory: Memory) -> MakeMixture:
    """What the server asks for at a cursor between a prompt and its suffix. Several threads may ask."""
    one_at_a_time = threading.Lock()

    def make(place: Place, line_start: str, prompt_ids: Sequence[int], must_start_with: str) -> Mixture:
        start_line, said = before_healing(place.lines, place.start_line, line_start, must_start_with)
        with one_at_a_time:
            return memory.mixture(
                path=place.path, lines=place.lines, start_line=start_line, end_line=place.end_line, prompt_ids=prompt_ids,
                line_start=said,
            )  # fmt: skip

    return make


def _find_path(memory: Memory) -> Callable[[Sequence[str]], str]:
    from apprentice.memory import whereabouts

    return functools.partial(whereabouts.path_of, memory)


@functools.cache
def _redactor() -> Redactor:
    from apprentice.text.redaction import Redactor

    return Redactor()


def _committed(git: Git, name: str) -> str | None:
    """The file's text in the last commit, or None where it has none."""
    try:
        entries = {entry.path: entry for entry in git.tree(git.head())}
        entry = entries.get(name.encode())
        if entry is None:
            return None
        with git.objects() as objects:
            data = objects.read(entry.id, max_bytes=MAX_FILE_BYTES).data
    except InputError:
        return None
    return None if data is None else data.decode(errors="replace")

"""What does an editor show while real edits are made again, how much of it is right, and how much is in the way?

    benchmarks/run suggestions --models DIR [--cells 'httpx-*'] [--checkpoint tuned_silence]
    DIR: what `benchmarks/run learning` left, .cache/benchmarks/learning/test

An editor's client opens each file of the test's commits as it was, makes every edit again and asks the language server on the way: at
the edit's first changed line for the next edit, where its new text begins for the rest of the line, and as often, within 20 lines,
where the commit changed nothing. Then it does what the developer did: accepts what is right of what was asked last, and types over what
is not. The model was tuned on the older commits, quantized to four bits, and has the memory, which learns what is typed. Each
suggestion is made once and kept; the arms differ in what of it they show:

    everything     all that says something new                                        (what is left of it is cut by the server itself)
    calibrated     what is right with a chance of 0.25 or more, by a decision fitted on the gate split, from the shipped one
    shipped        the same by the decision that ships, which has seen neither of the two repositories
    confidence     as many as `calibrated`, by the product of the model's token probabilities

`NAME-ARM-forgetful`: the same by a server that forgets what was rejected. `rejected`: suggestions that the developer turns down, asked
for again in the same session, in the next one, and by a server that forgets. `both`: the two repositories together, with paired
differences. `CHECKPOINT-...`: the same of another model than the default, by the name of its folder in DIR/NAME/code-*/models: the
newest of that name, with the sessions and examples that it learned from.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import fnmatch
import hashlib
import json
import math
import os
import queue
import random
import statistics
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np

from apprentice.core import artifacts, files
from apprentice.core.errors import InputError
from apprentice.core.progress import Progress
from apprentice.engine.engine import Engine
from apprentice.engine.model import EngineConfig
from apprentice.eval.statistics import Commits, Resampling
from apprentice.examples import store
from apprentice.examples.checks.edit import reversal
from apprentice.examples.example import NEXT_EDIT
from apprentice.examples.filters import file_reason
from apprentice.examples.history import History
from apprentice.examples.kinds.asked import Asked, asked_at
from apprentice.examples.work import FileWork, Moment, Player
from apprentice.learn import loading, recording
from apprentice.learn.compare import Contestant
from apprentice.learn.opening import weights_hash
from apprentice.learn.stages import quantize, silence
from apprentice.learn.stages.memory import remember, starts_of
from apprentice.memory.gate import Gate
from apprentice.quantize.convert import QuantizeConfig
from apprentice.repository.prompt import Place
from apprentice.serve.lsp import protocol
from apprentice.serve.lsp import server as language_server
from apprentice.serve.lsp.editor import Assistant, AssistantSlot
from apprentice.serve.lsp.recording import FOLDER, Recorder
from apprentice.serve.silence import SHOW_FROM, Decision
from apprentice.serve.suggestions import Suggester, Suggestion
from apprentice.sessions.store import Sessions
from apprentice.text.edits import Edit
from apprentice.text.redaction import Redactor
from benchmarks.harness import Benchmark, Row, imported_sources

TEST = ("httpx", "click")
CHECKPOINT = "tuned-20m-s0"
EDITS = 255
"""Real edits of each repository, at least."""
PER_COMMIT = 4
GATE_EDITS = 40
"""On which the decision is fitted: about what a run of ten minutes looks at."""
REJECTED = 100
"""Of each repository."""
ARMS = ("everything", "calibrated", "shipped", "confidence")
RATIOS = {
    "shown": ("shown", "asked"), "precision": ("right", "shown"), "useful": ("useful", "shown"), "noise": ("noise", "silent"),
    "reversal": ("reversed", "moved"), "found": ("right", "real"),
}  # fmt: skip
"""Measure -> what is counted of what, over requests."""


class Made(msgspec.Struct, frozen=True):
    """A suggestion as it was made; nothing but `key` where the model said nothing in our form."""

    key: str
    new: tuple[str, ...] | None = None
    kind: str = ""
    facts: tuple[float, ...] = ()
    sureness: float = 0.0
    tokens: int = 0


Shows = Callable[[Made], bool]


class Kept(Suggester):
    """Makes each suggestion once. `key`: of the request that comes next; `shows`: which ones are shown."""

    def __init__(self, make: Callable[[], Suggester], path: Path) -> None:
        self._make, self._path = make, path
        self._maker: Suggester | None = None
        decoder = msgspec.json.Decoder(Made)
        self.made = {found.key: found for found in map(decoder.decode, files.read_lines(path))}
        self.key = ""
        self.shows: Shows = lambda made: True

    def edit(self, place: Place, recent: Sequence[Edit] = (), **options: Any) -> Suggestion | None:
        return self._kept(place, lambda maker: maker.edit(place, recent))

    def line(self, place: Place, line_start: str, line_rest: str = "", recent: Sequence[Edit] = (), **options: Any) -> Any:
        return self._kept(place, lambda maker: maker.line(place, line_start, line_rest, recent))

    def _kept(self, place: Place, ask: Callable[[Suggester], Suggestion | None]) -> Suggestion | None:
        if self.key not in self.made:
            self._maker = self._maker or self._make()
            found = ask(self._maker)
            made = Made(self.key)
            if found is not None:
                made = Made(self.key, found.new, found.kind, found.facts, math.log(max(found.confidence, 1e-300)), found.tokens)
            files.append_line(self._path, msgspec.json.encode(made).decode())
            self.made[self.key] = made
        made = self.made[self.key]
        if made.new is None:
            return None
        old = place.lines[place.start_line : place.end_line]
        return Suggestion(
            path=place.path, start_line=place.start_line, end_line=place.end_line, new=made.new, confidence=math.exp(made.sureness),
            tokens=made.tokens, steps=0, is_shown=list(made.new) != list(old) and self.shows(made), kind=made.kind, facts=made.facts,
        )  # fmt: skip


class Client:
    """An editor with one open document."""

    def __init__(self, incoming: BinaryIO, outgoing: BinaryIO, root: Path) -> None:
        self._incoming, self._outgoing, self._root = incoming, outgoing, root
        self._answers: queue.Queue[dict[str, Any]] = queue.Queue()
        self._number = self._version = 0
        self._uri, self._lines = "", list[str]()
        threading.Thread(target=self._read, daemon=True).start()
        self._request("initialize", {"processId": None, "rootUri": root.as_uri(), "capabilities": {"general": {"positionEncodings": ["utf-32", "utf-8"]}}})
        self._notify("initialized", {})

    def open(self, path: str, lines: Sequence[str]) -> None:
        self._uri, self._lines = (self._root / path).as_uri(), list(lines)
        self._version += 1
        item = {"uri": self._uri, "languageId": "python", "version": self._version, "text": text_of(lines)}
        self._notify("textDocument/didOpen", {"textDocument": item})

    def write(self, lines: Sequence[str]) -> None:
        """The document becomes this."""
        if list(lines) != self._lines:
            self._lines = list(lines)
            self._version += 1
            document = {"uri": self._uri, "version": self._version}
            self._notify("textDocument/didChange", {"textDocument": document, "contentChanges": [{"text": text_of(lines)}]})

    def close(self) -> None:
        """If one is open."""
        if not self._uri:
            return
        self._notify("textDocument/didSave", {"textDocument": {"uri": self._uri}})
        self._notify("textDocument/didClose", {"textDocument": {"uri": self._uri}})
        self._uri = ""

    def ask(self, asked: Asked) -> dict[str, Any] | None:
        """The suggestion, if one is given."""
        line = asked.place.start_line
        if asked.form == "edit":
            document = {"uri": self._uri, "version": self._version}
            found = self._request(protocol.INLINE_EDIT, {"textDocument": document, "position": {"line": line, "character": 0}})["edits"]
        else:
            place = {"textDocument": {"uri": self._uri}, "position": {"line": line, "character": len(asked.line_start)}}
            answer = self._request("textDocument/inlineCompletion", {**place, "context": {"triggerKind": 2}})
            found = answer["items"] if answer else []
        return found[0] if found else None

    def accept(self, item: dict[str, Any], lines: Sequence[str]) -> None:
        """It is put in, which makes these lines of the document."""
        self.write(lines)
        self._command(item["command"]["command"], item["command"]["arguments"])

    def reject(self, item: dict[str, Any]) -> None:
        self._command(protocol.REJECT, item["command"]["arguments"])

    def end(self) -> None:
        self._request("shutdown", None)
        self._notify("exit", None)

    def _command(self, command: str, arguments: list[Any]) -> None:
        self._request("workspace/executeCommand", {"command": command, "arguments": arguments})

    def _request(self, method: str, params: Any) -> Any:
        self._number += 1
        self._send({"jsonrpc": "2.0", "id": self._number, "method": method, "params": params})
        message = self._answers.get(timeout=300)
        assert message.get("id") == self._number, message
        assert "error" not in message, message
        return message["result"]

    def _notify(self, method: str, params: Any) -> None:
        self._send({"jsonrpc": "2.0", "method": method, "params": params})

    def _send(self, message: dict[str, Any]) -> None:
        body = json.dumps(message).encode()
        self._outgoing.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
        self._outgoing.flush()

    def _read(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            while header := self._incoming.readline():
                length = int(header.split(b":")[1])
                while self._incoming.readline().strip():
                    pass
                message = json.loads(self._incoming.read(length))
                if "method" not in message:
                    self._answers.put(message)


@contextlib.contextmanager
def talking(
    suggester: Suggester, root: Path, *, remembers: Callable[[Sequence[Edit]], None] | None = None, rejected: Sequence[Sequence[Edit]] = (),
    recorder: Recorder | None = None, forgets: bool = False,
) -> Iterator[Client]:  # fmt: skip
    """A client and a language server over two pipes. `forgets`: what was rejected."""
    slot = AssistantSlot(Assistant(name="replayed", suggester=suggester, remember=remembers))
    to_server, from_client = os.pipe()
    to_client, from_server = os.pipe()
    stdin, stdout = os.fdopen(to_server, "rb"), os.fdopen(from_server, "wb")
    server, editor = language_server.build(slot, recorder=recorder, rejected=rejected)
    if forgets:
        # There is no such option.
        editor._outcomes.is_rejected = lambda document, proposal: False  # pyrefly: ignore

    def serve() -> None:
        try:
            server.start_io(stdin, stdout)
        finally:
            editor.finish()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    with os.fdopen(to_client, "rb") as incoming, os.fdopen(from_client, "wb") as outgoing:
        client = Client(incoming, outgoing, root)
        yield client
        client.end()
        thread.join(60)
        # The reader waits for what comes no more until its pipe is closed.
        stdout.close()
    stdin.close()


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a request."""

    key: str
    commit: str
    asked: Asked
    made: Made
    is_shown: bool
    recent: Sequence[Edit]

    def counts(self) -> dict[str, float]:
        """What RATIOS counts."""
        new = self.made.new if self.is_shown and self.made.new is not None else None
        undone, moved = reversal(self.asked.place.path, self.asked.old, new, self.recent) if new is not None else (0, 0)
        return {
            "asked": 1.0, "shown": float(new is not None), "silent": float(self.asked.is_silent), "real": float(not self.asked.is_silent),
            "noise": float(new is not None and self.asked.is_silent), "right": float(new is not None and self.asked.is_exact(new)),
            "useful": float(new is not None and self.asked.is_useful(new)), "reversed": float(undone), "moved": float(moved),
        }  # fmt: skip


class Study:
    """One repository: the model that is served, the edits that are made again, the suggestions that were made."""

    def __init__(self, benchmark: Benchmark, models: Path, name: str, progress: Progress, *, checkpoint: str, variant: str) -> None:
        self.name, self._progress, self._learned, self._name_of_model = name, progress, models / name, checkpoint
        self._folder = benchmark.work / f"{variant}{name}"
        self._sources = list(imported_sources())
        self._replayed: dict[tuple[str, bool], list[Answer]] = {}

    @cached_property
    def checkpoint(self) -> Path:
        found = [path for path in self._learned.glob(f"code-*/models/{self._name_of_model}") if artifacts.is_finished(path)]
        if not found:
            raise InputError(
                f"there is no model `{self._name_of_model}` in `{self._learned}/code-*/models`",
                hint=f"`benchmarks/run learning --folder DIR --cells '{self.name}-{self._name_of_model}'` trains it; another one: --checkpoint",
            )
        return max(found, key=lambda path: path.stat().st_mtime)

    @cached_property
    def examples(self) -> Path:
        """What the model learned from, by hash."""
        wanted = artifacts.read(self.checkpoint).parents["examples"]
        for path in self._learned.glob("read-*/examples"):
            if artifacts.is_finished(path) and artifacts.read(path).hash == wanted:
                return path
        raise InputError(
            f"none of `{self._learned}/read-*/examples` is what `{self.checkpoint}` learned from",
            hint="they were made anew since: train the model again with `benchmarks/run learning`",
        )

    @cached_property
    def work(self) -> Path:
        """What other code or another model has suggested is no result of this one."""
        made_by = repr([weights_hash(self.checkpoint), *self._sources])
        return files.make_folder(self._folder / hashlib.sha256(made_by.encode()).hexdigest()[:12])

    @cached_property
    def _root(self) -> Path:
        files.make_folder(self.work / "repository" / ".git")
        return self.work / "repository"

    @cached_property
    def history(self) -> History:
        return History(Sessions.open(self.examples.with_name("sessions")))

    @cached_property
    def quantized(self) -> Path:
        """As `learn` does it within ten minutes."""
        target = self.work / "quantized"
        if not artifacts.is_finished(target):
            quantize.write(
                self.checkpoint, target, QuantizeConfig(), parents={"checkpoint": weights_hash(self.checkpoint)},
                progress=self._progress, examples=self.examples, tokens=quantize.SHORT_TOKENS,
            )  # fmt: skip
        return target

    @cached_property
    def engine(self) -> Engine:
        return Engine.load(self.quantized, EngineConfig(threads=1))

    @cached_property
    def gate(self) -> Gate:
        path = self.checkpoint.parents[1] / "gates" / f"{weights_hash(self.checkpoint)[:16]}.json"
        return Gate.from_dict(json.loads(path.read_text(encoding="utf-8")))

    @cached_property
    def decision(self) -> Decision:
        """Fitted as `learn` does it."""
        path = self.work / "told.jsonl"
        lines = list(files.read_lines(path))
        if not lines:
            rows = silence.choose(store.read(self.examples, "gate", kind=NEXT_EDIT), GATE_EDITS)
            model = Contestant(name="quantized", generator=self.engine, source="", gate=self.gate, gate_hash="")
            self._progress.stage(f"fit the decision for {self.name}", len(rows), "edits")
            told = silence.ask(self.history, rows, model, self.engine.tokenizer, budget_s=None, advance=self._progress.advance)
            lines = [msgspec.json.encode(one).decode() for one in told]
            files.write_text(path, "".join(line + "\n" for line in lines))
        return Decision.fit(silence.outcomes([msgspec.json.decode(line, type=silence.Told) for line in lines]))

    @cached_property
    def wanted(self) -> set[str]:
        """Moments of commits in a drawn order, as many as make EDITS."""
        by_commit: dict[str, dict[str, None]] = {}
        for example in store.read(self.examples, "test"):
            by_commit.setdefault(example.commit, {})[example.moment] = None
        order = sorted(by_commit)
        random.Random(0).shuffle(order)
        found: set[str] = set()
        for commit in order:
            if len(found) < EDITS:
                found |= set(random.Random(commit).sample(list(by_commit[commit]), min(PER_COMMIT, len(by_commit[commit]))))
        return found

    @cached_property
    def kept(self) -> Kept:
        def make() -> Suggester:
            # The memory of the server that is running.
            return Suggester(self.engine, self.engine.tokenizer, self.memory, decision=Decision.default())

        return Kept(make, self.work / "made.jsonl")

    @cached_property
    def memory(self) -> Any:
        rows = list(store.read(self.examples, "test"))
        ((repository, commit),) = starts_of(rows).items()
        return remember(self.history.snapshot(repository, before=commit), self.engine.tokenizer, self.gate)

    def shows(self, arm: str) -> Shows:
        """Which of the suggestions an arm shows."""
        if arm == "everything":
            return lambda made: True
        if arm in ("calibrated", "shipped"):
            decision = self.decision if arm == "calibrated" else Decision.default()
            return lambda made: decision.chance(made.kind, made.facts) >= SHOW_FROM
        everything, calibrated = self.replayed("everything"), self.shows("calibrated")
        offered = sorted((answer.made.sureness for answer in everything if answer.is_shown), reverse=True)
        count = sum(answer.is_shown and calibrated(answer.made) for answer in everything)
        border = offered[count - 1] if count else math.inf
        return lambda made: made.sureness >= border

    def replayed(self, arm: str, *, forgets: bool = False) -> list[Answer]:
        """What the arm showed, in order."""
        if (arm, forgets) not in self._replayed:
            self._replayed[arm, forgets] = self._replay(self.shows(arm), arm, forgets)
        return self._replayed[arm, forgets]

    def _replay(self, shows: Shows, arm: str, forgets: bool) -> list[Answer]:
        """Once every suggestion was made, files at which none is asked for need not be gone through again."""
        redactor, makes = Redactor(), not (self.work / "made.done").exists()
        self.kept.shows = shows
        found: list[Answer] = []
        if makes:
            # Before the server's thread asks for them: the history is read by one at a time.
            self.engine, self.memory  # noqa: B018

        def remembers(edits: Sequence[Edit]) -> None:
            if makes:
                loading.remember(self.memory, edits, redactor)

        self._progress.stage(f"replay {self.name}, {arm}", len(self.wanted), "edits")
        with talking(self.kept, self._root, remembers=remembers, forgets=forgets) as client:
            for file, moments in self._files() if makes else self._asked_files:
                client.open(file.path, file.before)
                for moment in moments:
                    if moment.key in self.wanted:
                        found += self._ask(client, moment)
                        self._progress.advance()
                    lines = moment.lines
                    client.write([*lines[: moment.edit.start_line], *moment.edit.new, *lines[moment.edit.start_line + len(moment.edit.old) :]])
                client.close()
        if makes and found:
            files.write_text(self.work / "made.done", "")
        return found

    @cached_property
    def _asked_files(self) -> list[tuple[FileWork, list[Moment]]]:
        return [(file, moments) for file, moments in self._files() if any(moment.key in self.wanted for moment in moments)]

    def _files(self) -> Iterator[tuple[FileWork, list[Moment]]]:
        """The test's files, commit by commit, with the moments of each."""
        rows = list(store.read(self.examples, "test"))
        (first,) = starts_of(rows).values()
        commits, left, is_test = {row.commit for row in rows if row.moment in self.wanted}, set(self.wanted), False
        player = Player(leave_out=file_reason)
        for work in self.history:
            is_test = is_test or work.commit == first
            if not left and work.commit not in commits:
                break
            by_file: dict[str, list[Moment]] = {}
            for moment in player.play(work):
                by_file.setdefault(moment.file.path, []).append(moment)
            for file in work.files:
                if is_test and (moments := by_file.get(file.path)) and not file.removed:
                    left -= {moment.key for moment in moments}
                    yield file, moments

    def _ask(self, client: Client, moment: Moment) -> Iterator[Answer]:
        """Where nothing is to be done first, so that the document is as it stands. Only what is asked last is accepted: its text would stand
        among the latest edits, and in the memory, when the same is asked in another form."""
        asked_there = sorted(enumerate(asked_at(moment)), key=lambda pair: not pair[1].is_silent)
        for number, asked in asked_there:
            client.write(asked.place.lines)
            key = self.kept.key = f"{moment.key}/{number}"
            item = client.ask(asked)
            made = self.kept.made.get(key)
            if made is None:
                # The server had nothing to ask the model for (a line that is too long).
                continue
            if item is not None and asked is asked_there[-1][1] and asked.is_exact(made.new or ()):
                client.accept(item, [*asked.place.lines[: asked.place.start_line], *(made.new or ()), *asked.place.lines[asked.place.end_line :]])
            yield Answer(key, moment.work.commit, asked, made, item is not None, moment.recent)

    def turned_down(self) -> dict[str, list[int]]:
        """Of suggestions that are rejected: which come back (1) in the same session, in the next, and where rejections are forgotten."""
        answers = [answer for answer in self.replayed("everything") if answer.is_shown and not answer.asked.is_exact(answer.made.new or ())]
        chosen = random.Random(0).sample(answers, min(len(answers), 2 * REJECTED))
        found: dict[str, list[int]] = {"same": [], "next": [], "forgetful": []}
        self.kept.shows = lambda made: True
        with tempfile.TemporaryDirectory() as name:
            out = Path(name)
            recorder = Recorder(out / FOLDER, self._root, Redactor(), repository=self.name)
            rejected: list[Answer] = []
            with talking(self.kept, self._root, recorder=recorder) as client:
                for answer in chosen:
                    item = self._again(client, answer) if len(rejected) < REJECTED else None
                    if item is not None:
                        client.reject(item)
                        rejected.append(answer)
                        found["same"].append(int(client.ask(answer.asked) is not None))
                    client.close()
            earlier = recording.rejected(self._root, out)
            known: dict[str, Sequence[Sequence[Edit]]] = {"next": earlier, "forgetful": ()}
            for label, edits in known.items():
                with talking(self.kept, self._root, rejected=edits) as client:
                    for answer in rejected:
                        found[label].append(int(self._again(client, answer) is not None))
                        client.close()
        return found

    def _again(self, client: Client, answer: Answer) -> dict[str, Any] | None:
        client.open(answer.asked.place.path, answer.asked.place.lines)
        self.kept.key = answer.key
        return client.ask(answer.asked)


def figures(arm: str, answers: Sequence[Answer]) -> list[Row]:
    """Every measure of an arm; also of each form alone."""
    rows: list[Row] = []
    for form in ("", "edit", "line"):
        chosen = [answer for answer in answers if form in ("", answer.asked.form)]
        counted = [answer.counts() for answer in chosen]
        commits = Commits([answer.commit for answer in chosen], Resampling())
        for name, (part, whole) in RATIOS.items():
            estimate = commits.ratio([row[part] for row in counted], [row[whole] for row in counted])
            rows.append(Row(arm, name + (f"_{form}" if form else ""), *estimate.as_list()))
        value = [0.75 * row["right"] - 0.25 * (row["shown"] - row["right"]) for row in counted]
        rows.append(Row(arm, "value" + (f"_{form}" if form else ""), *commits.ratio(value, [row["asked"] for row in counted]).as_list()))
    return rows


def differences(arms: dict[str, Sequence[Answer]], draws: int = 10_000) -> list[Row]:
    """Of one arm and another in each measure: the same commits are drawn for both."""
    rows: list[Row] = []
    names = sorted({answer.commit for answers in arms.values() for answer in answers})
    drawn_BC = np.random.default_rng(0).multinomial(len(names), [1 / len(names)] * len(names), size=draws)
    sums = {arm: _sums(answers, names) for arm, answers in arms.items()}
    for a, b in (("calibrated", "everything"), ("calibrated", "confidence"), ("shipped", "everything"), ("shipped", "confidence"), ("calibrated", "shipped")):
        for name, (part, whole) in RATIOS.items():
            ratios = []
            for arm in (a, b):
                parts, wholes = sums[arm][part], sums[arm][whole]
                whole_B = np.maximum(drawn_BC @ wholes, 1e-9)
                ratios.append((parts.sum() / max(wholes.sum(), 1e-9), drawn_BC @ parts / whole_B))
            low, high = np.quantile(ratios[0][1] - ratios[1][1], [0.025, 0.975])
            rows.append(Row(f"{a}-{b}", name, float(ratios[0][0] - ratios[1][0]), float(low), float(high)))
    return rows


def _sums(answers: Sequence[Answer], names: Sequence[str]) -> dict[str, np.ndarray]:
    places = {name: i for i, name in enumerate(names)}
    found: dict[str, np.ndarray] = {}
    for answer in answers:
        for what, value in answer.counts().items():
            found.setdefault(what, np.zeros(len(names)))[places[answer.commit]] += value
    return found


def reliability(answers: Sequence[Answer], decision: Decision) -> tuple[list[Row], list[list[float]]]:
    """Of a decision's chances over everything offered: squared error against that of one chance for all, and bins of equal size."""
    offered = [answer for answer in answers if answer.is_shown]
    chances = [decision.chance(answer.made.kind, answer.made.facts) for answer in offered]
    right = [float(answer.asked.is_exact(answer.made.new or ())) for answer in offered]
    base = statistics.mean(right)
    commits, ones = Commits([answer.commit for answer in offered], Resampling()), [1.0] * len(offered)
    order = np.argsort(chances)
    bins = [[float(np.mean(np.array(values)[part])) for values in (chances, right)] for part in np.array_split(order, 10)]
    rows = [
        Row("calibrated", "brier", *commits.ratio([(p - y) ** 2 for p, y in zip(chances, right, strict=True)], ones).as_list()),
        Row("one chance for all", "brier", *commits.ratio([(base - y) ** 2 for y in right], ones).as_list()),
        Row("calibrated", "calibration_error", sum(abs(p - y) for p, y in bins) / len(bins)),
    ]
    return rows, bins


def weights_of(studies: Sequence[Study]) -> dict[str, str]:
    """By repository: a result is of these models and of no newer ones."""
    return {study.name: weights_hash(study.checkpoint) for study in studies}


def replay(study: Study, arm: str, *, forgets: bool) -> tuple[list[Row], dict[str, Any]]:
    answers = study.replayed(arm, forgets=forgets)
    edits = len({answer.key.split("/")[0] for answer in answers})
    details = {"requests": len(answers), "edits": edits, "commits": len({answer.commit for answer in answers})}
    return figures(arm, answers), details


def both(studies: Sequence[Study]) -> tuple[list[Row], dict[str, Any]]:
    """All requests of both repositories as one."""
    arms: dict[str, Sequence[Answer]] = {arm: [answer for study in studies for answer in study.replayed(arm)] for arm in ARMS}
    rows = [row for arm, answers in arms.items() for row in figures(arm, answers)]
    bins: dict[str, list[list[float]]] = {}
    for study in studies:
        found, bins[study.name] = reliability(study.replayed("everything"), study.decision)
        rows += [dataclasses.replace(row, arm=f"{row.arm}, {study.name}") for row in found]
    requests, silent = len(arms["everything"]), sum(answer.asked.is_silent for answer in arms["everything"])
    edits = len({answer.key.split("/")[0] for answer in arms["everything"]})
    return rows + differences(arms), {"requests": requests, "silent": silent, "edits": edits, "chance_and_right_of_tenths": bins}


def rejected(studies: Sequence[Study]) -> tuple[list[Row], dict[str, Any]]:
    """How many of the rejected suggestions come back."""
    found = [study.turned_down() for study in studies]
    backs = {label: [back for one in found for back in one[label]] for label in found[0]}
    return [Row(label, "came_back", float(sum(back))) for label, back in backs.items()], {"rejected": len(backs["same"])}


def text_of(lines: Sequence[str]) -> str:
    return "".join(line + "\n" for line in lines)


def main(arguments: list[str]) -> int:
    """See the top of this file."""
    parser = argparse.ArgumentParser(prog="benchmarks/run suggestions")
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--cells", default="*", help="only cells whose name matches")
    parser.add_argument("--checkpoint", default=CHECKPOINT, help="which of the models of each repository")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    benchmark = Benchmark("suggestions")
    with Progress() as progress:
        variant = "" if options.checkpoint == CHECKPOINT else f"{options.checkpoint}-"
        studies = [Study(benchmark, options.models, name, progress, checkpoint=options.checkpoint, variant=variant) for name in TEST]
        cells: dict[str, tuple[list[Study], Callable[[], tuple[list[Row], dict[str, Any]]]]] = {}
        for study in studies:
            for arm in ARMS:
                cells[f"{variant}{study.name}-{arm}"] = [study], lambda study=study, arm=arm: replay(study, arm, forgets=False)
            for arm in ("everything", "calibrated"):
                cells[f"{variant}{study.name}-{arm}-forgetful"] = [study], lambda study=study, arm=arm: replay(study, arm, forgets=True)
        cells[f"{variant}both"] = studies, lambda: both(studies)
        cells[f"{variant}rejected"] = studies, lambda: rejected(studies)
        for cell, (asked, work) in cells.items():
            if fnmatch.fnmatch(cell, options.cells):
                for row in benchmark.cell(cell, work, seed=0, inputs=lambda asked=asked: weights_of(asked))["rows"]:
                    print(json.dumps({"cell": cell, **row}) if options.json else _line(cell, row))
    return 0


def _line(cell: str, row: dict[str, Any]) -> str:
    low = "" if row["low"] is None else f" [{row['low']:.3f}, {row['high']:.3f}]"
    value = "-" if row["value"] is None else f"{row['value']:.3f}"
    return f"{cell:28s} {row['arm']:24s} {row['metric']:16s} {value}{low}"

"""Does learning from a repository's older edits predict its newer ones? Base, memory and weights, with controls.

    benchmarks/run learning --folder DIR [--dev] [--cells PATTERN] [--minutes 20]

DIR holds bare clones named as in REPOSITORIES (`git clone --mirror URL DIR/NAME.git`). Recipes are chosen on the older 80%
of the repositories DEV (`--dev`); the figures come from TEST, which are looked at for nothing else. Arms without
training are scored once a repository; each training run is a cell of its own. The controls: `tuned_other` was trained on
the other repository, `tuned_shuffled` on the same edits with every replacement dealt to another place. `chat` is what
tuning on edits does to a hundred fixed replies, and to the code of answers that are generated. `tuned_conversations` learns
the conversations of the same commits besides (messages from changes, edits of files from messages), `tuned_silence` places near the
edits where nothing was to be done, one to nine edits; both in as many steps, so with fewer edits.

The first seed trains for `--minutes` by the clock, on a machine that does nothing else; later seeds and the shuffled
control, conversations and silence take as many steps as it took, so that other load cannot make them differ.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import fnmatch
import hashlib
import json
import math
import random
import re
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from apprentice.core import artifacts, config, files
from apprentice.core.progress import Progress
from apprentice.core.protocols import Generator, Request
from apprentice.eval.comparison import Comparison, Difference
from apprentice.eval.copying import CopyArm
from apprentice.eval.measures import METRICS
from apprentice.eval.runner import EvaluationConfig
from apprentice.eval.samples import EDIT, LIKELIHOOD, LINE, Samples
from apprentice.eval.samples import Row as SampleRow
from apprentice.eval.statistics import Commits, Resampling
from apprentice.examples import build, conversation_store, store
from apprentice.examples.build import ExamplesConfig
from apprentice.examples.conversations import ConversationsConfig
from apprentice.examples.example import Example
from apprentice.examples.history import History
from apprentice.learn.compare import Contestant, TestBench
from apprentice.learn.config import LearnConfig
from apprentice.learn.opening import open_in_torch, open_model, weights_hash
from apprentice.learn.sources import Source
from apprentice.learn.stages import answers, sessions, silent_places
from apprentice.learn.stages import conversations as spoken
from apprentice.memory.gate import Gate
from apprentice.model import base as bases
from apprentice.sessions.policy import Policy
from apprentice.sessions.store import Sessions
from apprentice.text.chat import render
from apprentice.text.tokenizer import Tokenizer
from apprentice.train import sft
from benchmarks.harness import Benchmark, Row, imported_sources

DEV = ("rich", "more-itertools")
TEST = ("httpx", "click")
REPOSITORIES = {
    "rich": "https://github.com/Textualize/rich",
    "more-itertools": "https://github.com/more-itertools/more-itertools",
    "httpx": "https://github.com/encode/httpx",
    "click": "https://github.com/pallets/click",
}
LIMIT_COMMITS = 3000
PER_COMMIT = 3
PLACES = 270
"""Held-out places at least: three in four have changed characters."""
COMMITS = 70
"""Held-out commits at least."""
EDIT_COMMITS = 20
"""Of them, those at which whole edits are generated: each takes seconds."""
GATE_EXAMPLES = 120
DATA = Path(__file__).parent / "data"
CHAT, QUESTIONS = DATA / "chat_replies.jsonl", DATA / "python_questions.txt"
ANSWER_TOKENS = 320
MAX_CONVERSATIONS = 200
"""Held-out ones that are looked at, the newest."""
SILENCE = 0.1
"""Share of silent places in the arm that learns them."""
ENGINE = ("src/apprentice/engine/", "src/apprentice/kernels/")
"""What generates; its tests hold it to torch's probabilities, so its versions do not make these results stale."""
READERS = tuple(
    f"src/apprentice/{path}"
    for path in (
        "sessions/", "examples/kinds/", "examples/build.py", "examples/change.py", "examples/conversations.py", "examples/deduplicate.py",
        "examples/deed.py", "examples/filters.py", "examples/pair.py", "examples/shorten.py", "examples/silent.py", "examples/split.py",
        "examples/store.py", "learn/config.py", "learn/run.py", "learn/sources.py", "learn/stages/sessions.py",
        "learn/stages/silent_places.py", "repository/git.py", "repository/process.py", "text/people.py", "text/redaction.py",
        "text/secret_", "text/token_formats.py",
    )
)  # fmt: skip
"""What makes examples of a repository, conversations and silent places: as long as it makes the same, results hold (`Study.inputs`)."""


class Study:
    """One repository: its sessions, examples and the models compared on it."""

    def __init__(
        self, benchmark: Benchmark, folder: Path, name: str, *, dev: bool, progress: Progress,
        recipe: sft.SftConfig,
    ) -> None:
        self.benchmark, self.name, self.dev, self.progress = benchmark, name, dev, progress
        # What other code has read, trained or answered is no result of this one.
        work = benchmark.work / ("dev" if dev else "test") / name
        sources = [one for one in imported_sources() if not one[0].startswith(ENGINE)]
        self.read = files.make_folder(work / f"read-{_digest([one for one in sources if one[0].startswith(READERS)])}")
        self.work = files.make_folder(work / f"code-{_digest([one for one in sources if not one[0].startswith(READERS)])}")
        self._repository = folder / f"{name}.git"
        self.recipe = recipe
        self.base = bases.resolve(None, progress=progress)
        self.tokenizer = Tokenizer.load(self.base)

    @cached_property
    def sessions(self) -> Sessions:
        source = Source("git", self._repository, "")
        config = LearnConfig(limit_commits=LIMIT_COMMITS)
        return sessions.read([source], self.read / "sessions", config, Policy(), self.progress)

    @cached_property
    def history(self) -> History:
        return History(self.sessions)

    @cached_property
    def examples(self) -> Path:
        """All splits; for recipes the newest 20% of the commits are gone and the rest is split anew."""
        target, config = self.read / "examples", ExamplesConfig()
        parents = {"sessions": self.sessions.hash, "base": weights_hash(self.base)}
        if artifacts.is_finished(target) and artifacts.read(target).parents == parents:
            return target
        self.progress.stage(f"build examples of {self.name}")
        works: Any = self.history
        if self.dev:
            works = list(self.history)
            works = works[: int(0.8 * len(works))]
        store.write(target, build.build(works, self.tokenizer, config), config, parents=parents)
        return target

    def inputs(self, *besides: str) -> dict[str, str]:
        """Hashes of what a cell is made from: of the examples, and `besides` of `conversations` or `silent_places`."""
        folders: dict[str, Path] = {name: getattr(self, name) for name in ("examples", *besides)}
        return {name: data_hash(folder) for name, folder in folders.items()}

    @cached_property
    def bench(self) -> TestBench:
        return TestBench(self.examples, self.history, self.tokenizer, self.progress)

    @cached_property
    def config(self) -> EvaluationConfig:
        """As many commits, in the drawn order, as make PLACES places."""
        sizes: dict[str, int] = {}
        for example in self.bench.test:
            if example.kind == "next_edit":
                sizes[example.commit] = min(PER_COMMIT, sizes.get(example.commit, 0) + 1)
        order = sorted({example.commit for example in self.bench.test})
        random.Random(0).shuffle(order)
        places = count = 0
        while count < len(order) and (places < PLACES or count < COMMITS):
            places += sizes.get(order[count], 0)
            count += 1
        return EvaluationConfig(max_per_commit=PER_COMMIT, max_commits=count)

    def contestant(self, name: str, folder: Path, opened: Callable[[Path, Tokenizer], Generator] = open_in_torch) -> Contestant:
        """A model with a gate fitted for it, once. Torch scores; the engine generates several times as fast."""
        path = self.work / "gates" / f"{weights_hash(folder)[:16]}.json"
        generator = opened(folder, self.tokenizer)
        if not path.is_file():
            files.make_folder(path.parent)
            files.write_json(path, self.bench.fit_gate(generator, budget_s=None, max_examples=GATE_EXAMPLES).to_dict())
        gate = Gate.from_dict(json.loads(path.read_text()))
        return Contestant(name=name, generator=generator, source=weights_hash(folder), gate=gate, gate_hash=files_hash(path))

    @cached_property
    def conversations(self) -> Path:
        """Of the commits alone: these repositories come without talks."""
        target = self.read / "conversations"
        spoken.write(
            target, self.sessions, self.examples, self.tokenizer, Policy(), self.progress, config=ConversationsConfig(), parents=self._parents()
        )
        return target

    @cached_property
    def silent_places(self) -> Path:
        """Near the edits that are learned from."""
        target = self.read / "silent_places"
        silent_places.write(target, self.sessions, self.examples, self.tokenizer, Policy(), self.progress, parents=self._parents())
        return target

    def _parents(self) -> dict[str, str]:
        return {"sessions": self.sessions.hash, "base": weights_hash(self.base), "examples": artifacts.read(self.examples).hash}

    def train(self, label: str, seed: int, *, minutes: float | None = None, steps_of: str = "", talks: bool = False, silence: float | None = None,
              rows: Callable[[list[Example]], list[Example]] = lambda rows: rows) -> Path:  # fmt: skip
        """A checkpoint, by time or with as many steps as another one; goes on where a killed run stopped. `talks`: with the
        conversations besides; `silence`: with so many silent places, in place of what the recipe says."""
        recipe = dataclasses.replace(self.recipe, seed=seed, silence=self.recipe.silence if silence is None else silence)
        train_rows, heldout = list(store.read(self.examples, "train")), list(store.read(self.examples, "valid"))
        said = answers.of(self.base, weights_hash(self.base), self.tokenizer, progress=self.progress)
        parents = {
            "base": weights_hash(self.base), "examples": artifacts.read(self.examples).hash, "answers": said.hash, "label": label,
        }  # fmt: skip
        steps = self.benchmark.result(f"{self.name}-{steps_of}")["details"]["counts"]["steps"] if steps_of else None
        sft.train(
            self.base, rows(train_rows), heldout, self.tokenizer, self.model(label), sft=recipe, parents=parents, progress=self.progress,
            answers=said.conversations, steps=steps, budget_s=None if minutes is None else 60 * minutes,
            conversations=spoken.to_learn(self.conversations, self.tokenizer, self.progress) if talks else (),
            silent=list(store.read(self.silent_places, "train")) if recipe.silence > 0 else (),
        )  # fmt: skip
        return self.model(label)

    def model(self, label: str) -> Path:
        """Where a checkpoint lies."""
        return self.work / "models" / label

    def evaluate(self, label: str, models: Sequence[Contestant], *, reuse: Sequence[str] = ()) -> list[SampleRow]:
        """Likelihoods of these models, alone and with memory, at the same places; those of the base also with the bare
        window."""
        folder = files.make_folder(self.work / "samples" / label)
        arms: list[Any] = []
        for model in models:
            if model.name == "base":
                arms.append(self.bench.arm(model, bare=True, name="window", measures=(LIKELIHOOD,)))
            arms += [self.bench.arm(model, memory=memory, measures=(LIKELIHOOD,)) for memory in (False, True)]
        config = dataclasses.replace(self.config, measures=(LIKELIHOOD,))
        samples = Samples(folder, reuse=[self.work / "samples" / name for name in reuse])
        return self.bench.run(samples, models, arms, config)[1]

    def generate(self, models: Sequence[Contestant]) -> list[SampleRow]:
        """Lines at all places and whole edits at some, by the base alone and by every model with its memory."""
        folder = files.make_folder(self.work / "samples" / "generated")
        rows: list[SampleRow] = []
        for measure, commits in ((LINE, self.config.max_commits), (EDIT, EDIT_COMMITS)):
            arms: list[Any] = [self.bench.arm(model, measures=(measure,)) for model in models if model.name == "base"]
            arms += [self.bench.arm(model, memory=True, measures=(measure,)) for model in models]
            config = dataclasses.replace(self.config, max_commits=commits, measures=(measure,))
            rows += self.bench.run(Samples(folder), models, [*arms, CopyArm()], config)[1]
        return [row for row in rows if row.measure in (LINE, EDIT)]

    def chat(self, label: str) -> tuple[list[Row], dict[str, Any]]:
        """Before and after tuning: bits per character of the fixed replies, and how many answers to the questions have
        whole code."""
        conversations = [json.loads(line)["messages"] for line in CHAT.read_text(encoding="utf-8").splitlines()]
        rendered = [render(self.tokenizer, None, messages) for messages in conversations]
        starts = [one.learnable.index(True) for one in rendered]
        ends = [len(one.learnable) - one.learnable[::-1].index(True) for one in rendered]
        prompts = [one.token_ids[:start] for one, start in zip(rendered, starts, strict=True)]
        targets = [one.token_ids[start:end] for one, start, end in zip(rendered, starts, ends, strict=True)]
        sizes = [float(len(messages[-1]["content"])) for messages in conversations]
        questions = QUESTIONS.read_text(encoding="utf-8").splitlines()
        bits: dict[str, list[float]] = {}
        whole: dict[str, list[float]] = {}
        answers: dict[str, list[str]] = {}
        for name, folder in (("base", self.base), ("tuned", self.model(label))):
            self.progress.stage(f"chat with {name}")
            generator = open_model(folder, self.tokenizer)
            bits[name] = [-sum(score.model_log_probs) / math.log(2) for score in generator.score(prompts, targets)]
            answers[name] = [sample.text for sample in generator.generate([self._asked(text) for text in questions])]
            whole[name] = [float(has_whole_code(text)) for text in answers[name]]
        for values in (bits, whole):
            values["tuned-base"] = [after - before for before, after in zip(values["base"], values["tuned"], strict=True)]
        figures: list[Row] = []
        for metric, found, per in (("chat_bits_per_char", bits, sizes), ("chat_whole_code", whole, [1.0] * len(questions))):
            each = Commits([str(i) for i in range(len(per))])
            figures += [Row(name, metric, *each.ratio(values, per).as_list()) for name, values in found.items()]
        worse = sum(d > 0 for d in bits["tuned-base"]) / len(sizes)
        return figures, {"differences": [], "replies": len(sizes), "worse": worse, "answers": answers}

    def spoken(self, models: dict[str, Path]) -> list[Row]:
        """Bits per character of what is answered in the conversations of held-out commits, by kind."""
        rows = list(conversation_store.read(self.conversations, "test"))[-MAX_CONVERSATIONS:]
        told = [spoken.rendered(row, self.tokenizer) for row in rows]
        prompts = [one.token_ids[: one.last_reply.start] for one in told]
        targets = [one.token_ids[one.last_reply.start : one.last_reply.stop] for one in told]
        bits: dict[str, list[float]] = {}
        for name, folder in models.items():
            self.progress.stage(f"conversations with {name}")
            bits[name] = [-sum(score.model_log_probs) / math.log(2) for score in open_model(folder, self.tokenizer).score(prompts, targets)]
        figures: list[Row] = []
        for kind in dict.fromkeys(row.kind for row in rows):
            at = [number for number, row in enumerate(rows) if row.kind == kind]
            each = Commits([rows[number].commit for number in at])
            values = {name: [found[number] for number in at] for name, found in bits.items()}
            values |= {
                f"{a}-{b}": [x - y for x, y in zip(values[a], values[b], strict=True)]
                for a, b in (("tuned", "base"), ("tuned_conversations", "base"), ("tuned_conversations", "tuned"))
            }
            sizes = [float(len(rows[number].target[0].content)) for number in at]
            figures += [Row(name, f"{kind}_bits_per_char", *each.ratio(found, sizes).as_list()) for name, found in values.items()]
        return figures

    def _asked(self, question: str) -> Request:
        prompt = render(self.tokenizer, None, [{"role": "user", "content": question}], add_generation_prompt=True)
        return Request(prompt_ids=prompt.token_ids, max_tokens=ANSWER_TOKENS, stop_ids=self.tokenizer.eos_ids)


def has_whole_code(answer: str) -> bool:
    """A Python block, all of them finished and parsed, with no function that has nothing but a docstring."""
    blocks = re.findall(r"```python\n(.*?)(```|\Z)", answer, re.DOTALL)
    for code, end in blocks:
        try:
            tree = ast.parse(code)
        except (SyntaxError, ValueError):
            return False
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        if not end or any(all(_does_nothing(part) for part in node.body) for node in functions):
            return False
    return bool(blocks)


def _does_nothing(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Pass) or (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))


def _digest(sources: Sequence[tuple[str, str]]) -> str:
    return hashlib.sha256(repr(sources).encode()).hexdigest()[:12]


def data_hash(folder: Path) -> str:
    """Of the files of an artifact."""
    data = {name: file.sha256 for name, file in artifacts.read(folder).files.items() if not file.volatile}
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def files_hash(path: Path) -> str:
    """Short content hash of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def shuffled(rows: list[Example]) -> list[Example]:
    """The same prompts, each with the answer of another one of its kind: what is learned besides the edits themselves. Of an answer the
    same tokens carry loss as at its own place, so that as much is learned as otherwise."""
    kinds: dict[str, list[Example]] = {}
    for row in rows:
        kinds.setdefault(row.kind, []).append(row)
    others = {kind: random.Random(0).sample(of_kind, len(of_kind)) for kind, of_kind in kinds.items()}
    return [_dealt(row, others[row.kind].pop()) for row in rows]


def _dealt(row: Example, other: Example) -> Example:
    border, further = len(other.prompt), len(row.prompt) - len(other.prompt)
    mine = [span for span in row.spans if span[1] <= len(row.prompt)]
    theirs = [(start + further, end + further, kind) for start, end, kind in other.spans if start >= border]
    return msgspec.structs.replace(row, target=other.target, spans=(*mine, *theirs))


def result_rows(rows: Sequence[SampleRow]) -> tuple[list[Row], dict[str, Any]]:
    """Figures of every arm, and paired differences with medians and the share that got worse."""
    names = list(dict.fromkeys(row.arm for row in rows))
    comparison = Comparison(rows, names, Resampling())
    figures = [Row(row.arm, row.metric, row.value, row.low, row.high) for row in comparison.table()]
    differences = []
    for metric in METRICS:
        for a in names:
            for b in names:
                if a != b and (a, b) in WANTED and (found := comparison.difference(a, b, metric)):
                    figures.append(Row(f"{a}-{b}", metric, *found.estimate.as_list()))
                    differences.append(_described(found))
    return figures, {"differences": differences, "heldout": comparison.heldout()}


CONTROLS = ("tuned_conversations", "tuned_silence", "tuned_other", "tuned_shuffled")
BESIDES = CONTROLS[:2]
"""What is trained on the edits and on something besides."""
WANTED = {
    ("base", "window"), ("base_memory", "base"), ("tuned", "base"), ("tuned_memory", "base_memory"), ("tuned_memory", "base"),
    *((name, other) for name in CONTROLS for other in ("base", "tuned")),
    *((f"{name}_memory", f"{other}_memory") for name in BESIDES for other in ("base", "tuned")),
}  # fmt: skip


def _described(found: Difference) -> dict[str, Any]:
    return {"name": found.name, "metric": found.metric, "estimate": found.estimate.as_list(), "examples": found.examples,
            "commits": found.commits, "median": found.median, "worse": found.worse, "clearly_worse": found.clearly_worse}  # fmt: skip


def main(arguments: list[str]) -> int:
    """See the top of this file."""
    parser = argparse.ArgumentParser(prog="benchmarks/run learning")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--dev", action="store_true")
    parser.add_argument("--cells", default="*", help="only cells whose name matches")
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--set", action="append", default=[], help="a key of the recipe, such as `optimizer.lr=5e-5`: with --dev")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    if options.set and not options.dev:
        parser.error("recipes are chosen with --dev; what is tested is the default")
    recipe = config.load(sft.SftConfig, None, options.set)
    benchmark = Benchmark("learning-dev" if options.dev else "learning")
    results = []
    with Progress() as progress:
        names = DEV if options.dev else TEST
        studies = {
            name: Study(benchmark, options.folder, name, dev=options.dev, progress=progress, recipe=recipe) for name in names
        }
        for name, inputs, work, seed in cells(studies, options.minutes, "".join(f"-{change}" for change in options.set)):
            if fnmatch.fnmatch(name, options.cells):
                results.append(benchmark.cell(name, work, seed=seed, ignoring=ENGINE + READERS, inputs=inputs))
    for result in results:
        for row in result["rows"] if options.json else []:
            print(json.dumps({"cell": result["cell"], **row}))
        for found in [] if options.json else result["details"]["differences"]:
            value, low, high = found["estimate"]
            print(f"{result['cell']:32s} {found['name']:26s} {found['metric']:22s} {value:+.4f} [{low:+.4f}, {high:+.4f}]")
    return 0


def cells(
    studies: dict[str, Study], minutes: float, variant: str
) -> list[tuple[str, Callable[[], dict[str, str]], Callable[[], tuple[list[Row], dict[str, Any]]], int | None]]:
    """(name, inputs, work, seed) of every cell, the most telling ones first."""
    found: list[tuple[str, Callable[[], dict[str, str]], Callable[[], tuple[list[Row], dict[str, Any]]], int | None]] = []
    names = list(studies)

    def tuned(study: Study, label: str, seed: int, **amount: Any) -> Callable[[], tuple[list[Row], dict[str, Any]]]:
        def work() -> tuple[list[Row], dict[str, Any]]:
            folder = study.train(label, seed, **amount)
            models = [study.contestant("base", study.base), study.contestant("tuned", folder)]
            figures, details = result_rows(study.evaluate(label, models, reuse=["base"]))
            return figures, {**details, "training": artifacts.read(folder).extra, "counts": artifacts.read(folder).counts}

        return work

    def control(study: Study, arm: str, make: Callable[[], Path], against: str) -> Callable[[], tuple[list[Row], dict[str, Any]]]:
        def work() -> tuple[list[Row], dict[str, Any]]:
            models = [study.contestant("base", study.base), study.contestant("tuned", study.model(against)),
                      study.contestant(arm, make())]  # fmt: skip
            return result_rows(study.evaluate(arm, models, reuse=["base", against]))

        return work

    def with_conversations(study: Study, against: str) -> tuple[list[Row], dict[str, Any]]:
        folders = {"base": study.base, "tuned": study.model(against),
                   "tuned_conversations": study.train("tuned_conversations", 0, steps_of=first, talks=True)}  # fmt: skip
        models = [study.contestant(name, folder) for name, folder in folders.items()]
        figures, details = result_rows(study.evaluate("tuned_conversations", models, reuse=["base", against]))
        return [*figures, *study.spoken(folders)], {**details, "conversations": artifacts.read(study.conversations).counts}

    def generated(study: Study, against: str) -> Callable[[], tuple[list[Row], dict[str, Any]]]:
        def work() -> tuple[list[Row], dict[str, Any]]:
            folders = {"base": study.base, "tuned": study.model(against)}
            return result_rows(study.generate([study.contestant(name, folder, open_model) for name, folder in folders.items()]))

        return work

    first = f"tuned-{minutes:g}m-s0{variant}"
    for study in studies.values():
        alone = lambda s=study: result_rows(s.evaluate("base", [s.contestant("base", s.base)]))  # noqa: E731
        found.append((f"{study.name}-base", study.inputs, alone, None))
        found.append((f"{study.name}-{first}", study.inputs, tuned(study, first, 0, minutes=minutes), 0))
    for study in studies.values():
        other = studies[names[1 - names.index(study.name)]]
        found.append((f"{study.name}-generated{variant}", study.inputs, generated(study, first), 0))
        found.append((f"{study.name}-chat{variant}", study.inputs, lambda s=study: s.chat(first), 0))
        found.append((f"{study.name}-tuned_other", study.inputs, control(study, "tuned_other", lambda o=other: o.model(first), first), 0))
        found.append((f"{study.name}-tuned_shuffled", study.inputs, control(
            study, "tuned_shuffled", lambda s=study: s.train("tuned_shuffled", 0, steps_of=first, rows=shuffled), first), 0))  # fmt: skip
        found.append((f"{study.name}-tuned_conversations", lambda s=study: s.inputs("conversations"), lambda s=study: with_conversations(s, first), 0))
        found.append((f"{study.name}-tuned_silence", lambda s=study: s.inputs("silent_places"), control(
            study, "tuned_silence", lambda s=study: s.train("tuned_silence", 0, steps_of=first, silence=SILENCE), first), 0))  # fmt: skip
    for study in studies.values():
        for seed in (1, 2):
            label = f"tuned-{minutes:g}m-s{seed}{variant}"
            found.append((f"{study.name}-{label}", study.inputs, tuned(study, label, seed, steps_of=first), seed))
    long = f"tuned-{minutes * 2.25:g}m-s0{variant}"
    found.append((f"{names[0]}-{long}", studies[names[0]].inputs, tuned(studies[names[0]], long, 0, minutes=minutes * 2.25), 0))
    return found

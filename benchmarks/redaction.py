"""What does redaction leave of planted secrets and persons, what does it take that is harmless, and what do others find?

    benchmarks/run redaction [--detect-secrets PYTHON] [--peer gitleaks=PROGRAM] [--peer betterleaks=PROGRAM] [--peer scrubadub=PYTHON]
    benchmarks/run redaction --tuning [--show N]      the corpus that rules are written with; nothing is kept

A seeded corpus (`benchmarks/corpus`) of 20 kinds of secret and 5 of personal data, plain and in 11 disguises, among harmless
texts that look like them, lies in session files of Claude Code, SpecStory and Aider and in a git history. They are read as `sessions
read` reads them. `recall` is the share of planted values of which nothing is found afterwards in any file that was written, by a
search of its own (`corpus/searching.py`) that decodes, joins halves, and takes half a long value for the whole. `precision`
is the share of replaced spans that overlap something planted.

Peers get the strings that our redaction gets, of the first seed, as files. They look for secrets, not to take them out, so they are measured
by lines, and so are we beside them: `recall_lines` is the share of values with a finding on one of their lines,
`precision_lines` that of findings on a line with something planted. Values that a reader does not pass on count for nobody.

Intervals: Wilson, 95%. Three sets of templates (`corpus/places.py`): rules were written with two of them before the third was
looked at; it was then looked at once, so what is measured now is a little better than what new texts would give.
"""

from __future__ import annotations

import argparse
import bisect
import dataclasses
import json
import math
import random
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apprentice.core import artifacts
from apprentice.core.progress import Silent
from apprentice.repository.git import Git
from apprentice.sessions import git_history, store
from apprentice.sessions.git_history import GitHistoryConfig
from apprentice.sessions.policy import Policy
from apprentice.sessions.readers import files as readers
from apprentice.sessions.store import SessionsWriter
from apprentice.text.anchors import Anchors
from apprentice.text.people import Known
from apprentice.text.redaction import RedactionPolicy, Redactor, merged
from benchmarks.corpus import talks
from benchmarks.corpus.disguises import NAMES, Dressed, dress, makes_sense
from benchmarks.corpus.harmless import harmless
from benchmarks.corpus.searching import Search, texts
from benchmarks.corpus.values import PERSONAL, SECRETS, Value
from benchmarks.harness import Benchmark, Row
from benchmarks.peers import scanners

SEEDS = (21, 22, 23, 24, 25)
TUNING = ((1, 0), (2, 0), (11, 1), (12, 1), (13, 1))
"""(seed, set of templates) of what may be looked at."""
HELD_OUT = 2
"""Set of templates that is reported."""
_OURS = ("src/apprentice/text/",)
"""What a peer's figures do not depend on."""
EACH = 4
"""Plants of each kind in each disguise, per seed."""
HARMLESS_PER_PLANT = 2


@dataclass(frozen=True, slots=True)
class Plant:
    """A value somewhere in the corpus."""

    kind: str
    disguise: str
    value: Value
    dressed: Dressed

    @property
    def is_secret(self) -> bool:
        """Or else personal data."""
        return self.kind in SECRETS


@dataclass(frozen=True, slots=True)
class Corpus:
    """What is planted among what."""

    plants: list[Plant]
    harmless: list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Span:
    """A place in a string that was replaced or reported."""

    text: int
    start: int
    end: int
    kind: str


class Recorder:
    """Implements `core.protocols.SecretScanner`: redacts, or does not, and keeps the strings it was given."""

    def __init__(self, redactor: Redactor | None) -> None:
        self._redactor = redactor
        self.texts: list[str] = []
        self.spans: list[Span] = []

    def redact(self, text: str) -> tuple[str, dict[str, int]]:
        """As the redactor does."""
        number = len(self.texts)
        self.texts.append(text)
        if self._redactor is None:
            return text, {}
        redacted, counts = self._redactor.redact(text)
        if counts:
            hits = merged(self._redactor.find(text.encode("utf-8", "surrogatepass")))
            self.spans += [Span(number, hit.start, hit.end, hit.kind) for hit in hits]
        return redacted, counts


def make_corpus(seed: int, part: int, *, each: int = EACH) -> Corpus:
    """Of a seed and a set of templates (`corpus.places`)."""
    r = random.Random(f"{seed} {part}")
    plants: list[Plant] = []
    for kind, make in {**SECRETS, **PERSONAL}.items():
        for disguise in NAMES:
            for _ in range(each if makes_sense(kind, disguise) else 0):
                value = make(r)
                plants.append(Plant(kind, disguise, value, dress(kind, value, disguise, part, r)))
    return Corpus(plants, [harmless(r, part) for _ in range(HARMLESS_PER_PLANT * len(plants))])


def read(corpus: Corpus, folder: Path, seed: int, *, redacted: bool) -> Recorder:
    """Write the session files under `folder`, read them as the product does into `folder/out`."""
    authors = [plant.value.text for plant in corpus.plants if plant.kind == "author"]
    pieces = [plant.dressed.text for plant in corpus.plants] + [text for _, text in corpus.harmless]
    if not (folder / "sessions").exists():
        talks.write(folder, pieces, authors, random.Random(seed))
    git = Git.open(folder / "history.git")
    identities = git_history.identities(git, GitHistoryConfig())
    known = Known.here((person.name, person.email) for person in identities)
    known = dataclasses.replace(known, hosts=frozenset(plant.value.text for plant in corpus.plants if plant.kind == "host"))
    recorder = Recorder(Redactor(RedactionPolicy(known=known)) if redacted else None)
    with (
        artifacts.create(folder / ("out" if redacted else "plain"), kind=store.KIND, version=store.VERSION) as artifact,
        SessionsWriter(artifact, recorder) as writer,
    ):
        git_history.read_history(git, writer, GitHistoryConfig(), Silent(), repository="history")
        readers.read(readers.find([folder / "sessions"]), writer, Silent())
        writer.finish(config={}, policy=Policy())
    return recorder


def left_over(corpus: Corpus, folder: Path) -> set[str]:
    """Pieces of planted values that are found in what was written."""
    secrets = {piece for plant in corpus.plants if plant.is_secret for piece in plant.value.pieces}
    search = Search((piece for plant in corpus.plants for piece in plant.value.pieces), secrets)
    found: set[str] = set()
    for text in set(texts(folder)):
        found |= search.left(text)
    return found


class Places:
    """Where in the strings planted things stand."""

    def __init__(self, corpus: Corpus, strings: Sequence[str]) -> None:
        owners: dict[bytes, list[int]] = defaultdict(list)
        for number, plant in enumerate(corpus.plants):
            for fragment in plant.dressed.fragments:
                # In strings that are JSON (what a tool was called with) a fragment is escaped.
                for form in {fragment, json.dumps(fragment, ensure_ascii=False)[1:-1]}:
                    owners[form.lower().encode()].append(number)
        anchors = Anchors(dict(owners))
        self.ranges: dict[int, list[tuple[int, int]]] = defaultdict(list)
        self.lines: dict[int, set[tuple[int, int]]] = defaultdict(set)
        """Number of the plant -> (string, 0-based line)."""
        self._starts = [_line_starts(text.encode("utf-8", "surrogatepass")) for text in strings]
        for number, text in enumerate(strings):
            for start, end, plants in anchors.find(text.encode("utf-8", "surrogatepass")):
                self.ranges[number].append((start, end))
                for plant in plants:
                    self.lines[plant] |= {(number, line) for line in self.line_range(number, start, end)}
        self.planted_lines = {place for places in self.lines.values() for place in places}

    def line_range(self, text: int, start: int, end: int) -> range:
        """The lines of these bytes."""
        starts = self._starts[text]
        return range(bisect.bisect_right(starts, start) - 1, bisect.bisect_right(starts, max(start, end - 1)))

    def is_planted(self, span: Span) -> bool:
        """Whether it overlaps something planted."""
        return any(low < span.end and span.start < high for low, high in self.ranges.get(span.text, ()))

    def planted_bytes(self, span: Span) -> int:
        """How much of it."""
        covered = {at for low, high in self.ranges.get(span.text, ()) for at in range(max(low, span.start), min(high, span.end))}
        return len(covered)


def _line_starts(data: bytes) -> list[int]:
    return [0, *(at + 1 for at, byte in enumerate(data) if byte == 10)]


def by_lines(corpus: Corpus, places: Places, found: Iterable[tuple[int, int]], only: set[str]) -> dict[str, list[int]]:
    """[hits, of] of `recall` over the kinds in `only`, and of `precision`, where (string, line) pairs were reported."""
    lines = set(found)
    plants = [number for number, plant in enumerate(corpus.plants) if plant.kind in only and places.lines[number]]
    recall = sum(bool(places.lines[number] & lines) for number in plants)
    return {"recall_lines": [recall, len(plants)], "precision_lines": [len(lines & places.planted_lines), len(lines)]}


def measure(seed: int, part: int = HELD_OUT, *, each: int = EACH) -> tuple[dict[str, Any], list[str]]:
    """Counts of one seed: {arm: {metric: [hits, of]}}, and what was missed or taken wrongly, told in lines."""
    corpus = make_corpus(seed, part, each=each)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        read(corpus, folder, seed, redacted=False)
        ours = read(corpus, folder, seed, redacted=True)
        left = left_over(corpus, folder / "out")
        there = left_over(corpus, folder / "plain")
    places = Places(corpus, ours.texts)
    counts: dict[str, Any] = {"ours": _ours(corpus, places, ours, left, there)}
    notes = _notes(corpus, places, ours, left, there)
    strings = list(dict.fromkeys(ours.texts))
    numbers = {text: number for number, text in enumerate(strings)}
    shared = Places(corpus, strings)
    replaced = [Span(numbers[ours.texts[span.text]], span.start, span.end, span.kind) for span in ours.spans]
    reported = {(span.text, line) for span in replaced for line in shared.line_range(span.text, span.start, span.end)}
    for name, only in (("secrets", set(SECRETS)), ("personal", set(PERSONAL))):
        counts[f"ours, {name}"] = by_lines(corpus, shared, reported, only)
    return counts, notes


def measure_peer(name: str, program: str, seed: int) -> dict[str, Any]:
    """Counts of a peer on the strings that our redaction gets."""
    corpus = make_corpus(seed, HELD_OUT)
    with tempfile.TemporaryDirectory() as folder:
        strings = list(dict.fromkeys(read(corpus, Path(folder), seed, redacted=False).texts))
    only = set(PERSONAL) if name == "scrubadub" else set(SECRETS)
    return {name: by_lines(corpus, Places(corpus, strings), scanners.scan(name, program, strings), only)}


def _ours(corpus: Corpus, places: Places, ours: Recorder, left: set[str], there: set[str]) -> dict[str, list[int]]:
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for plant in corpus.plants:
        if not set(plant.value.pieces) & there:
            counts["not passed on by a reader"][1] += 1
            continue
        part = "secrets" if plant.is_secret else "personal"
        for name in ("recall", f"recall, {part}", f"recall, {plant.kind}", f"recall, {part} {plant.disguise}"):
            counts[name][0] += not set(plant.value.pieces) & left
            counts[name][1] += 1
    true = [places.is_planted(span) for span in ours.spans]
    counts["precision"] = [sum(true), len(true)]
    counts["precision, bytes"] = [sum(map(places.planted_bytes, ours.spans)), sum(span.end - span.start for span in ours.spans)]
    # A harmless text stands in one string, or in several: the line tells.
    wrong = {line for span, is_true in zip(ours.spans, true, strict=True) if not is_true for line in _lines(ours.texts[span.text], span)}
    for kind, text in corpus.harmless:
        touched = any(line.strip() and any(line in other for other in wrong) for line in text.splitlines())
        for name in ("harmless texts touched", f"harmless texts touched, {kind}"):
            counts[name][0] += touched
            counts[name][1] += 1
    return dict(counts)


def _lines(text: str, span: Span) -> list[str]:
    data = text.encode("utf-8", "surrogatepass")
    start = data.rfind(b"\n", 0, span.start) + 1
    end = data.find(b"\n", span.end)
    return data[start : end if end >= 0 else len(data)].decode("utf-8", "replace").splitlines()


def _notes(corpus: Corpus, places: Places, ours: Recorder, left: set[str], there: set[str]) -> list[str]:
    """What is wrong, to be looked at while rules are written."""
    missed = [
        f"MISSED {plant.kind} / {plant.disguise}: {sorted(set(plant.value.pieces) & left)[:2]} in {plant.dressed.text[:700]!r}"
        for plant in corpus.plants if set(plant.value.pieces) & left and set(plant.value.pieces) & there
    ]  # fmt: skip
    wrong = [
        f"WRONG {span.kind}: {ours.texts[span.text].encode()[span.start : span.end].decode(errors='replace')[:120]!r} in {_lines(ours.texts[span.text], span)[:1]!r:.300}"
        for span in ours.spans if not places.is_planted(span)
    ]  # fmt: skip
    return [*missed, *wrong]


def interval(hits: int, of: int) -> tuple[float, float]:
    """Wilson's, 95%."""
    if not of:
        return 0.0, 1.0
    z = 1.959964
    share, weight = hits / of, 1 + z * z / of
    centre = (share + z * z / (2 * of)) / weight
    spread = z / weight * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    return max(0.0, centre - spread), min(1.0, centre + spread)


def rows_of(counts: dict[str, dict[str, Sequence[int]]]) -> list[Row]:
    """Shares with intervals."""
    rows: list[Row] = []
    for arm, metrics in counts.items():
        for metric, (hits, of) in metrics.items():
            low, high = interval(hits, of)
            rows.append(Row(arm, metric, round(hits / of, 5) if of else None, round(low, 5), round(high, 5)))
    return rows


def summed(parts: Sequence[dict[str, dict[str, Sequence[int]]]]) -> dict[str, dict[str, Sequence[int]]]:
    """Counts of several seeds."""
    total: dict[str, dict[str, Sequence[int]]] = {}
    for part in parts:
        for arm, metrics in part.items():
            for metric, (hits, of) in metrics.items():
                before = total.setdefault(arm, {}).get(metric, (0, 0))
                total[arm][metric] = [before[0] + hits, before[1] + of]
    return total


def _tuning(show: int) -> None:
    parts = []
    for seed, part in TUNING:
        counts, notes = measure(seed, part)
        parts.append(counts)
        for kind in ("MISSED", "WRONG"):
            print("\n".join([note for note in notes if note.startswith(kind)][:show]))
    _print([dataclasses.asdict(row) for row in rows_of(summed(parts))])


def _print(rows: Sequence[dict[str, Any]]) -> None:
    for row in rows:
        value = "-" if row["value"] is None else f"{100 * row['value']:.2f}% [{100 * row['low']:.2f}, {100 * row['high']:.2f}]"
        print(f"{row['arm']:16s} {row['metric']:44s} {value}")


def main(arguments: list[str]) -> int:
    """See the top of this file."""
    parser = argparse.ArgumentParser(prog="benchmarks/run redaction")
    parser.add_argument("--detect-secrets", metavar="PYTHON", default="")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=PROGRAM")
    parser.add_argument("--tuning", action="store_true")
    parser.add_argument("--show", type=int, default=40)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    if options.tuning:
        _tuning(options.show)
        return 0
    peers = {"detect-secrets": options.detect_secrets} if options.detect_secrets else {}
    peers |= dict(peer.split("=", 1) for peer in options.peer)
    benchmark = Benchmark("redaction")

    def one(seed: int) -> tuple[list[Row], dict[str, Any]]:
        counts, _ = measure(seed)
        return rows_of(counts), {"counts": counts}

    def peer(name: str) -> tuple[list[Row], dict[str, Any]]:
        counts = measure_peer(name, peers[name], SEEDS[0])
        return rows_of(counts), {"counts": counts, "version": scanners.version(name, peers[name])}

    others = [benchmark.cell(f"{name}-{SEEDS[0]}", lambda name=name: peer(name), seed=SEEDS[0], ignoring=_OURS) for name in peers]
    results = [benchmark.cell(f"seed-{seed}", lambda seed=seed: one(seed), seed=seed) for seed in SEEDS]
    total = summed([result["details"]["counts"] for result in results])
    left_out = sum(not makes_sense(kind, disguise) for kind in (*SECRETS, *PERSONAL) for disguise in NAMES)
    details = {"counts": total, "seeds": SEEDS, "combinations left out": left_out, "combinations": len(NAMES) * (len(SECRETS) + len(PERSONAL)) - left_out}
    rows = benchmark.cell("total", lambda: (rows_of(total), details), inputs=lambda: {"counts": json.dumps(total, sort_keys=True)})["rows"]
    rows += [row for result in others for row in result["rows"]]
    if options.json:
        print(json.dumps(rows))
    else:
        _print(rows)
    return 0

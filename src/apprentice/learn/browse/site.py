"""A folder of pages in which every sample of an evaluation can be looked at, and what became of it in another one.

    Places --> index.html         a row for each measure and arm: how it did, and its lists
               MEASURE-ARM*.html  its samples, worst first; all, only right ones, only wrong ones
               commits.html       a row a commit, each with a list of its own
               sample-*.html      prompt, what the developer did, what each arm said, and how the two differ
               compare*.html      where another evaluation is better, worse, equal, arm by arm

Nothing runs in a page and nothing is asked for, so the folder can be opened from the disk, packed and sent. Names of pages are
numbers of ours; what comes from outside is text.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from apprentice.core import artifacts
from apprentice.core.folders import new_folder
from apprentice.core.linked import MAX_CELL, MAX_ROWS, Cell, Link, LinkedPage, address, paged
from apprentice.core.protocols import ProgressSink
from apprentice.core.text_safety import shorten
from apprentice.eval.samples import EDIT, LIKELIHOOD, LINE, MEASURES, Row
from apprentice.examples.example import Example
from apprentice.learn import report
from apprentice.learn.browse import places as reading
from apprentice.learn.browse.places import RIGHT, VERDICTS, WRONG, Place, outcome, value, verdict, worst_first

LogProbs = Callable[[Example], list[tuple[str, float]]]
"""What the developer wrote in pieces, each with the natural log of its probability."""
TITLES = {LIKELIHOOD: "how likely the developer's edit was", LINE: "the rest of a line", EDIT: "a whole edit"}
VALUES = {LIKELIHOOD: "bits per character", LINE: "the model's own probability", EDIT: "delta chrF"}
MAX_ANSWERS = 40
"""Arms whose words are on the page of a place."""
INDEX, COMMITS, COMPARE = "index", "commits", "compare"
HOME = [Link("all lists", address(INDEX)), Link("commits", address(COMMITS))]


@dataclass(slots=True)
class Browsed:
    """What was written."""

    pages: int = 0
    places: int = 0
    samples: int = 0
    without_example: int = 0
    """Places whose prompt is not known, for the examples do not have them."""
    compared: dict[str, int] = field(default_factory=dict)
    """Samples of the other evaluation by verdict; `not_comparable` were asked something else, `only_there` lie at other places."""


def write(
    folder: Path, to: Path, *, examples: Path, progress: ProgressSink, other: Path | None = None, log_probs: LogProbs | None = None
) -> Browsed:
    """Write the pages into a new folder. Raises: InputError."""
    others = reading.read_rows(other) if other is not None else []
    found = reading.places(reading.read_rows(folder), others, reading.read_examples(examples, folder))
    site = _Site(folder, other, found, others, log_probs)
    progress.stage("write pages", len(found), "places")
    done = Browsed(places=len(found), samples=sum(len(place.rows) for place in found))
    done.without_example = sum(place.example is None for place in found)
    done.compared = site.counts if other is not None else {}
    with new_folder(to) as beside:
        for name, page in site.pages():
            page.save(beside / name)
            done.pages += 1
            if name.startswith("sample-"):
                progress.advance()
    return done


class _Seen(NamedTuple):
    """An arm's sample at a place; with another evaluation beside it, that one's and how it did."""

    place: Place
    row: Row
    there: Row | None = None
    said: str | None = None


class _Site:
    """All pages, made one after the other."""

    def __init__(self, folder: Path, other: Path | None, places: Sequence[Place], others: Sequence[Row], log_probs: LogProbs | None) -> None:
        self._folder, self._other, self._places, self._log_probs = folder, other, places, log_probs
        self._names = {id(place): f"sample-{number:05d}.html" for number, place in enumerate(places, 1)}
        self._arms = {arm: number for number, arm in enumerate(sorted({arm for place in places for arm in place.rows}), 1)}
        self._commits = {commit: number for number, commit in enumerate(dict.fromkeys(place.commit for place in places), 1)}
        self._home = HOME if other is None else [*HOME, Link("comparison", address(COMPARE))]
        self._pairs = list(self._compare())
        self.counts = {name: sum(seen.said == name for seen in self._pairs) for name in VERDICTS}
        self.counts["not_comparable"] = len(self._pairs) - sum(self.counts.values())
        self.counts["only_there"] = len(others) - len(self._pairs)

    def pages(self) -> Iterator[tuple[str, LinkedPage]]:
        """(name, page)."""
        yield from self._lists()
        yield from self._lists_of_commits()
        if self._other is not None:
            yield from self._comparison()
        for number, place in enumerate(self._places):
            yield self._names[id(place)], self._sample(number, place)

    def _lists(self) -> Iterator[tuple[str, LinkedPage]]:
        index: list[list[Cell]] = []
        for (measure, arm), chosen in _groups(_Seen(place, row) for place in self._places for row in place.rows.values()):
            chosen.sort(key=lambda seen: worst_first(seen.row))
            name, title = f"{measure}-{self._arms[arm]}", f"{arm}: {TITLES[measure]}"
            filters = {name: ("all", chosen)}
            for kind in (RIGHT, WRONG) if measure != LIKELIHOOD else ():
                filters[f"{name}-{kind}"] = kind, [seen for seen in chosen if outcome(seen.row) == kind]
            links = [Link(f"{kind}: {len(some):,}", address(name)) for name, (kind, some) in filters.items()]
            index.append([measure, arm, _summary([seen.row for seen in chosen]), *links, *[""] * (3 - len(links))])
            header = ["sample", "commit", VALUES[measure], "outcome", "said"]
            for name, (kind, some) in filters.items():
                rows = [[*self._where(seen.place), *_told(seen.row)] for seen in some]
                yield from paged(name, title, f"{kind}, worst first", rows, header, [*self._home, *links])
        header = ["measure", "arm", "how it did", "samples", "", ""]
        for name, page in paged(INDEX, "Samples of an evaluation", "What each arm did at every place of the test", index, header, self._home):
            page.facts(self._facts())
            yield name, page

    def _facts(self) -> dict[str, str]:
        facts = {"evaluation": _shown(self._folder), **_made(self._folder)}
        if self._other is not None:
            facts["compared with"] = _shown(self._other)
        counts = {"samples": sum(len(place.rows) for place in self._places), "places": len(self._places), "commits": len(self._commits)}
        return facts | {name: f"{count:,}" for name, count in counts.items()}

    def _lists_of_commits(self) -> Iterator[tuple[str, LinkedPage]]:
        by_commit: dict[str, list[Place]] = {}
        for place in self._places:
            by_commit.setdefault(place.commit, []).append(place)
        rows: list[list[Cell]] = []
        for commit, chosen in by_commit.items():
            name = f"commit-{self._commits[commit]}"
            rows.append([Link(commit[:12], address(name)), str(len(chosen)), *(str(sum(place.measure == measure for place in chosen)) for measure in MEASURES)])
            listed: list[list[Cell]] = [[*self._where(place), place.measure, _right(place)] for place in chosen]
            yield from paged(name, f"Commit {commit}", "in the order of the history", listed, ["sample", "commit", "measure", "right"], self._home)
        yield from paged(COMMITS, "Commits of the test", "oldest first", rows, ["commit", "places", *MEASURES], self._home)

    def _comparison(self) -> Iterator[tuple[str, LinkedPage]]:
        index: list[list[Cell]] = []
        for (measure, arm), pairs in _groups(self._pairs):
            links: list[Cell] = []
            for kind in VERDICTS:
                chosen = sorted((seen for seen in pairs if seen.said == kind), key=lambda seen: -_gap(seen))
                name = f"{COMPARE}-{measure}-{self._arms[arm]}-{kind}"
                links.append(Link(f"{len(chosen):,}", address(name)))
                rows = [[*self._where(seen.place), _short(seen.row), _short(seen.there)] for seen in chosen]
                intro = f"{TITLES[measure]}; {VALUES[measure]}; the largest differences first"
                yield from paged(name, f"{arm}: {kind} there", intro, rows, ["sample", "commit", "here", "there"], self._home)
            index.append([measure, arm, *links, str(sum(seen.said is None for seen in pairs))])
        intro = (
            f"`{_shown(self._other)}` (there) beside `{_shown(self._folder)}` (here), at the places that both have; {self.counts['only_there']:,} samples there have "
            "no counterpart here"
        )
        yield from paged(COMPARE, "Two evaluations", intro, index, ["measure", "arm", *(f"{kind} there" for kind in VERDICTS), "not comparable"], self._home)

    def _sample(self, number: int, place: Place) -> LinkedPage:
        around = [(word, at) for word, at in (("previous", number - 1), ("next", number + 1)) if 0 <= at < len(self._places)]
        page = LinkedPage(f"{place.path}: {TITLES[place.measure]}")
        page.links([*self._home, *(Link(word, self._names[id(self._places[at])]) for word, at in around)])
        page.links([Link(f"commit {place.commit[:12]}", address(f"commit-{self._commits[place.commit]}"))])
        example = place.example
        old, new = _developer(place)
        if example is None:
            page.paragraph("The examples do not have this place, so what was asked and what the developer did is not known.")
        else:
            page.heading("What the developer did").facts({"line": example.edit.start_line + 1, "moment": shorten(place.moment, MAX_CELL)})
            page.changes(old, new)
            if self._log_probs is not None:
                page.paragraph("How likely the model found it, token by token: the darker, the less likely")
                page.shades(self._log_probs(example))
        self._answers(page, place, new)
        if example is not None:
            page.heading("What was asked").paragraph("Shown to all arms but those with a bare window or an intent")
            page.text(example.prompt, end=True)
        return page

    def _answers(self, page: LinkedPage, place: Place, developer: str) -> None:
        said = [*((arm, row) for arm, row in place.rows.items()), *((f"{arm}, there", row) for arm, row in place.others.items())]
        page.heading("Arms")
        page.rows([[arm, *_facts(row)] for arm, row in said[:MAX_ROWS]], ["arm", VALUES[place.measure], "outcome", "bits per token", "tokens", "seconds", "version"])
        for arm, row in said[:MAX_ANSWERS] if place.measure != LIKELIHOOD else ():
            page.heading(shorten(arm, MAX_CELL), 3)
            if row.error:
                page.paragraph(f"no answer: {row.error[:2000]}")
                continue
            answer = place.start + row.text if place.measure == LINE else report.replacement(row)
            page.text(answer)
            if place.example is not None:
                page.paragraph("What the developer wrote, and what this arm would have")
                page.changes(developer, answer)
        if len(said) > MAX_ANSWERS:
            page.paragraph(f"and {len(said) - MAX_ANSWERS:,} arms more")

    def _where(self, place: Place) -> list[Cell]:
        return [Link(f"{place.path}, {place.order}", self._names[id(place)]), Link(place.commit[:12], address(f"commit-{self._commits[place.commit]}"))]

    def _compare(self) -> Iterator[_Seen]:
        """Of each arm that both evaluations have at a place."""
        for place in self._places:
            for arm, row in place.rows.items():
                if arm in place.others:
                    yield _Seen(place, row, place.others[arm], verdict(row, place.others[arm]))


def _groups(all_seen: Iterable[_Seen]) -> list[tuple[tuple[str, str], list[_Seen]]]:
    """By measure and arm, in their order."""
    found: dict[tuple[str, str], list[_Seen]] = {}
    for seen in all_seen:
        found.setdefault((seen.place.measure, seen.row.arm), []).append(seen)
    return sorted(found.items(), key=lambda item: (MEASURES.index(item[0][0]), item[0][1]))


def _made(folder: Path) -> dict[str, str]:
    if not artifacts.is_finished(folder):
        return {"manifest": "none"}
    manifest = artifacts.read(folder)
    return {"hash": manifest.hash, "made": manifest.created, "by": manifest.code.get("commit", manifest.code.get("version", "?"))}


def _developer(place: Place) -> tuple[str, str]:
    """What stood there, and what the developer put in its place."""
    if place.example is None:
        return "", ""
    if place.measure == LINE:
        return place.start, place.start + place.example.target.rstrip("\n")
    return "\n".join(place.example.edit.old), "\n".join(place.example.edit.new)


def _summary(rows: Sequence[Row]) -> str:
    """Over all of an arm's places, as the report has it."""
    if rows[0].measure == LIKELIHOOD:
        size = sum(row.changed_chars for row in rows)
        return f"{sum(row.changed_bits for row in rows) / size:.3f} bits per changed character" if size > 0 else "-"
    return f"{sum(outcome(row) == RIGHT for row in rows) / len(rows):.1%} exact"


def _told(row: Row) -> list[Cell]:
    return [_number(value(row)), outcome(row), row.error or row.text]


def _short(row: Row | None) -> str:
    return " ".join(filter(None, (_number(value(row)), outcome(row)))) if row is not None else ""


def _facts(row: Row) -> list[Cell]:
    per_token = None if row.confidence is None or row.tokens <= 0 else -row.confidence / math.log(2) / row.tokens
    return [_number(value(row)), outcome(row), _number(per_token), str(row.tokens or ""), _number(row.seconds or None), row.version]


def _right(place: Place) -> str:
    if place.measure == LIKELIHOOD:
        return ""
    return f"{sum(outcome(row) == RIGHT for row in place.rows.values())} of {len(place.rows)}"


def _gap(seen: _Seen) -> float:
    here, there = value(seen.row), None if seen.there is None else value(seen.there)
    return abs(here - there) if here is not None and there is not None else 0.0


def _number(number: float | None) -> str:
    return "-" if number is None else f"{number:.4g}"


def _shown(folder: Path | None) -> str:
    """Pages are sent to others, whom the whole way to a folder does not concern."""
    return "" if folder is None else "/".join(folder.absolute().parts[-2:])

"""One request's generations as pieces of text: the same stream whether the client streams or waits.

    Work (requests, how many log-probabilities) --in the model's thread--> Piece ... Piece, Finish for each choice
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from apprentice.core.protocols import Generator, Request, Sample
from apprentice.serve.jobs import Job
from apprentice.serve.wanted import generate_while
from apprentice.serve.watching import Watched, Watcher
from apprentice.text.edits import UntilEndMark


@dataclass(frozen=True, slots=True)
class Piece:
    """Text that has become certain."""

    index: int
    text: str
    tokens: list[Watched]
    """Those it was made of, where log-probabilities were asked for."""


@dataclass(frozen=True, slots=True)
class Finish:
    """A choice has ended."""

    index: int
    reason: str
    """`stop` or `length`."""
    num_tokens: int
    tokens: list[Watched]
    """Those since the last piece."""


Event = Piece | Finish


@dataclass(frozen=True, slots=True)
class Ending:
    """For a reply that is given whole, once all was said."""

    finish: Callable[[Sample], str]
    """What was said, and how surely -> what is answered."""
    at_mark: bool = False
    """It ends once the mark of the edit language was said, which is then a part of what was said."""


@dataclass(slots=True)
class Choice:
    """What a client gets who waits for the end."""

    text: str = ""
    reason: str = "stop"
    num_tokens: int = 0
    tokens: list[Watched] = field(default_factory=list)

    def take(self, event: Event) -> None:
        self.tokens += event.tokens
        if isinstance(event, Piece):
            self.text += event.text
        else:
            self.reason, self.num_tokens = event.reason, event.num_tokens


def work(
    generator: Generator, requests: Sequence[Request], num_top: int | None, *, endings: Sequence[Ending | None] = ()
) -> Callable[[Job[Event]], None]:
    """To be submitted to the line. `num_top`: alternatives for each token; None = no log-probabilities. `endings`: for each
    request None, or how its reply is made."""
    ending_of = [*endings, *[None] * (len(requests) - len(endings))]

    def run(job: Job[Event]) -> None:
        watchers = [None if num_top is None else Watcher(num_top, request.mixture) for request in requests]
        watched = [
            request if watcher is None else replace(request, mixture=watcher)
            for request, watcher in zip(requests, watchers, strict=True)
        ]
        told = [0] * len(requests)

        def new_tokens(index: int) -> list[Watched]:
            watcher = watchers[index]
            if watcher is None:
                return []
            before, told[index] = told[index], len(watcher.tokens)
            return watcher.tokens[before:]

        marks = {index: UntilEndMark() for index, ending in enumerate(ending_of) if ending is not None and ending.at_mark}
        for mark in marks.values():
            # The line break that such a reply begins with is not shown.
            mark(0, 0, "\n")

        def on_token(index: int, token_id: int, text: str) -> bool:
            if text and ending_of[index] is None:
                job.give(Piece(index, text, new_tokens(index)))
            goes_on = marks[index](index, token_id, text) if index in marks else True
            return job.is_wanted and goes_on

        samples = generate_while(generator, watched, lambda: job.is_wanted, on_token=on_token)
        if not job.is_wanted:
            return
        for index, sample in enumerate(samples):
            reason = "length" if sample.finish_reason == "length" else "stop"
            if (ending := ending_of[index]) is not None:
                answer, tokens = ending.finish(sample), new_tokens(index)
                # What is not shown is not told by its tokens either.
                job.give(Piece(index, answer, tokens if answer or not sample.text else []))
            job.give(Finish(index, reason, len(sample.token_ids), new_tokens(index)))

    return run


def given_tokens(generator: Generator, token_ids: Sequence[int], num_top: int) -> list[Watched]:
    """The log-probability of each token of a text behind those in front of it; of the first there is none."""
    if len(token_ids) < 2:
        return []
    watcher = Watcher(num_top)
    generator.score([token_ids[:1]], [token_ids[1:]], mixtures=[watcher])
    return watcher.tokens

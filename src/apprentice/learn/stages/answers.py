"""base -> its own answers to everyday questions, which training repeats between the edits.

    questions.txt, base --sample, keep what comes to an end--> answers.jsonl (`messages`)

They depend on the base alone, so they are asked once on a machine and kept with the bases:

    ~/.cache/apprentice/answers/HASH/        all questions
    ~/.cache/apprentice/answers/HASH-30s/    those that were answered in that time: another budget asks again, and so does another
                                             run where a busy machine answered less than half of them
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec

from apprentice.core import artifacts, files, waiting
from apprentice.core.artifacts import Manifest
from apprentice.core.errors import InputError
from apprentice.core.protocols import Generator, ProgressSink, Request
from apprentice.learn.opening import open_model
from apprentice.learn.run import Run
from apprentice.model import base as bases
from apprentice.text.chat import UNDATED, Rendered, render
from apprentice.text.tokenizer import Tokenizer

KIND = "answers"
VERSION = 2
FILE = "answers.jsonl"
QUESTIONS = Path(__file__).with_name("questions.txt")
TEMPERATURE, TOP_P = 0.7, 0.95
"""Texts like those that it gives when it is used. Training repeats its distributions along them, not these draws."""
MAX_TOKENS = 256
FIRST = 16
"""Questions asked first: a base that comes to an end with none of them is asked no more."""
SHARE = 0.05
"""Of the budget, after which answers that are not done are given up."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What a base said."""

    hash: str
    conversations: list[Rendered]


def make(run: Run) -> Answers:
    """Of the run's base, within its share of the budget."""
    limit_s = SHARE * run.config.budget_s if run.config.by_clock else None
    return of(run.base_folder, run.base_hash, run.tokenizer, progress=run.progress, limit_s=limit_s)


def of(base: Path, base_hash: str, tokenizer: Tokenizer, *, progress: ProgressSink, limit_s: float | None = None) -> Answers:
    """Asked now, or found: all of them, where they were ever asked without a limit."""
    kept = files.make_folder(bases.cache_folder() / "answers")
    folder = kept / base_hash[:16]
    if limit_s is not None and _made(folder, base_hash) is None:
        folder = kept / f"{base_hash[:16]}-{limit_s:.0f}s"
    with waiting.lock(folder, progress.note):
        manifest = write(folder, base, base_hash, tokenizer, progress=progress, limit_s=limit_s)
        return Answers(manifest.hash, read(folder, tokenizer))


def write(
    folder: Path, base: Path, base_hash: str, tokenizer: Tokenizer, *, progress: ProgressSink, limit_s: float | None = None
) -> Manifest:
    """Ask a base, or find it asked. `limit_s`: seconds after which answers that are not done are given up."""
    parents = {"base": base_hash}
    found = _made(folder, base_hash)
    if found is not None and (limit_s is None or found.counts.get("cut_off", 0) <= found.counts["asked"] / 2):
        return found
    with artifacts.create(folder, kind=KIND, version=VERSION, parents=parents, config={}) as writer:
        questions = _questions() if tokenizer.chat_template is not None else []
        progress.stage("ask the base", len(questions), "questions")
        found, cut_off = _ask(questions, open_model(base, tokenizer), tokenizer, progress, limit_s) if questions else ([], 0)
        lines = [msgspec.json.encode({"messages": messages}).decode() for messages in found]
        files.write_text(writer.path(FILE), "".join(line + "\n" for line in lines))
        if cut_off > len(questions) / 2:
            progress.note(f"the base answered {len(found)} of {len(questions)} questions in its time: chat is rehearsed with these alone")
        counts = {"asked": len(questions), "answers": len(found)}
        return writer.finish(counts=counts | ({"cut_off": cut_off} if cut_off else {}))


def _made(folder: Path, base_hash: str) -> Manifest | None:
    if not artifacts.is_finished(folder):
        return None
    manifest = artifacts.read(folder, kind=KIND)
    return manifest if manifest.made_from(version=VERSION, parents={"base": base_hash}, config={}) else None


def read(folder: Path, tokenizer: Tokenizer) -> list[Rendered]:
    """What training wants. Raises: InputError where the file is damaged."""
    path = folder / FILE
    try:
        found = [msgspec.json.decode(line)["messages"] for line in path.read_bytes().splitlines()]
    except (OSError, msgspec.DecodeError, KeyError, TypeError) as error:
        raise InputError(f"`{path}` cannot be read: {error}", hint=f"remove `{folder}`, and it is made again") from error
    return [render(tokenizer, None, messages, variables=UNDATED) for messages in found]


def _questions() -> list[str]:
    return QUESTIONS.read_text(encoding="utf-8").splitlines()


def _ask(
    questions: list[str], generator: Generator, tokenizer: Tokenizer, progress: ProgressSink, limit_s: float | None
) -> tuple[list[list[dict[str, str]]], int]:
    """The answers that came to an end, and how many questions the time was over for."""
    deadline = math.inf if limit_s is None else time.monotonic() + limit_s
    requests = [_request(tokenizer, question, seed) for seed, question in enumerate(questions)]
    found: list[list[dict[str, str]]] = []
    cut_off = 0
    for part in (slice(0, FIRST), slice(FIRST, None)):
        samples = generator.generate(requests[part], on_token=lambda *_: time.monotonic() < deadline)
        cut_off += sum(sample.finish_reason == "cancelled" for sample in samples)
        for question, sample in zip(questions[part], samples, strict=True):
            if sample.finish_reason == "stop" and sample.text.strip():
                found.append([{"role": "user", "content": question}, {"role": "assistant", "content": sample.text}])
        progress.advance(len(samples))
        if not found:
            if time.monotonic() >= deadline:
                cut_off += len(questions) - len(samples)
            break
    return found, cut_off


def _request(tokenizer: Tokenizer, question: str, seed: int) -> Request:
    prompt = render(tokenizer, None, [{"role": "user", "content": question}], add_generation_prompt=True)
    return Request(
        prompt_ids=prompt.token_ids, max_tokens=MAX_TOKENS, temperature=TEMPERATURE, top_p=TOP_P, seed=seed,
        stop_ids=tokenizer.eos_ids,
    )  # fmt: skip

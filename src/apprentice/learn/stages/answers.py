"""base -> answers/: its own answers to everyday questions, which training repeats between the edits.

    questions.txt, base --sample, keep what comes to an end--> answers.jsonl (`messages`)

Made once for a base and kept beside the sessions, since every run starts from the same base.
"""

from __future__ import annotations

import math
import time
from pathlib import Path

import msgspec

from apprentice.core import artifacts, files
from apprentice.core.artifacts import Manifest
from apprentice.core.errors import InputError
from apprentice.core.protocols import Generator, ProgressSink, Request
from apprentice.learn.opening import open_model
from apprentice.learn.run import Run
from apprentice.text.chat import Rendered, render
from apprentice.text.tokenizer import Tokenizer

KIND = "answers"
VERSION = 1
FILE = "answers.jsonl"
QUESTIONS = Path(__file__).with_name("questions.txt")
TEMPERATURE = 1.0
"""What is repeated then has the frequencies that the base gives it. With 0.7 the model grew surer of itself: a hundred fixed
replies cost 2.5% more bits."""
MAX_TOKENS = 256
FIRST = 16
"""Questions asked first: a base that comes to an end with none of them is asked no more."""
SHARE = 0.05
"""Of the budget, after which answers that are not done are given up."""


def make(run: Run) -> Manifest:
    """Ask the run's base, or find it asked."""
    limit_s = SHARE * run.config.budget_s if run.config.by_clock else None
    return write(run.home.answers, run.base_folder, run.base_hash, run.tokenizer, progress=run.progress, limit_s=limit_s)


def write(
    folder: Path, base: Path, base_hash: str, tokenizer: Tokenizer, *, progress: ProgressSink, limit_s: float | None = None
) -> Manifest:
    """Ask a base, or find it asked. `limit_s`: seconds after which answers that are not done are given up."""
    parents = {"base": base_hash}
    if artifacts.is_finished(folder):
        manifest = artifacts.read(folder, kind=KIND)
        if manifest.made_from(version=VERSION, parents=parents, config={}):
            return manifest
    with artifacts.create(folder, kind=KIND, version=VERSION, parents=parents, config={}) as writer:
        questions = _questions() if tokenizer.chat_template is not None else []
        progress.stage("ask the base", len(questions), "questions")
        found = _ask(questions, open_model(base, tokenizer), tokenizer, progress, limit_s) if questions else []
        lines = [msgspec.json.encode({"messages": messages}).decode() for messages in found]
        files.write_text(writer.path(FILE), "".join(line + "\n" for line in lines))
        return writer.finish(counts={"asked": len(questions), "answers": len(found)})


def read(folder: Path, tokenizer: Tokenizer) -> list[Rendered]:
    """What training wants. Raises: InputError where the file is damaged."""
    path = folder / FILE
    try:
        found = [msgspec.json.decode(line)["messages"] for line in path.read_bytes().splitlines()]
    except (OSError, msgspec.DecodeError, KeyError, TypeError) as error:
        raise InputError(f"`{path}` cannot be read: {error}", hint=f"remove `{folder}`, and it is made again") from error
    return [render(tokenizer, None, messages) for messages in found]


def _questions() -> list[str]:
    return QUESTIONS.read_text(encoding="utf-8").splitlines()


def _ask(
    questions: list[str], generator: Generator, tokenizer: Tokenizer, progress: ProgressSink, limit_s: float | None
) -> list[list[dict[str, str]]]:
    """The answers that came to an end."""
    deadline = math.inf if limit_s is None else time.monotonic() + limit_s
    requests = [_request(tokenizer, question, seed) for seed, question in enumerate(questions)]
    found: list[list[dict[str, str]]] = []
    for part in (slice(0, FIRST), slice(FIRST, None)):
        samples = generator.generate(requests[part], on_token=lambda *_: time.monotonic() < deadline)
        for question, sample in zip(questions[part], samples, strict=True):
            if sample.finish_reason == "stop" and sample.text.strip():
                found.append([{"role": "user", "content": question}, {"role": "assistant", "content": sample.text}])
        progress.advance(len(samples))
        if not found:
            break
    return found


def _request(tokenizer: Tokenizer, question: str, seed: int) -> Request:
    prompt = render(tokenizer, None, [{"role": "user", "content": question}], add_generation_prompt=True)
    return Request(
        prompt_ids=prompt.token_ids, max_tokens=MAX_TOKENS, temperature=TEMPERATURE, seed=seed,
        stop_ids=tokenizer.eos_ids,
    )  # fmt: skip

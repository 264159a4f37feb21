"""`apprentice eval`: models side by side on held-out newer work."""

from __future__ import annotations

import os
import shlex
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apprentice.cli.common import JsonFlag, print_next, print_result
from apprentice.core.errors import InputError

API_KEY = "APPRENTICE_EVAL_API_KEY"
"""Variable with the key for `--url`."""

if TYPE_CHECKING:
    from apprentice.eval.arms import RemoteArm
    from apprentice.learn.compare import Contestant
    from apprentice.text.tokenizer import Tokenizer


def evaluate(
    *,
    examples: Path,
    sessions: Path,
    out: Path,
    model: tuple[str, ...] = (),
    url: tuple[str, ...] = (),
    base: str = "default",
    budget: str | None = None,
    commits: int = 0,
    per_commit: int = 4,
    seed: int = 0,
    json: JsonFlag = False,
) -> None:
    """Measure models on held-out newer work, all at the same places; every sample is kept.

    Parameters
    ----------
    examples
        Folder of examples.
    sessions
        Folder of the sessions that they were made from.
    out
        Folder of the samples; the same command goes on where it stopped.
    model
        A folder as NAME=FOLDER, also quantized; may be given several times.
    url
        A server as NAME=URL,MODEL, for what needs no log-probabilities; may be given several times. It is sent prompts of your code, and
        the key that is in the variable APPRENTICE_EVAL_API_KEY, if it is set.
    base
        The base that is measured besides.
    budget
        Time for evaluating; all held-out commits where not given.
    commits
        Most held-out commits; 0 takes all.
    per_commit
        Most places of a commit.
    seed
        Of the order of commits and of the intervals.
    """
    from apprentice.core.machine import share_cores

    share_cores()
    from apprentice.core import files
    from apprentice.core.progress import Progress
    from apprentice.eval.runner import EvaluationConfig
    from apprentice.eval.samples import Samples
    from apprentice.examples.history import History
    from apprentice.learn.compare import TestBench
    from apprentice.learn.config import check_seed, parse_budget
    from apprentice.model import base as bases
    from apprentice.sessions.store import Sessions
    from apprentice.text.tokenizer import Tokenizer

    budget_s = None if budget is None else parse_budget(budget)
    check_seed(seed)
    models, servers = _pairs(model, "--model"), _pairs(url, "--url")
    _check(models, servers, commits, per_commit)
    with Progress() as progress:
        folder = bases.resolve(None if base == "default" else base, progress=progress)
        tokenizer = Tokenizer.load(folder)
        bench = TestBench(examples, History(Sessions.open(sessions)), tokenizer, progress)
        contestants = _contestants({"base": folder, **{name: Path(path) for name, path in models}}, tokenizer)
        arms = [bench.arm(contestants[0], bare=True, name="window")]
        arms += [bench.arm(one, memory=memory) for one in contestants for memory in (False, True)]
        config = EvaluationConfig(max_per_commit=per_commit, max_commits=commits, seed=seed)
        comparison, rows = bench.run(
            Samples(files.make_folder(out)), contestants, [*arms, *_remote_arms(servers, tokenizer)], config, budget_s=budget_s
        )
    summary = comparison.summary()
    print_result(summary, json_output=json, text=lambda: _text(summary))
    if failed := [row for row in rows if row.error]:
        raise InputError(
            f"{len(failed):,} answers of `{failed[0].arm}` did not come, and count as wrong: {failed[0].error}",
            hint="look at the server; the same command asks them again",
        )
    if not json:
        print_next(f"apprentice show --browse {shlex.quote(str(out))} --examples {shlex.quote(str(examples))} --to PAGES")


def _contestants(folders: dict[str, Path], tokenizer: Tokenizer) -> list[Contestant]:
    from apprentice.learn.compare import Contestant
    from apprentice.learn.opening import open_model, weights_hash
    from apprentice.memory.gate import Gate

    return [
        Contestant(
            name=name, generator=open_model(path, tokenizer), source=weights_hash(path), gate=Gate.default(), gate_hash="default"
        )
        for name, path in folders.items()
    ]  # fmt: skip


def _remote_arms(servers: list[tuple[str, str]], tokenizer: Tokenizer) -> list[RemoteArm]:
    from apprentice.eval.arms import RemoteArm
    from apprentice.eval.remote import Completions

    arms = []
    for name, where in servers:
        address, _, served = where.partition(",")
        complete = Completions(url=address, model=served, api_key=os.environ.get(API_KEY, ""))
        arms.append(RemoteArm(name=name, complete=complete, tokenizer=tokenizer, source=where))
    return arms


def _text(summary: dict[str, Any]) -> str:
    from apprentice.core.text_safety import terminal_safe
    from apprentice.learn import report

    header, rows = report.table(summary)
    return terminal_safe("\n".join([report.aligned([header, *rows]), "", report.aligned(report.difference_rows(summary))]))


def _check(models: list[tuple[str, str]], servers: list[tuple[str, str]], commits: int, per_commit: int) -> None:
    """Before anything is loaded. Raises: ConfigError."""
    from apprentice.core.errors import ConfigError

    names = ["base", "window", *(name for name, _ in models), *(name for name, _ in servers)]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise ConfigError(f"two are called `{twice[0]}`", hint="give each model and server a name of its own; `base` and `window` are taken")
    if unnamed := [where for _, where in servers if not where.partition(",")[2]]:
        raise ConfigError(f"`{unnamed[0]}` does not say which model", hint="write it as `--url NAME=URL,MODEL`")
    if commits < 0 or per_commit < 1:
        raise ConfigError("`--commits` must be 0 or more, `--per-commit` 1 or more", hint="leave them out")


def _pairs(words: tuple[str, ...], option: str) -> list[tuple[str, str]]:
    from apprentice.core.errors import ConfigError

    pairs = [word.partition("=") for word in words]
    if bad := [name for name, equals, value in pairs if not (name and equals and value)]:
        raise ConfigError(f"`{option} {bad[0]}` has no name or no value", hint=f"write it as `{option} NAME=VALUE`")
    return [(name, value) for name, _, value in pairs]

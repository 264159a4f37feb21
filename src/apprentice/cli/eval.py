"""`apprentice eval`: models side by side on held-out newer work."""

from __future__ import annotations

from pathlib import Path

from apprentice.cli.common import JsonFlag, print_next, print_result


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
        A server as NAME=URL,MODEL, for what needs no log-probabilities; may be given several times.
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
    from apprentice.eval.arms import RemoteArm
    from apprentice.eval.remote import Completions
    from apprentice.eval.runner import EvaluationConfig
    from apprentice.examples.history import History
    from apprentice.learn import report
    from apprentice.learn.compare import Contestant, TestBench
    from apprentice.learn.config import parse_budget
    from apprentice.learn.opening import open_model, weights_hash
    from apprentice.memory.gate import Gate
    from apprentice.model import base as bases
    from apprentice.sessions.store import Sessions
    from apprentice.text.tokenizer import Tokenizer

    with Progress() as progress:
        folder = bases.resolve(None if base == "default" else base, progress=progress)
        named = {"base": folder, **{name: Path(path) for name, path in _pairs(model, "--model")}}
        tokenizer = Tokenizer.load(folder)
        bench = TestBench(examples, History(Sessions.open(sessions)), tokenizer, progress)
        contestants = [
            Contestant(name=name, generator=open_model(path, tokenizer), source=weights_hash(path), gate=Gate.default(), gate_hash="default")
            for name, path in named.items()
        ]
        arms = [bench.arm(contestants[0], bare=True, name="window")]
        arms += [bench.arm(one, memory=memory) for one in contestants for memory in (False, True)]
        remote = []
        for name, where in _pairs(url, "--url"):
            address, _, served = where.partition(",")
            remote.append(RemoteArm(name=name, complete=Completions(address, served), tokenizer=tokenizer, source=where))
        config = EvaluationConfig(max_per_commit=per_commit, max_commits=commits, seed=seed)
        comparison, _ = bench.run(
            files.make_folder(out), contestants, [*arms, *remote], config, budget_s=None if budget is None else parse_budget(budget)
        )
    summary = comparison.summary()
    header, rows = report.table(summary)
    print_result(summary, json_output=json, text=lambda: "\n".join([report.aligned([header, *rows]), "", report.aligned(report.difference_rows(summary))]))
    if not json:
        print_next(f"apprentice show {out}")


def _pairs(words: tuple[str, ...], option: str) -> list[tuple[str, str]]:
    from apprentice.core.errors import ConfigError

    pairs = [word.partition("=") for word in words]
    if bad := [name for name, equals, value in pairs if not (name and equals and value)]:
        raise ConfigError(f"`{option} {bad[0]}` has no name or no value", hint=f"write it as `{option} NAME=VALUE`")
    return [(name, value) for name, _, value in pairs]

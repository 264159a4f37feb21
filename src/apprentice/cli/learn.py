"""`apprentice learn`: the whole loop in one command."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import cyclopts

from apprentice.cli.common import JsonFlag, print_next, print_result


def learn(
    *,
    repo: tuple[Path, ...] = (),
    sessions: tuple[Path, ...] = (),
    base: str = "default",
    weights: Literal["auto", "full", "upper", "lora"] = "auto",
    budget: str = "10m",
    steps: int | None = None,
    eval_commits: int | None = None,
    limit_commits: int = 3000,
    learn_from: tuple[str, ...] = (),
    commit_conversations: Annotated[bool, cyclopts.Parameter(negative="")] = False,
    set_: Annotated[tuple[str, ...], cyclopts.Parameter(name="--set", negative="")] = (),
    seed: int = 0,
    out: Path = Path(".apprentice"),
    dry_run: Annotated[bool, cyclopts.Parameter(negative="")] = False,
    json: JsonFlag = False,
) -> None:
    """Learn from a repository's history: read, train, quantize, measure.

    Parameters
    ----------
    repo
        Git repository to learn from; may be given several times. Without it: the checkout at hand.
    sessions
        Sessions, learned from besides the checkout at hand, or an exported history, alone; may be given several times.
    base
        Where the weights come from: a folder, a GGUF file, a hub name, or `debug`.
    weights
        What is trained: all weights, the upper half of the layers, or adapters.
    budget
        Time of the whole run, without set-up, such as `10m` or `1h30m`.
    steps
        Steps of training, where the clock shall not decide.
    eval_commits
        Held-out commits to evaluate, where the clock shall not decide.
    limit_commits
        Newest commits read of each repository.
    learn_from
        Whose words carry loss: `developer`, `assistant:NAME`, `tool`; several times for several. Without it: what
        `policy.toml` in the folder of the runs says, else developers.
    commit_conversations
        Learn from commits as conversations too: messages for changes, and changes of files for a message.
    set_
        A key of the recipe of training, as `--set silence=0.1`; may be given several times.
    seed
        Of the order of data, samples and intervals.
    out
        Folder of the runs.
    dry_run
        Print what would be done and what it would cost, and do nothing.
    """
    from apprentice.core.machine import share_cores
    from apprentice.core.progress import Progress
    from apprentice.learn.config import LearnConfig, parse_budget

    config = LearnConfig(
        repositories=tuple(path.absolute() for path in repo), sessions=tuple(path.absolute() for path in sessions), base=base,
        weights=weights, budget_s=parse_budget(budget), steps=steps, seed=seed, limit_commits=limit_commits,
        eval_commits=eval_commits, learn_from=learn_from, recipe=set_, commit_conversations=commit_conversations,
    )  # fmt: skip
    if set_:
        from apprentice.core import config as recipes
        from apprentice.train.sft import SftConfig

        # Before anything is fetched or read.
        recipes.load(SftConfig, None, set_)
    if dry_run:
        from apprentice.learn import advice

        found = advice.dry_run(config, Path.cwd())
        print_result(found, json_output=json, text=lambda: "\n".join(f"{name}: {value}" for name, value in found.items()))
        return
    share_cores()
    from apprentice.learn import graph

    with Progress() as progress:
        learned = graph.learn(config, Path.cwd(), out, progress)
    print_result(learned.result, json_output=json, text=lambda: _text(learned))
    print_next("apprentice complete FILE:LINE --why")


def _text(learned: object) -> str:
    from apprentice.learn import report
    from apprentice.learn.graph import Learned

    assert isinstance(learned, Learned)
    header, rows = report.table(learned.result)
    parts = [*(["nothing new since the last run, which said:"] if learned.nothing_new else []), ""]
    if rows:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        for part in in_width([header, *rows], width):
            parts += [report.aligned(part), ""]
        parts += [report.aligned(report.difference_rows(learned.result)), ""]
        parts += report.warnings(learned.result)
    else:
        parts.append("nothing was evaluated, the time was over; a larger `--budget` leaves some")
    return "\n".join([*parts, learned.claim, f"report: {learned.report}", *([learned.advice] if learned.advice else [])])


def in_width(table: Sequence[Sequence[str]], width: int | None) -> list[list[list[str]]]:
    """The table in parts that are not wider than a terminal, where one column allows it, each with the first column."""
    widths = [max(len(row[column]) for row in table) + 2 for column in range(len(table[0]))]
    groups: list[list[int]] = [[0]]
    for column in range(1, len(widths)):
        taken = sum(widths[one] for one in groups[-1]) + widths[column] - 2
        if width is not None and taken > width and len(groups[-1]) > 1:
            groups.append([0])
        groups[-1].append(column)
    return [[[row[column] for column in group] for row in table] for group in groups]

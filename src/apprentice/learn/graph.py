"""The whole loop, stage by stage: sessions, examples, the base's answers, training, quantizing, gates, silence,
evaluation, memory, report.

    learn(config, folder) --> Learned(result, claim, ...)

Each stage leaves an artifact and is passed over where its artifact is still right, so a killed run goes on where it was
and a run with nothing new ends at once. The new model is served from now on if there was none, or if it is better than
the one that is served now on held-out newer work.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from apprentice.core import files, machine
from apprentice.core.artifacts import Manifest
from apprentice.core.errors import ConfigError
from apprentice.core.protocols import ProgressSink
from apprentice.eval import store as evaluation_store
from apprentice.eval.comparison import Comparison, better
from apprentice.eval.statistics import Resampling
from apprentice.examples import conversation_store
from apprentice.examples import store as examples_store
from apprentice.examples.history import History
from apprentice.learn import report
from apprentice.learn.advice import recommend
from apprentice.learn.compare import Contestant
from apprentice.learn.config import LearnConfig
from apprentice.learn.current import Current
from apprentice.learn.opening import open_model
from apprentice.learn.run import CURRENT, RESULT, Home, Run, asked
from apprentice.learn.stages import (
    answers,
    base,
    conversations,
    evaluation,
    examples,
    memory,
    quantize,
    sessions,
    silence,
    silent_places,
    train,
)
from apprentice.learn.stages.evaluation import Evaluated
from apprentice.learn.stages.silence import Silence
from apprentice.memory import store as memory_store
from apprentice.sessions import policy as policies
from apprentice.sessions import store as sessions_store
from apprentice.sessions.policy import Policy
from apprentice.sessions.store import Sessions
from apprentice.text.tokenizer import Tokenizer

SAMPLES_SHOWN = 8
VERSIONS = {
    "sessions": sessions_store.VERSION, "examples": examples_store.VERSION, "conversations": conversation_store.VERSION,
    "answers": answers.VERSION, "quantized": quantize.VERSION, "gates": memory.VERSION, "silence": silence.VERSION,
    "memory": memory_store.VERSION, "evaluation": evaluation_store.VERSION,
}  # fmt: skip
"""What a finished run was made by: another number makes it stale."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """Which model is served from now on."""

    replaces: bool
    why: str = ""
    """A sentence for the report; empty where there was none before."""


@dataclass(frozen=True, slots=True)
class Learned:
    """What a run ends in."""

    result: dict[str, Any]
    """The object of `learn --json`."""
    claim: str
    """What it comes down to, in one sentence."""
    report: Path
    advice: str
    """Which larger base would fit this machine; empty where it is not known."""
    nothing_new: bool


def learn(config: LearnConfig, folder: Path, out: Path, progress: ProgressSink) -> Learned:
    """Run the loop in `folder` (the repository at hand); everything is written below `out`."""
    home = Home.create(out)
    with files.lock(out):
        policy = policies.chosen(config.learn_from, home.folder)
        run = _open(home, replace(config, learn_from=() if policy == Policy() else policy.learn_from), progress)
        run.clock.enter("base")
        base.make(run)
        # Set-up is not learning: downloads and conversions are not charged to the budget.
        run.clock.forgive()
        run.clock.enter("sessions")
        read = sessions.make(run, folder)
        if run.stored("sessions", lambda: read.hash) != read.hash:
            run.progress.note("there is something new to learn from since this run was interrupted: its time begins anew")
            run.restart()
            run.stored("sessions", lambda: read.hash)
        if old := _same(home, run, read):
            files.remove_tree(run.folder)
            return old
        return _work(run, read)


def _open(home: Home, config: LearnConfig, progress: ProgressSink) -> Run:
    """The unfinished run with this config, or a new one."""
    for path in reversed(home.runs()):
        asked_path = path / "run.json"
        if not asked_path.is_file():
            # It was interrupted before it began.
            files.remove_tree(path)
        elif not (path / RESULT).is_file():
            if json.loads(asked_path.read_text(encoding="utf-8")) == {"config": asked(config), "versions": VERSIONS}:
                progress.note(f"going on with the run `{path}`")
                return Run(home, path, config, progress)
    path = home.new_run()
    files.write_json(path / "run.json", {"config": asked(config), "versions": VERSIONS})
    return Run(home, path, config, progress)


def _same(home: Home, run: Run, read: Sessions) -> Learned | None:
    """The latest finished run, if this one would do the same again."""
    finished = [path for path in home.runs() if (path / RESULT).is_file()]
    if not finished:
        return None
    last = json.loads((finished[-1] / RESULT).read_text(encoding="utf-8"))
    inputs = {"config": asked(run.config), "versions": VERSIONS, "sessions": read.hash, "base": run.base_hash}
    if last["inputs"] != inputs:
        return None
    return Learned(last["result"], last["claim"], finished[-1] / "report" / "index.html", last["advice"], True)


def _work(run: Run, read: Sessions) -> Learned:
    history = History(read, policy=run.policy)
    run.clock.enter("examples")
    made = examples.make(run, read)
    if not made.counts.get("test_next_edit") or not made.counts.get("train_next_edit"):
        raise ConfigError("too few usable edits to learn from and to test on", hint="name a repository with more history")
    talks = conversations.make(run, read, made.hash)
    quiet = silent_places.make(run, read, made.hash, share=train.recipe(run).silence)
    run.clock.enter("answers")
    said = answers.make(run)
    run.clock.enter("train")
    trained = train.make(run, made.hash, said, talks=talks, silent=quiet)
    run.clock.enter("quantize")
    quantized = quantize.make(run, run.artifact("checkpoint"), trained.hash, made.hash)
    run.clock.enter("gates")
    models = _models(run, read, history, made, trained, quantized)
    run.clock.enter("silence")
    silent = silence.make(
        run, history, models["quantized"], {"examples": made.hash, "model": quantized.hash, "gate": models["quantized"].gate_hash}
    )
    run.clock.enter("evaluate")
    parents = {"examples": made.hash, **{name: model.source for name, model in models.items()},
               **{f"gate_{name}": model.gate_hash for name, model in models.items()}}  # fmt: skip
    evaluated = evaluation.make(run, history, models, parents)
    run.clock.enter("memory")
    verdict = _verdict(run, evaluated)
    # Whichever model is served is served with what is known now, and with the gate that was fitted to it.
    keeper = models["tuned" if verdict.replaces else "current"]
    remembered = memory.make(run, read, history, keeper.gate, keeper.gate_hash)
    run.clock.enter("report")
    return _finish(run, read, evaluated, silent, trained, quantized, remembered, verdict)


def _models(
    run: Run, read: Sessions, history: History, made: Manifest, trained: Manifest, quantized: Manifest
) -> dict[str, Contestant]:
    """Base, tuned and quantized model and, where another is served now, that one; each with a gate of its own."""
    parents = {"examples": made.hash, "sessions": read.hash}
    folders = {"base": run.base_folder, "tuned": run.artifact("checkpoint"), "quantized": run.artifact("quantized")}
    hashes = {"base": run.base_hash, "tuned": trained.hash, "quantized": quantized.hash}
    generators = {name: open_model(folder, run.tokenizer) for name, folder in folders.items()}
    gates = {
        name: memory.make_gate(run, name, history, generators[name], {**parents, "model": hashes[name]})
        for name in ("base", "tuned")
    }
    # Four bits move the model's probabilities little: the gate is that of the model that was quantized.
    gates["quantized"] = gates["tuned"]
    served, tokenizers = Current.before(run), dict[str, Tokenizer]()
    if served is not None and served.quantized_hash != quantized.hash:
        # Of another base, too: bits are counted for each character.
        tokenizers["current"] = run.tokenizer if served.base_hash == run.base_hash else Tokenizer.load(served.quantized)
        generators["current"], hashes["current"] = open_model(served.quantized, tokenizers["current"]), served.quantized_hash
        gates["current"] = served.gate()
    return {
        name: Contestant(
            name=name, generator=generators[name], source=hashes[name], gate=gate, gate_hash=gate_hash, tokenizer=tokenizers.get(name)
        )
        for name, (gate, gate_hash) in gates.items()
    }


def _verdict(run: Run, evaluated: Evaluated) -> Verdict:
    """The served model is compared where it has learned nothing either: another limit of commits, or a rewritten history, moves what
    is held out."""
    if "current_memory" not in evaluated.comparison.arms:
        return Verdict(replaces=True)
    served = Current.before(run)
    seen = None if served is None else served.commits_seen()
    rows = [row for row in evaluated.rows if seen is None or row.commit not in seen]
    if len({row.commit for row in rows}) < min(report.FEW_COMMITS, evaluated.comparison.heldout()["commits"]):
        return Verdict(replaces=True, why="The model served so far had learned from most of these commits, so they cannot be compared; it is replaced.")
    comparison = Comparison(rows, evaluated.comparison.arms, Resampling(seed=run.config.seed))
    replaces = better(comparison, "quantized_memory", "current_memory")
    return Verdict(replaces=replaces, why="It replaces the model served so far." if replaces else "The model served so far is kept: it is better.")


def _finish(
    run: Run, read: Sessions, evaluated: Evaluated, silent: Silence, trained: Manifest, quantized: Manifest, remembered: Manifest,
    verdict: Verdict,
) -> Learned:  # fmt: skip
    comparison = evaluated.comparison
    claim = _claim(comparison.summary(), verdict, may_claim=run.may_claim)
    folder = files.make_folder(run.artifact("report"))
    run.clock.tick()
    result = comparison.learn_json(
        seconds={name: round(seconds, 1) for name, seconds in run.clock.stages.items() if seconds >= 0.05},
        peak_gib=round(machine.peak_memory_gib(), 2),
        seed=run.config.seed,
        learned_tokens=trained.extra.get("learned_tokens", {}),
        artifacts={name: str(run.artifact(name)) for name in ("examples", "checkpoint", "quantized", "memory", "silence", "evaluation", "report")},
    )
    result["silence"] = silence.described(silent)
    report.write(
        folder / "index.html", result, claim=claim,
        curve=_curve(trained), silence=silent.reliability,
        samples=report.samples(evaluated.rows, list(examples_store.read(run.artifact("examples"), "test")), SAMPLES_SHOWN),
        provenance=_provenance(run, read, trained, quantized),
    )  # fmt: skip
    described = Current.describe(run, quantized, remembered) if verdict.replaces else Current.remembering(run, remembered)
    files.write_json(run.home.folder / CURRENT, described)
    inputs = {"config": asked(run.config), "versions": VERSIONS, "sessions": read.hash, "base": run.base_hash}
    advice = _advice(run, trained)
    files.write_json(
        run.folder / RESULT, {"inputs": inputs, "claim": claim, "advice": advice, "replaces": verdict.replaces, "result": result}
    )
    return Learned(result, claim, folder / "index.html", advice, False)


def _advice(run: Run, trained: Manifest) -> str:
    gflops = float(trained.extra.get("peak_gflops") or 0.0)
    return recommend(gflops, run.config.base) if gflops > 0 and run.config.base == "default" else ""


def _claim(summary: dict[str, Any], verdict: Verdict, *, may_claim: bool) -> str:
    """One honest sentence. Learned has what the weights add to the memory, which the base can have too."""
    gain = summary["differences"].get("tuned_memory-base")
    if not gain or gain[0] is None:
        return "Too little was evaluated to say whether the model learned."
    value, low, high = gain
    interval = f"{value:+.3f} bits per changed character" + (f" [{low:+.3f}, {high:+.3f}]" if low is not None else "")
    if not may_claim:
        claim = f"There is too little history for a claim about learning; against the base, memory and weights together measure {interval}."
        return f"{claim} {verdict.why}".rstrip()
    weights = summary["differences"].get("tuned_memory-base_memory") or (None, None, None)
    if high is not None and high < 0 and (weights[2] is None or weights[2] >= 0):
        worse = weights[1] is not None and weights[1] > 0
        added = "cannot be seen" if weights[0] is None else f"is {'a loss' if worse else 'no clear difference'}, {weights[0]:+.3f}"
        claim = f"The memory predicts newer edits better than the base alone, {interval}; what training adds to it {added}."
    elif high is not None and high < 0:
        claim = f"It learned: memory and weights together predict newer edits better than the base, {interval}."
    elif low is not None and low > 0:
        claim = f"It got worse: memory and weights together predict newer edits worse than the base, {interval}."
    else:
        claim = f"No clear difference between the trained model and the base on this test: {interval}."
    if summary["heldout"]["commits"] < report.FEW_COMMITS:
        claim += " With so few commits that is a hint, not a finding."
    return f"{claim} {verdict.why}".rstrip()


def _curve(trained: Manifest) -> list[report.CurvePoint]:
    points = trained.extra.get("heldout_bits_per_changed_token", [])
    per_step = trained.counts.get("tokens", 0) / max(trained.counts.get("steps", 0), 1)
    return [report.CurvePoint(tokens=round(step * per_step), bits=bits) for step, bits in points]


def _provenance(run: Run, read: Sessions, trained: Manifest, quantized: Manifest) -> dict[str, object]:
    learned = trained.extra.get("learned_tokens", {})
    return {
        "learned from": ", ".join(read.repositories()),
        "policy": "learns from " + ", ".join(run.policy.learn_from),
        "tokens learned from developers": f"{learned.get('developer', 0):,}",
        "tokens learned from assistants": f"{learned.get('assistant', 0):,}",
        "tokens only read": f"{trained.extra.get('context_tokens', 0):,}",
        "redacted": ", ".join(f"{kind} {count:,}" for kind, count in read.manifest.extra.get("redacted", {}).items()) or "nothing found",
        "base": Path(run.config.base).name if Path(run.config.base).exists() else run.config.base,
        "base hash": run.base_hash,
        "sessions hash": read.hash,
        "checkpoint hash": trained.hash,
        "quantized hash": quantized.hash,
        "weights trained": f"{trained.extra.get('weights')}, {trained.counts.get('steps'):,} steps, {trained.counts.get('tokens'):,} tokens",
        "arithmetic": f"{trained.extra.get('arithmetic')} on {trained.extra.get('threads')} threads",
        "machine": f"{machine.look().cpu}, {machine.look().cores} cores",
        "versions": ", ".join(f"{name} {version}" for name, version in machine.versions().items()),
        "seed": run.config.seed,
        "finished": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    }  # fmt: skip


"""From rows to a checkpoint artifact, through every alarm and every kill."""

import dataclasses
import itertools
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from apprentice.core import artifacts, config
from apprentice.core.errors import InputError
from apprentice.core.progress import Silent
from apprentice.model import adapter, weights
from apprentice.text.chat import Rendered
from apprentice.train import checkpoints, sft
from apprentice.train import plan as plans
from apprentice.train.loop import LoopConfig
from apprentice.train.optimizer import OptimizerConfig
from apprentice.train.packing import LossWeights, PackingConfig
from apprentice.train.sft import SftConfig
from apprentice.train.talks import SAID

PARENTS = {"base": "b" * 64, "examples": "e" * 64}
SMALL = PackingConfig(sequence_tokens=256, above_lines=2, below_lines=2)


def _config(**changes):
    settings: dict[str, Any] = {
        "packing": SMALL, "optimizer": OptimizerConfig(lr=2e-3), "arithmetic": "fp32", "threads": 1,
        "loop": LoopConfig(heldout_points=2, heldout_tokens=600, checkpoint_every_s=0.0),
    }
    return SftConfig(**{**settings, **changes})


def _train(
    base, rows, tokenizer, out, *, steps=4, budget_s=None, heldout=6, progress=None, clock=time.monotonic, **changes
):
    return sft.train(
        base, rows[:-heldout] if heldout else rows, rows[-heldout:] if heldout else [], tokenizer, out,
        sft=_config(**changes), parents=PARENTS, progress=progress or Silent(), steps=steps, budget_s=budget_s, clock=clock,
    )


def test_the_artifact_is_a_folder_with_lineage(tmp_path, debug_base, make_rows, tokenizer):
    (debug_base / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    rows = make_rows(30)
    manifest = _train(debug_base, rows, tokenizer, tmp_path / "out", steps=5)
    assert artifacts.verify(tmp_path / "out") == []
    assert manifest.kind == "checkpoint"
    assert manifest.parents == PARENTS
    assert manifest.counts["steps"] == 5
    assert manifest.config["sft"]["loss"]["copied"] == 0.02
    assert set(manifest.extra["learned_tokens"]) == {"developer", "assistant"}
    assert manifest.extra["learned_tokens"]["developer"] > 3 * manifest.extra["learned_tokens"]["assistant"]
    # Of the rest the windows around the edits carry a tenth of the loss.
    assert 0 < manifest.extra["context_tokens"] < manifest.counts["tokens"] - sum(manifest.extra["learned_tokens"].values())
    assert not {"conversations", "silence"} & set(manifest.config["sft"])
    assert manifest.extra["people"] == ["person-1"]
    card = (tmp_path / "out" / "README.md").read_text()
    assert "license: apache-2.0" in card
    assert PARENTS["examples"] in card
    assert sorted(path.name for path in (tmp_path / "out" / "training").iterdir()) == [
        "metrics.jsonl", "outcome.json", "plan.json",
    ]


def test_a_run_of_edits_alone_trains_on_the_sequences_that_it_always_trained_on(make_rows, tokenizer):
    rows = [*make_rows(24), *make_rows(24, "completion")]
    answers = [Rendered("", [5, 6, 7, 8], [False, False, True, True])]
    data = sft.prepare(rows, rows[-6:], tokenizer, SftConfig(), answers)
    # Taken before there were conversations or silent places: another number means that every run trains on something else.
    assert plans.fingerprint([*data.sequences, *data.heldout]) == "8d9332b27272b1d71577a79669b2df99"


def test_conversations_stand_between_the_same_edits_and_know_their_authors(make_rows, tokenizer):
    rows = make_rows(30)
    origin = dataclasses.replace(rows[0], author="assistant", person="person-7", commit="")
    told = Rendered("", [5, 6, 7, 8, 9, 10], [False, True, False, True, True, True], range(3, 6))
    alone = sft.prepare(rows[:-6], rows[-6:], tokenizer, _config())
    data = sft.prepare(rows[:-6], rows[-6:], tokenizer, _config(), conversations=[(origin, told)] * 4)
    (said,) = [sequence for sequence in data.sequences if SAID in sequence.kinds_T]
    assert np.flatnonzero(said.kinds_T == SAID).tolist() == [3, 4, 5, 9, 10, 11, 15, 16, 17, 21, 22, 23]
    assert [data.rows[row] for row in sorted(set(said.rows_T.tolist()))] == [origin] * 4
    assert plans.fingerprint(alone.sequences) == plans.fingerprint([s for s in data.sequences if s is not said])
    none = sft.prepare(rows[:-6], rows[-6:], tokenizer, _config(conversations=0.0), conversations=[(origin, told)])
    assert plans.fingerprint(none.sequences) == plans.fingerprint(alone.sequences)


def _as_it_is(row):
    """A silent place beside the row's edit."""
    old = next(row.prompt[start:end] for start, end, kind in row.spans if kind == "old")
    target = "\n" + old + ">>>>>>> after"
    border, size = len(row.prompt), len(row.prompt) + len(old)
    spans = [span for span in row.spans if span[1] <= border]
    return dataclasses.replace(
        row, kind="silence", target=target, spans=[*spans, (border, size, "unchanged"), (size, border + len(target), "end")]
    )


def test_silent_places_carry_loss_on_every_token_of_their_answer(make_rows, tokenizer):
    rows = make_rows(30)
    silent = [_as_it_is(row) for row in rows]
    alone = sft.prepare(rows, rows[-6:], tokenizer, _config(), silent=silent)
    assert plans.fingerprint(alone.sequences) == plans.fingerprint(sft.prepare(rows, rows[-6:], tokenizer, _config()).sequences)
    data = sft.prepare(rows, rows[-6:], tokenizer, _config(silence=0.1), silent=silent)
    drawn = {number: row for number, row in enumerate(data.rows) if isinstance(row, type(silent[0])) and row.kind == "silence"}
    assert len(drawn) == 3
    table = _config().loss.table()
    for number, row in drawn.items():
        found = [(s.token_ids_T[s.rows_T == number], s.kinds_T[s.rows_T == number]) for s in data.sequences]
        ids, kinds = (np.concatenate(part) for part in zip(*found, strict=True))
        answer = tokenizer.encode(row.target)
        assert ids[ids.size - len(answer) - 1 : -1].tolist() == answer
        assert (table[kinds[ids.size - len(answer) - 1 : -1]] == 1).all()
    assert plans.fingerprint(data.heldout) == plans.fingerprint(alone.heldout)


def test_a_silent_place_beside_an_edit_that_is_not_shown_is_no_rejection(make_rows, tokenizer):
    rows = make_rows(30)
    others = [dataclasses.replace(row, kind="completion") if number % 2 else row for number, row in enumerate(rows)]
    config = _config(silence=0.5, kinds=("next_edit",))
    data = sft.prepare(others, rows[-6:], tokenizer, config, silent=[_as_it_is(row) for row in rows])
    shown = {row.moment for row in rows[::2]}
    assert {row.moment for row in data.rows if isinstance(row, type(rows[0])) and row.kind == "silence"} == shown


def test_what_was_learned_of_conversations_is_told_by_author(tmp_path, debug_base, make_rows, tokenizer):
    rows = make_rows(12)
    origin = dataclasses.replace(rows[0], author="tool", person="person-7", commit="")
    told = Rendered("", [5, 6, 7, 8, 9, 10], [False, True, False, True, True, True], range(3, 6))
    manifest = sft.train(
        debug_base, rows, [], tokenizer, tmp_path / "out", parents=PARENTS, progress=Silent(), conversations=[(origin, told)],
        sft=_config(loop=LoopConfig(max_rounds=1)),
    )
    assert manifest.extra["learned_tokens"]["tool"] == 3
    assert manifest.extra["people"] == ["person-1", "person-7"]
    assert manifest.extra["commits"] == 6
    assert manifest.config["sft"]["conversations"] == 0.15


def test_the_saved_weights_are_those_of_the_best_point(tmp_path, debug_base, make_rows, tokenizer):
    manifest = _train(debug_base, make_rows(30), tokenizer, tmp_path / "out", steps=6)
    assert manifest.extra["best_step"] > 0
    before, after = weights.load(debug_base), weights.load(tmp_path / "out")
    moved = [name for name, p in after.named_parameters() if not torch.equal(p, before.get_parameter(name))]
    assert "embed_tokens.weight" in moved
    assert "layers.0.mlp.up_proj.weight" in moved


def test_when_training_only_harms_the_checkpoint_is_the_base(tmp_path, debug_base, make_rows, tokenizer):
    manifest = _train(
        debug_base, make_rows(60), tokenizer, tmp_path / "out", steps=4, heldout=30, optimizer=OptimizerConfig(lr=1.0, warmup=0.0),
        loop=LoopConfig(heldout_points=2),
    )
    assert manifest.extra["best_step"] == 0
    assert manifest.extra["learned_tokens"] == {}
    before, after = weights.load(debug_base), weights.load(tmp_path / "out")
    assert all(torch.equal(p, before.get_parameter(name)) for name, p in after.named_parameters())


@pytest.mark.parametrize("trained", ["full", "lora"])
def test_the_checkpoint_keeps_the_asked_share_of_the_change(tmp_path, debug_base, make_rows, tokenizer, trained):
    whole, half = tmp_path / "whole", tmp_path / "half"
    for out, kept in ((whole, 1.0), (half, 0.5)):
        _train(debug_base, make_rows(30), tokenizer, out, weights=trained, lora_rank=4, lora_lr=2e-2, kept=kept)
    models = [weights.load(folder) for folder in (debug_base, whole, half)]
    for before, tuned, drawn_back in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(drawn_back, (before + tuned) / 2)
    name = "layers.1.mlp.up_proj.weight"
    assert not torch.equal(models[0].get_parameter(name), models[2].get_parameter(name))
    assert "50% of the change" in (half / "README.md").read_text()


def test_the_upper_part_alone_is_trained(tmp_path, debug_base, make_rows, tokenizer):
    _train(debug_base, make_rows(30), tokenizer, tmp_path / "out", weights="upper")
    before, after = weights.load(debug_base), weights.load(tmp_path / "out")
    moved = {name for name, p in after.named_parameters() if not torch.equal(p, before.get_parameter(name))}
    assert moved
    assert all(name.startswith(("layers.1.", "norm.")) for name in moved)


def test_lora_leaves_an_adapter_beside_the_merged_weights(tmp_path, debug_base, make_rows, tokenizer):
    manifest = _train(debug_base, make_rows(30), tokenizer, tmp_path / "out", weights="lora", lora_rank=4, lora_lr=2e-2)
    assert manifest.extra["best_step"] > 0
    tokens = torch.arange(60)[None]
    with torch.no_grad():
        model = weights.load(debug_base)
        untrained = model(tokens)
        adapter.load(model, tmp_path / "out" / "adapter")
        beside = model(tokens)
        merged = weights.load(tmp_path / "out")(tokens)
    torch.testing.assert_close(beside, merged, rtol=1e-3, atol=1e-4)
    assert (untrained - merged).abs().max() > 0.01


def test_an_interrupted_lora_run_ends_in_the_same_artifact(tmp_path, debug_base, make_rows, tokenizer):
    settings = {"weights": "lora", "lora_rank": 4, "loop": LoopConfig(heldout_points=4, checkpoint_every_s=0.0)}
    wanted = _train(debug_base, make_rows(30), tokenizer, tmp_path / "whole", **settings)
    with pytest.raises(KeyboardInterrupt):
        _train(debug_base, make_rows(30), tokenizer, tmp_path / "out", progress=_Interrupt(after=3), **settings)
    assert _train(debug_base, make_rows(30), tokenizer, tmp_path / "out", **settings).hash == wanted.hash


def test_a_budget_is_measured_and_planned(tmp_path, debug_base, make_rows, tokenizer):
    ticks = itertools.count()
    manifest = _train(
        debug_base, make_rows(60), tokenizer, tmp_path / "out", steps=None, budget_s=30.0, arithmetic="auto", threads=0,
        clock=lambda: next(ticks) * 0.01,
    )
    plan = json.loads((tmp_path / "out/training/plan.json").read_text())
    assert plan["budget_s"] == 30.0
    assert plan["step_s"] > 0
    assert len(plan["numerics"]["seconds"]) >= 1
    assert plan["numerics"]["peak_gflops"] > 0
    assert 0 < manifest.counts["steps"] <= plan["num_steps"]


def test_the_same_steps_give_the_same_artifact(tmp_path, debug_base, make_rows, tokenizer):
    hashes = {_train(debug_base, make_rows(30), tokenizer, tmp_path / name).hash for name in "ab"}
    assert len(hashes) == 1


def test_seeds_give_different_models(tmp_path, debug_base, make_rows, tokenizer):
    hashes = {_train(debug_base, make_rows(30), tokenizer, tmp_path / str(seed), seed=seed).hash for seed in (1, 2)}
    assert len(hashes) == 2


def test_a_finished_artifact_is_not_made_again(tmp_path, debug_base, make_rows, tokenizer):
    first = _train(debug_base, make_rows(30), tokenizer, tmp_path / "out")
    stamp = (tmp_path / "out" / "model.safetensors").stat().st_mtime_ns
    assert _train(debug_base, make_rows(30), tokenizer, tmp_path / "out").hash == first.hash
    assert (tmp_path / "out" / "model.safetensors").stat().st_mtime_ns == stamp
    other = _train(debug_base, make_rows(30), tokenizer, tmp_path / "out", steps=2)
    assert other.counts["steps"] == 2


def test_no_examples_of_the_kind_is_an_error(tmp_path, debug_base, make_rows, tokenizer):
    with pytest.raises(InputError, match="no examples of kind completion"):
        _train(debug_base, make_rows(9), tokenizer, tmp_path / "out", kinds=("completion",))
    assert not artifacts.is_finished(tmp_path / "out")


@pytest.mark.parametrize("reason", ["weights", "spans"])
def test_targets_without_loss_are_an_error_and_not_a_trained_model(tmp_path, debug_base, make_rows, tokenizer, reason):
    rows, changes = make_rows(20), {}
    if reason == "weights":
        changes["loss"] = LossWeights(changed=0.0, copied=0.0, end=0.0)
    else:
        for row in rows:
            row.spans = [span for span in row.spans if span[1] <= len(row.prompt)]
    with pytest.raises(InputError, match="teach nothing"):
        _train(debug_base, rows, tokenizer, tmp_path / "out", **changes)


def test_sequences_without_loss_are_left_out_and_counted(make_rows, tokenizer):
    rows = make_rows(3)
    rows[1].spans = []
    packing = PackingConfig(form="rows", sequence_tokens=2048)
    data = sft.prepare(rows, [], tokenizer, _config(packing=PackingConfig(form="rows", sequence_tokens=32)))
    whole = sft.prepare(rows, [], tokenizer, _config(packing=packing))
    assert data.dropped["sequence without loss"] > 0
    assert whole.dropped == {}


def test_other_examples_under_the_same_hash_are_refused(tmp_path, debug_base, make_rows, tokenizer):
    rows = make_rows(30)
    with pytest.raises(KeyboardInterrupt):
        _train(debug_base, rows, tokenizer, tmp_path / "out", progress=_Interrupt())
    with pytest.raises(InputError, match="other examples"):
        _train(debug_base, rows[1:], tokenizer, tmp_path / "out")


class _Interrupt(Silent):
    def __init__(self, after=1):
        self._left = after

    def advance(self, amount=1, detail=""):
        self._left -= bool(detail)
        if detail and self._left == 0:
            raise KeyboardInterrupt


def test_every_knob_is_in_the_recipe(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text(config.resolved_toml(SftConfig()))
    assert config.load(SftConfig, path) == SftConfig()
    changed = config.load(SftConfig, path, ["optimizer.lr=3e-5", "loss.mark=1", 'kinds=["next_edit"]'])
    assert (changed.optimizer.lr, changed.loss.mark, changed.kinds) == (3e-5, 1.0, ("next_edit",))


def test_an_edit_is_shown_as_one_kind(make_rows):
    both = [*make_rows(200), *make_rows(200, "completion")]
    chosen = sft.one_kind_each(both, SftConfig())
    assert sorted(row.moment for row in chosen) == sorted(row.moment for row in make_rows(200))
    assert 60 < sum(row.kind == "completion" for row in chosen) < 140
    assert chosen == sft.one_kind_each(both, SftConfig())
    assert chosen != sft.one_kind_each(both, SftConfig(seed=1))
    for share, kind in ((0.0, "next_edit"), (1.0, "completion")):
        assert {row.kind for row in sft.one_kind_each(both, SftConfig(completions=share))} == {kind}


def test_an_edit_with_one_kind_is_shown_as_that(make_rows):
    rows = make_rows(5, "completion")
    assert sft.one_kind_each(rows, SftConfig(completions=0.0)) == rows


DRIVER = """
    import importlib.util, os, signal, sys, time
    from pathlib import Path
    from apprentice.core import files
    from apprentice.core.fakes import ByteTokenizer
    from apprentice.core.progress import Silent
    from apprentice.train import sft

    here = Path(sys.argv[1])
    def load(name):
        spec = importlib.util.spec_from_file_location(name, here / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        return module
    test_sft, conftest = load("test_sft"), load("conftest")
    rows = conftest.made_rows(ByteTokenizer(), 18)

    class Killing(files.Operations):
        count = 0
        def _check(self):
            Killing.count += 1
            if Killing.count == self.at:
                os.kill(os.getpid(), signal.SIGKILL)
        def open(self, path, flags):
            self._check(); return super().open(path, flags)
        def write(self, descriptor, data, path):
            self._check(); return super().write(descriptor, data, path)
        def fsync(self, descriptor, path):
            self._check(); super().fsync(descriptor, path)
        def rename(self, source, target):
            self._check(); super().rename(source, target)
        def unlink(self, path):
            self._check(); super().unlink(path)

    class Slow(Silent):
        def __init__(self, pause_s):
            self.pause_s = pause_s
        def advance(self, amount=1, detail=""):
            time.sleep(self.pause_s)

    def run(base, out, at, steps, pause_s=0.0):
        operations = Killing()
        operations.at = at
        with files.using(operations):
            manifest = test_sft._train(base, rows, ByteTokenizer(), out, steps=steps, progress=Slow(pause_s))
        return manifest.hash, Killing.count
"""


def _driver(body: str, *arguments: object) -> subprocess.Popen[str]:
    code = textwrap.dedent(DRIVER) + textwrap.dedent(body)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", code, str(Path(__file__).parent), *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )


def test_killed_at_any_file_operation_the_same_command_gives_the_same_artifact(tmp_path, debug_base):
    """A child process is killed by itself in front of its N-th operation: inside checkpoints, the plan, the log, the
    final save, and again on the way back."""
    driver = _driver(
        """
        import json
        def fork(work):
            reader, writer = os.pipe()
            child = os.fork()
            if child == 0:
                try:
                    os.write(writer, json.dumps(work()).encode())
                    os._exit(0)
                except BaseException as error:
                    os.write(writer, repr(error).encode())
                    os._exit(1)
            os.close(writer)
            with os.fdopen(reader) as stream:
                said = stream.read()
            return os.waitpid(child, 0)[1], said
        base, out = Path(sys.argv[2]), Path(sys.argv[3])
        # What torch imports at the first use of a model need not be imported by every child.
        test_sft.weights.load(base)
        status, said = fork(lambda: run(base, out / "clean", 0, 3))
        assert status == 0, said
        wanted, total = json.loads(said)
        seen = []
        for number in range(3, total, max(1, total // 14)):
            folder = out / f"at-{number}"
            status, said = fork(lambda: run(base, folder, number, 3))
            assert os.WIFSIGNALED(status), (number, status, said)
            fork(lambda: run(base, folder, 7 + number // 2, 3))
            status, said = fork(lambda: run(base, folder, 0, 3))
            assert status == 0, (number, said)
            assert json.loads(said)[0] == wanted, number
            seen.append(number)
        print(len(seen), total)
        """,
        debug_base, tmp_path / "runs",
    )
    output, errors = driver.communicate(timeout=110)
    assert driver.returncode == 0, errors[-3000:]
    points, total = map(int, output.split())
    assert points >= 14
    assert total > 60


def test_killed_in_the_middle_of_a_step_the_same_command_gives_the_same_artifact(tmp_path, debug_base):
    body = """
        print(run(Path(sys.argv[2]), Path(sys.argv[3]), 0, 8, float(sys.argv[4]))[0])
        """
    whole = _driver(body, debug_base, tmp_path / "whole", 0)
    wanted, errors = whole.communicate(timeout=60)
    assert whole.returncode == 0, errors[-3000:]
    log = tmp_path / "cut" / "training" / "metrics.jsonl"
    driver = _driver(body, debug_base, tmp_path / "cut", 0.2)
    while driver.poll() is None and (not log.exists() or log.read_bytes().count(b"\n") < 4):
        time.sleep(0.002)
    # The pause behind a step is 0.2 s, so this falls into the next one.
    time.sleep(0.21)
    driver.kill()
    driver.communicate(timeout=30)
    assert driver.returncode == -signal.SIGKILL
    assert not artifacts.is_finished(tmp_path / "cut")
    driver = _driver(body, debug_base, tmp_path / "cut", 0)
    found, errors = driver.communicate(timeout=60)
    assert driver.returncode == 0, errors[-3000:]
    assert found == wanted
    assert checkpoints.find(tmp_path / "cut" / "training") == []

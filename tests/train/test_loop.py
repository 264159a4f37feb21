"""The loop on the debug model: it learns, follows its plan, stops, rolls back and resumes."""

import dataclasses
import json

import pytest
import torch

from apprentice.core.errors import InputError, UserError
from apprentice.core.progress import Silent
from apprentice.model import presets
from apprentice.model.transformer import Transformer
from apprentice.train import checkpoints
from apprentice.train import plan as plans
from apprentice.train.heldout import HeldOut
from apprentice.train.loop import LoopConfig, Trainer
from apprentice.train.metrics import Log, Metrics
from apprentice.train.numerics import Numerics
from apprentice.train.optimizer import OptimizerConfig
from apprentice.train.packing import LossWeights, PackingConfig, pack

FP32 = Numerics(arithmetic="fp32", threads=1, peak_gflops=10.0)
QUICK = OptimizerConfig(lr=3e-3)
CONFIG = LoopConfig(checkpoint_every_s=0.0, heldout_points=3)


class Clock:
    """Seconds that pass only when looked at."""

    def __init__(self, tick_s=0.0):
        self.now, self.tick_s = 0.0, tick_s

    def __call__(self):
        self.now += self.tick_s
        return self.now


class Listener(Silent):
    """Keeps what was said; `raise_at`: is interrupted at that step's line."""

    def __init__(self, raise_at=None):
        self.lines, self._raise_at = [], raise_at

    def note(self, message):
        self.lines.append(message)

    def advance(self, amount=1, detail=""):
        if detail:
            self.steps = getattr(self, "steps", 0) + 1
            if self.steps == self._raise_at:
                raise KeyboardInterrupt


@pytest.fixture
def sequences(make_rows, tokenizer):
    return pack(make_rows(40), tokenizer, PackingConfig(sequence_tokens=256, above_lines=2, below_lines=2))


def _trainer(folder, sequences, *, steps=None, budget_s=None, clock=None, progress=None, config=CONFIG, heldout=4,
             optimizer=QUICK, step_s=1.0, table=None):
    folder.mkdir(exist_ok=True)
    train, held = sequences[:-4], sequences[len(sequences) - heldout :]
    plan = plans.read(folder) or plans.make(
        train, held, numerics=FP32, per_step=config.batch_sequences * config.accumulate, steps=steps, budget_s=budget_s,
        step_s=step_s, heldout_share=0.2, heldout_tokens=8000, heldout_points=config.heldout_points + 1, max_rounds=1,
        order="time", seed=0,
    )
    plans.write(folder, plan)
    model = Transformer(presets.debug()).initialize(7)
    table = LossWeights().table() if table is None else table
    trainer = Trainer(
        model, train, held, plan, table, folder, config=config, optimizer_config=optimizer,
        progress=progress or Silent(), clock=clock or Clock(),
    )
    return model, trainer


def _weights(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def _same(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


def test_the_loss_falls_and_so_do_held_out_bits(tmp_path, sequences):
    _, trainer = _trainer(tmp_path, sequences, steps=20)
    outcome = trainer.run()
    losses = [entry.loss for entry in Log.read(tmp_path) if isinstance(entry, Metrics)]
    assert len(losses) == 20
    assert losses[-1] < 0.8 * losses[0]
    assert [point.step for point in outcome.curve] == [0, 7, 14, 20]
    assert outcome.curve[-1].bits < outcome.curve[0].bits - 0.5
    assert outcome.best_step == 20


def test_an_interrupted_run_ends_in_the_same_weights_wherever_it_was_cut(tmp_path, sequences):
    straight, trainer = _trainer(tmp_path / "straight", sequences, steps=6)
    outcome = trainer.run()
    for config in (CONFIG, dataclasses.replace(CONFIG, checkpoint_every_s=1e9)):
        for cut in range(1, 7):
            folder = tmp_path / f"cut-{cut}-{config.checkpoint_every_s:.0f}"
            with pytest.raises(KeyboardInterrupt):
                _trainer(folder, sequences, steps=6, config=config, progress=Listener(raise_at=cut))[1].run()
            model, trainer = _trainer(folder, sequences, steps=6, config=config)
            again = trainer.run()
            assert _same(_weights(straight), _weights(model))
            assert [p.bits for p in again.curve] == [p.bits for p in outcome.curve]
            Log.tidy(folder)
            steps = [e.step for e in Log.read(folder) if isinstance(e, Metrics)]
            assert steps == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("heldout", [4, 0])
def test_what_was_learned_last_counts_where_the_clock_runs_out_early(tmp_path, sequences, heldout):
    clock = Clock()

    class Slow(Listener):
        """Everything takes a second, until another program takes the machine."""

        def advance(self, amount=1, detail=""):
            super().advance(amount, detail)
            clock.now += 1.0 if getattr(self, "steps", 0) != 7 else 60.0

    config = dataclasses.replace(CONFIG, checkpoint_every_s=1e9)
    _, trainer = _trainer(tmp_path, sequences, budget_s=20.0, clock=clock, progress=Slow(), config=config, heldout=heldout)
    outcome = trainer.run()
    assert outcome.num_steps == 7
    if heldout:
        assert outcome.curve[-1].step == 7
        assert outcome.best_step == 7
    assert trainer.load_best(outcome)
    if heldout:
        # Nothing is left to do for one that takes it up again: the log says that the time is over.
        again = _trainer(tmp_path, sequences, budget_s=20.0, clock=Clock(), config=config, heldout=heldout)[1].run()
        assert (again.num_steps, len(again.curve)) == (7, len(outcome.curve))


def test_resuming_a_finished_run_trains_nothing(tmp_path, sequences):
    first, trainer = _trainer(tmp_path, sequences, steps=3)
    outcome = trainer.run()
    listener = Listener(raise_at=1)
    model, trainer = _trainer(tmp_path, sequences, steps=3, progress=listener)
    assert trainer.run().num_steps == 3
    assert trainer.load_best(outcome)
    if outcome.best_step == 3:
        assert _same(_weights(first), _weights(model))


def test_a_budget_run_that_was_cut_repeats_the_steps_as_they_were_decided(tmp_path, sequences):
    config = dataclasses.replace(CONFIG, checkpoint_every_s=1e9, heldout_points=1)
    slow = Clock(tick_s=0.4)
    with pytest.raises(KeyboardInterrupt):
        _trainer(tmp_path, sequences, budget_s=30.0, clock=slow, config=config, progress=Listener(raise_at=6))[1].run()
    before = [e for e in Log.read(tmp_path) if isinstance(e, Metrics)]
    assert checkpoints.find(tmp_path) == []
    _trainer(tmp_path, sequences, budget_s=30.0, clock=Clock(tick_s=0.01), config=config)[1].run()
    after = [e for e in Log.read(tmp_path) if isinstance(e, Metrics)][len(before) :]
    for old, new in zip(before, after, strict=False):
        assert (old.step, old.places, old.remaining, old.lr, old.loss) == (new.step, new.places, new.remaining, new.lr, new.loss)
    assert after[0].elapsed_s > before[-1].elapsed_s


def test_the_clock_wins_over_the_plan_and_the_rate_still_reaches_its_end(tmp_path, sequences):
    clock = Clock(tick_s=0.5)
    _, trainer = _trainer(tmp_path, sequences, budget_s=40.0, clock=clock, step_s=1.0, heldout=0)
    outcome = trainer.run()
    plan = plans.read(tmp_path)
    assert plan is not None
    entries = [e for e in Log.read(tmp_path) if isinstance(e, Metrics)]
    assert outcome.num_steps < plan.num_steps
    assert outcome.elapsed_s <= 40.0 + 4.0
    assert entries[-1].remaining == 1
    assert entries[-1].lr < 0.2 * max(e.lr for e in entries)
    assert entries[-1].places == [len(plan.order) - 1]


def test_seconds_are_summed_over_resumes(tmp_path, sequences):
    with pytest.raises(KeyboardInterrupt):
        _trainer(tmp_path, sequences, budget_s=60.0, clock=Clock(tick_s=1.0), progress=Listener(raise_at=3))[1].run()
    spent = max(e.elapsed_s for e in Log.read(tmp_path))
    _, trainer = _trainer(tmp_path, sequences, budget_s=60.0, clock=Clock(tick_s=1.0))
    outcome = trainer.run()
    assert outcome.elapsed_s <= 60.0 + 12.0
    assert min(e.elapsed_s for e in list(Log.read(tmp_path))[4:]) > spent


def test_a_budget_without_room_for_a_step_is_an_error(tmp_path, sequences):
    _, trainer = _trainer(tmp_path, sequences, budget_s=0.5, step_s=1.0)
    with pytest.raises(UserError, match="nothing was trained") as error:
        trainer.run()
    assert "--budget" in (error.value.hint or "")


def test_worse_points_in_a_row_stop_the_run_and_the_best_is_rolled_back_to(tmp_path, sequences):
    wild = OptimizerConfig(lr=0.5, warmup=0.0)
    config = LoopConfig(heldout_points=10, patience=2)
    listener = Listener()
    model, trainer = _trainer(tmp_path, sequences, steps=20, optimizer=wild, config=config, progress=listener, heldout=26)
    outcome = trainer.run()
    assert outcome.stopped_early
    assert outcome.num_steps < 20
    assert any("stopping early" in line for line in listener.lines)
    assert outcome.best_step is not None
    assert outcome.best_step < outcome.curve[-2].step
    assert trainer.load_best(outcome) == (outcome.best_step > 0)


def test_the_best_point_is_what_is_loaded(tmp_path, sequences):
    model, trainer = _trainer(tmp_path, sequences, steps=12)
    outcome = trainer.run()
    last = _weights(model)
    # As if an earlier point had been the best.
    assert trainer.load_best(dataclasses.replace(outcome, best_step=outcome.num_steps))
    assert _same(last, _weights(model))
    assert not trainer.load_best(dataclasses.replace(outcome, best_step=0))


@pytest.mark.parametrize(("batch", "accumulate"), [(1, 4), (4, 1)])
def test_batch_and_accumulation_are_the_same_step(tmp_path, sequences, batch, accumulate):
    reference, trainer = _trainer(
        tmp_path / "reference", sequences, steps=3, config=LoopConfig(batch_sequences=2, accumulate=2), heldout=0
    )
    trainer.run()
    config = LoopConfig(batch_sequences=batch, accumulate=accumulate)
    model, trainer = _trainer(tmp_path / "other", sequences, steps=3, config=config, heldout=0)
    trainer.run()
    # Sums in another order, then Adam's division by the root of small squares.
    for name, weight in _weights(reference).items():
        torch.testing.assert_close(_weights(model)[name], weight, rtol=0, atol=2e-3)
    found, wanted = ([e.loss for e in Log.read(tmp_path / n) if isinstance(e, Metrics)] for n in ("other", "reference"))
    assert found == pytest.approx(wanted, rel=1e-4)


def test_a_loss_that_is_no_number_stops_the_run_with_its_step(tmp_path, sequences):
    model, trainer = _trainer(tmp_path, sequences, steps=3, heldout=0)
    with torch.no_grad():
        model.get_parameter("layers.0.mlp.up_proj.weight")[0, 0] = float("nan")
    with pytest.raises(UserError, match="step 1: the loss is nan"):
        trainer.run()
    assert checkpoints.find(tmp_path) == []


def test_a_step_without_loss_is_an_error(tmp_path, sequences):
    _, trainer = _trainer(tmp_path, sequences, steps=3, heldout=0, table=LossWeights().table() * 0)
    with pytest.raises(InputError, match="no token carries loss"):
        trainer.run()


def test_a_model_with_nothing_to_train_is_an_error(tmp_path, sequences, debug_model):
    debug_model.requires_grad_(False)
    plan = plans.make(
        sequences, [], numerics=FP32, per_step=1, steps=1, budget_s=None, step_s=0.0, heldout_share=0.1,
        heldout_tokens=1, heldout_points=1, max_rounds=1, order="time", seed=0,
    )
    with pytest.raises(InputError, match="left to train"):
        Trainer(
            debug_model, sequences, [], plan, LossWeights().table(), tmp_path, config=CONFIG, optimizer_config=QUICK,
            progress=Silent(),
        )


def test_a_checkpoint_of_another_model_is_refused(tmp_path, sequences):
    _, trainer = _trainer(tmp_path, sequences, steps=2)
    trainer.run()
    step, path = checkpoints.find(tmp_path)[-1]
    checkpoints.write_tensors(path / checkpoints.WEIGHTS, {"something.else": torch.ones(2)})
    with pytest.raises(InputError, match="no fitting weight"):
        _trainer(tmp_path, sequences, steps=2)[1].run()


def test_every_step_is_in_the_log_with_the_fields_of_its_line(tmp_path, sequences):
    listener = Listener()
    _trainer(tmp_path, sequences, steps=5, clock=Clock(tick_s=0.25), progress=listener)[1].run()
    first = next(line for line in listener.lines if line.startswith("step "))
    words = [word for word in first.split() if word.replace("_", "").replace("/", "").isalpha()]
    assert words == ["step", "loss", "grad_norm", "lr", "tok/s", "MFU", "memory", "GiB", "eta"]
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [1, 2, 3, 4, 5]
    assert all(0 < line["mfu"] for line in lines if "loss" in line)


def test_lines_keep_a_sane_rate(tmp_path):
    listener, clock = Listener(), Clock()
    log = Log(tmp_path, listener, clock=clock)
    for step in range(1, 101):
        clock.now += 0.1
        log.step(_metrics(step, 100), 100)
    shown = [int(line.split()[1].split("/")[0]) for line in listener.lines]
    assert shown[:3] == [1, 2, 3]
    assert shown[-1] == 100
    assert len(shown) < 12


def test_tidying_keeps_what_counted(tmp_path):
    log = Log(tmp_path, Silent())
    for step in (1, 2, 3, 2, 3):
        log.step(_metrics(step, 3), 3)
    log.heldout(HeldOut(step=2, bits=1.0, num_tokens=5, elapsed_s=1.0, seconds=1.0, nats=[1.0]), None)
    Log.tidy(tmp_path)
    assert [(type(e).__name__, e.step) for e in Log.read(tmp_path)] == [
        ("Metrics", 1), ("Metrics", 2), ("HeldOut", 2), ("Metrics", 3),
    ]


def _metrics(step, total):
    return Metrics(
        step=step, loss=1.0, grad_norm=1.0, lr=1e-4, tokens_per_s=100.0, mfu=0.4, memory_gib=1.0, eta_s=1.0, tokens=10,
        elapsed_s=float(step), places=[step - 1], remaining=total - step + 1,
    )

"""Four-bit weights that learn to say what the model said before: quantization-aware distillation.

    checkpoint --load--> model --ends of all texts, once--> hidden states: the teacher
    codes of every matrix --> u, the values of the codes
    a step: W = round(u) * scale; the loss is the cross-entropy with the teacher's distributions; u moves as if W had been u

Fitting (`quantize.calibration`) makes each matrix do its own work well; here all of them are moved together, by what comes
out at the end. u begins at the values of the codes, not at the old weights: fitted codes make up for each other's
errors, many lie far from the old weight, and back there that is undone. Scales stay as fitted and u is counted in them, so that a
learning rate means the same in every block and every model: how far a weight may move in one step, where codes are 0.5 to 2 apart.
Embeddings, head and norms stay as they are, so the teacher needs no second model: its distributions are the head times the
hidden states, which are kept.

The last texts are held out; where the distributions there did not come nearer to the teacher's, nothing is changed.

Memory: five float32 numbers a weight, as for fine-tuning all weights, and at most MOST_STATE_BYTES for the hidden states.

Letters: R rows, C columns, G = C / block groups of a row, T tokens of a text, D residual width, V vocabulary.

Sources: quantization-aware distillation for NVFP4, arXiv:2601.20088; straight-through gradients, arXiv:1308.3432.
"""

from __future__ import annotations

import functools
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from apprentice.core import machine
from apprentice.core.errors import ConfigError, InputError
from apprentice.core.protocols import ProgressSink
from apprentice.kernels import nvfp4
from apprentice.kernels.formats import Format, Packed
from apprentice.model import estimate, weights
from apprentice.model.config import ModelConfig, read_config
from apprentice.model.transformer import Transformer
from apprentice.train import losses
from apprentice.train.numerics import Numerics, applied, fixed, tune_process
from apprentice.train.optimizer import Optimizer, OptimizerConfig, learning_rate

HELD_OUT = 10
"""One text of so many is held out, the last ones."""
MOST_HELD_OUT = 8
TEACHER_SHARE = 0.2
"""Of the time: what has been read until then is learned from."""
MOST_STATE_BYTES = 2**30
LEAST_STEPS = 50
"""In fewer hardly a code can change at a rate that chance does not move it by."""
SHARE_TIMED = 0.1
"""Of the time for steps, after which it is known how many there will be."""
OPTIMIZER = OptimizerConfig(lr=1.0, warmup=0.1, weight_decay=0.0)
"""How the rate rises and falls; how high is `DistillConfig.rate`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DistillConfig:
    """How the codes move."""

    steps: int | None = None
    """Of the optimizer, 1 or more; where given, the clock decides nothing."""
    seconds: float | None = None
    """For all of it, above 0. With neither: each text once."""
    text_tokens: int = 768
    """Most tokens of a text, 2 or more: its last ones, which are what the model is asked for."""
    step_texts: int = 2
    """Texts of one step, 1 or more."""
    rate: float = 0.1
    """Highest learning rate times the root of the number of steps, in units of codes. Adam moves weights that nothing pulls too, in a
    whole run by about half of this, and the nearest border of a code is 0.25 away: the more steps, the smaller a pull that counts."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps is not None and self.steps < 1:
            raise ConfigError("distillation of no step", hint="give 1 or more")
        if self.seconds is not None and not self.seconds > 0:
            raise ConfigError("distillation in no time", hint="give a time such as `30m`")
        if self.text_tokens < 2 or self.step_texts < 1 or not 0 < self.rate < float("inf"):
            raise ConfigError("`text_tokens` must be 2 or more, `step_texts` 1 or more, `rate` above 0")


@dataclass(frozen=True, kw_only=True, slots=True)
class Distilled:
    """What came of it."""

    packed: dict[str, Packed]
    largest_inputs: dict[str, float]
    """Of each matrix, the largest size of an input, on a part of the text; empty where nothing was changed."""
    steps: int
    """0 where the matrices are those that were given."""
    kl_before: float
    """How far the model with the given matrices is from the unquantized one, in bits a token of the text held out."""
    kl_after: float
    too_short: bool = False
    """Whether the time was not enough for LEAST_STEPS."""


@dataclass(frozen=True, slots=True)
class _Text:
    """A text and what the teacher thinks at each of its tokens."""

    tokens_1T: Tensor
    states_TD: Tensor


def needed_gib(model: ModelConfig, text_tokens: int = 768) -> float:
    """Memory that it takes."""
    return (estimate.training_bytes(model, text_tokens) + MOST_STATE_BYTES) / 2**30


def check(folder: Path, sequences: Sequence[Sequence[int]], config: DistillConfig) -> None:
    """Before anything is spent. Raises: InputError where there is too little text or memory."""
    if sum(len(ids) > 1 for ids in sequences) < 2:
        raise InputError("there is too little text to distill with", hint="give two texts or more, of more than one token each")
    needed = needed_gib(read_config(folder), config.text_tokens)
    if needed > (available := machine.look().memory_available_gib):
        raise InputError(
            f"{folder}: distilling takes about {needed:.1f} GiB of memory, {available:.1f} GiB are free",
            hint="quantize without it, or on a larger machine",
        )


def distill(
    folder: Path, packed: Mapping[str, Packed], format: Format, sequences: Sequence[Sequence[int]], *,
    config: DistillConfig = DistillConfig(), numerics: Numerics | None = None, progress: ProgressSink | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Distilled:
    """`packed`: module name (`model.layers.0.mlp.up_proj`) -> the fitted matrix of the checkpoint in `folder`; other matrices stay
    as they are. `sequences`: token ids of text like that which the model will see, most telling first. `numerics`: what the
    machine says of itself.

    Raises: InputError where there is too little text or memory, or the folder cannot be used."""
    started = clock()
    check(folder, sequences, config)
    numerics = numerics or fixed()
    tune_process()
    with applied(numerics):
        model = weights.load(folder).requires_grad_(False)
        teaching = float("inf") if config.steps is not None or config.seconds is None else started + TEACHER_SHARE * config.seconds
        learned, held_out = _read_all(model, sequences, config, numerics, lambda: clock() > teaching, progress)
        own = _cross_entropy(model, held_out, numerics.matmul)
        student = _Student(model, packed, format)
        before = _cross_entropy(model, held_out, numerics.matmul) - own
        steps = _train(model, student, learned, config, numerics, started, progress, clock)
        after = _cross_entropy(model, held_out, numerics.matmul) - own if steps else before
        # A divergence that is no number is no gain either.
        if not steps or not after < before:
            return Distilled(packed=dict(packed), largest_inputs={}, steps=0, kl_before=before, kl_after=before, too_short=not steps)
        largest = student.largest_inputs(lambda: _cross_entropy(model, [*held_out, *learned[:MOST_HELD_OUT]], numerics.matmul))
    return Distilled(packed=student.packed(), largest_inputs=largest, steps=steps, kl_before=before, kl_after=after)


def _train(
    model: Transformer, student: _Student, learned: Sequence[_Text], config: DistillConfig, numerics: Numerics, started: float,
    progress: ProgressSink | None, clock: Callable[[], float],
) -> int:
    """Steps taken; 0 where the time is not enough for LEAST_STEPS."""
    if not student.free:
        return 0
    optimizer = Optimizer(student.free.items(), OPTIMIZER)
    left_s = None if config.steps is not None or config.seconds is None else max(config.seconds - (clock() - started), 1e-9)
    steps = config.steps or -(-len(learned) // config.step_texts)
    begun, part, done, shown = clock(), 0.0, 0, 0
    if progress is not None:
        progress.stage("distill", total=100, unit="%")
    for batch in _batches(learned, config):
        # A step is as long as the one before it; the first one's rate is 0 anyway.
        known = part
        part = (clock() - begun) / left_s if left_s is not None else done / steps
        if left_s is not None and known <= SHARE_TIMED < part and done < SHARE_TIMED * LEAST_STEPS:
            return 0
        if part >= 1:
            break
        num_tokens = sum(len(text.states_TD) for text in batch)
        for text in batch:
            (_distance(model, text, numerics.matmul) / num_tokens).backward()
        student.take_gradients()
        optimizer.step(config.rate * (part - known) ** 0.5 * learning_rate(OPTIMIZER, part))
        student.round()
        done += 1
        if progress is not None and int(100 * part) > shown:
            progress.advance(int(100 * part) - shown)
            shown = int(100 * part)
    return done


def _read_all(
    model: Transformer, sequences: Sequence[Sequence[int]], config: DistillConfig, numerics: Numerics, is_over: Callable[[], bool],
    progress: ProgressSink | None = None,
) -> tuple[list[_Text], list[_Text]]:
    """What is learned from, and what is held out: the last texts, which nothing else was fitted to where there are many."""
    texts = [list(ids[-config.text_tokens :]) for ids in sequences if len(ids) > 1]
    apart = min(max(len(texts) // HELD_OUT, 1), MOST_HELD_OUT)
    held_out = [_read(model, ids, numerics.matmul) for ids in texts[-apart:]]
    most = len(texts) if config.steps is None else config.steps * config.step_texts
    learned: list[_Text] = []
    size = 0
    if progress is not None:
        progress.stage("read as the teacher", total=min(most, len(texts) - apart), unit="texts")
    for ids in texts[:-apart][:most]:
        learned.append(_read(model, ids, numerics.matmul))
        if progress is not None:
            progress.advance()
        size += learned[-1].states_TD.nbytes
        if size > MOST_STATE_BYTES or is_over():
            break
    return learned, held_out


class _Student:
    """The matrices of a model, rounded, and the free weights behind them."""

    def __init__(self, model: Transformer, packed: Mapping[str, Packed], format: Format) -> None:
        self._format, self._given = format, packed
        parameters = {weights.folder_name(name).removesuffix(".weight"): p for name, p in model.named_parameters()}
        self._matrices = {name: parameters[name] for name in packed}
        self._modules = {weights.folder_name(name): module for name, module in model.named_modules()}
        self._scales: dict[str, Tensor] = {}
        self.free: dict[str, nn.Parameter] = {}
        for name, one in packed.items():
            scale_RG1 = torch.from_numpy(format.scale_values(one.scales) / one.global_scale)[..., None]
            u_RC = torch.from_numpy(nvfp4.byte_values(one.codes).reshape(one.shape))
            self.free[name], self._scales[name] = nn.Parameter(u_RC), scale_RG1
            self._matrices[name].requires_grad_(True)
        self.round()

    @torch.no_grad()
    def round(self) -> None:
        """The model's matrices become what the codes nearest to the free weights say."""
        for name, matrix in self._matrices.items():
            # Beyond the largest code there is nothing to gain, and the way back would be long.
            u_RC = self.free[name].clamp_(-nvfp4.E2M1_MAX, nvfp4.E2M1_MAX)
            matrix.copy_((self._blocks(_nearest(u_RC)) * self._scales[name]).view_as(matrix))

    @torch.no_grad()
    def take_gradients(self) -> None:
        """Of the matrices, as if rounding were not there (straight-through)."""
        for name, matrix in self._matrices.items():
            assert matrix.grad is not None
            self._blocks(matrix.grad).mul_(self._scales[name])
            self.free[name].grad, matrix.grad = matrix.grad, None

    def packed(self) -> dict[str, Packed]:
        found: dict[str, Packed] = {}
        for name, free in self.free.items():
            codes_RC, _ = nvfp4.nearest(_nearest(free.detach()).numpy(), np.ones(1, np.float32))
            given = self._given[name]
            codes = np.ascontiguousarray(codes_RC[:, 0::2] | (codes_RC[:, 1::2] << 4))
            found[name] = self._format.pack(codes, given.scales, given.global_scale)
        return found

    def largest_inputs(self, read: Callable[[], object]) -> dict[str, float]:
        """Module name -> the largest size among its inputs while `read` runs."""
        found = dict.fromkeys(self._matrices, 0.0)

        def see(name: str, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            found[name] = max(found[name], float(inputs[0].detach().abs().max()))

        hooks = [self._modules[name].register_forward_pre_hook(functools.partial(see, name)) for name in self._matrices]
        try:
            read()
        finally:
            for hook in hooks:
                hook.remove()
        return found

    def _blocks(self, matrix_RC: Tensor) -> Tensor:
        return matrix_RC.view(len(matrix_RC), -1, self._format.block)


def _nearest(u: Tensor) -> Tensor:
    """E2M1's nearest value of numbers up to 6; see `kernels.nvfp4._round_e2m1`."""
    magic = (u.view(torch.int32) & 0x7F800000).view(torch.float32).clamp_(min=1.0).mul_(0.5 * 1.5 * 2**23)
    return (u + magic).sub_(magic)


@torch.no_grad()
def _read(model: Transformer, token_ids: Sequence[int], matmul: torch.dtype) -> _Text:
    tokens_1T = torch.tensor([token_ids])
    return _Text(tokens_1T, _states(model, tokens_1T, matmul).to(matmul))


@torch.no_grad()
def _cross_entropy(model: Transformer, texts: Sequence[_Text], matmul: torch.dtype) -> float:
    """With the teacher, in bits a token."""
    total = sum(float(_distance(model, text, matmul)) for text in texts)
    return total / sum(len(text.states_TD) for text in texts) / float(np.log(2))


def _distance(model: Transformer, text: _Text, matmul: torch.dtype) -> Tensor:
    """Sum over the tokens of the cross-entropy with the teacher, natural logarithms."""
    states_TD = _states(model, text.tokens_1T, matmul)
    taught = losses.Soft(torch.arange(len(states_TD)), text.states_TD, model.lm_head.weight.detach().to(matmul))
    nothing = torch.zeros(len(states_TD), dtype=torch.long)
    return losses.weighted_nll(states_TD, model.lm_head, nothing, torch.ones(len(states_TD)), matmul=matmul, soft=taught)


def _states(model: Transformer, tokens_1T: Tensor, matmul: torch.dtype) -> Tensor:
    with torch.autocast("cpu", matmul, enabled=matmul != torch.float32, cache_enabled=False):
        return model.hidden(tokens_1T)[0]


def _batches(texts: Sequence[_Text], config: DistillConfig) -> Iterator[list[_Text]]:
    """Without end, in another order each round."""
    order = random.Random(config.seed)
    while True:
        mixed = order.sample(texts, len(texts))
        yield from (mixed[at : at + config.step_texts] for at in range(0, len(mixed), config.step_texts))

"""The loss of a sequence: weighted negative log-likelihood of the next token, computed without keeping any logits.

Letters: N tokens with loss, D residual width, V vocabulary, B rows, T tokens.

    hidden states x_ND, head_VD --(chunks of tokens)--> logits --> sum of weight * -log p, and both gradients at once

With 49,152 words the logits of 768 tokens take 150 MB, and the usual way (log-softmax, its gradient, two more products)
moves them through memory five times. Here a chunk of logits stays in the cache while softmax, loss and its gradient are
computed in place, and the gradients of x and head are added up right there: backward only hands them out.
The idea is Liger's fused linear cross-entropy (arXiv:2410.10989), for a CPU.

At some tokens another model's distribution can stand in place of the token that came (`Soft`): then the loss is the
cross-entropy with it, and its gradient at the logits softmax(student) - softmax(teacher).

The head is applied only where a token carries loss. Weights are divided by the total weight of a whole STEP beforehand,
so that several small batches give the same gradient as one large one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from apprentice.model.transformer import Transformer
from apprentice.train.packing import CHANGED, Batch

CHUNK_TOKENS = 128


@dataclass(frozen=True, slots=True)
class Soft:
    """What another model would say at some of N tokens."""

    rows_N: Tensor
    """int64, which of `x_SD` belongs to each token; -1 where the token that came is what is learned."""
    x_SD: Tensor
    """Its hidden states there."""
    head_VD: Tensor

    def probabilities(self, rows: Tensor) -> Tensor:
        """Of the next token, float32 [.., V]."""
        return (self.x_SD[rows] @ self.head_VD.T).float().softmax(-1)


class Teacher(Protocol):
    """`rehearsal.Teacher`."""

    def soft(self, batch: Batch, wanted_BT: np.ndarray) -> Soft | None:
        """For the wanted tokens (a mask over tokens 1.. of each row), row after row."""
        ...


def total_weight(batches: list[Batch], table: np.ndarray) -> float:
    """The weight that a step's loss is divided by."""
    return float(sum(table[batch.kinds_BT[:, 1:]].sum(dtype=np.float64) for batch in batches))


def batch_loss(
    model: Transformer, batch: Batch, table: np.ndarray, divisor: float, *, matmul: torch.dtype, teacher: Teacher | None = None
) -> Tensor:
    """Sum of weight * -log p over the batch, divided by `divisor`."""
    weights_BT = table[batch.kinds_BT[:, 1:]] / divisor
    x_ND, targets_N, at = hidden_at(model, batch, weights_BT > 0, matmul)
    weights_N = torch.from_numpy(weights_BT[at].astype(np.float32))
    soft = None if teacher is None else teacher.soft(batch, at)
    return weighted_nll(x_ND, model.lm_head, targets_N, weights_N, matmul=matmul, soft=soft)


@torch.no_grad()
def changed_nll(model: Transformer, batch: Batch, *, matmul: torch.dtype) -> tuple[np.ndarray, np.ndarray]:
    """-log p of each changed token of a batch of one, the head in float32, and where among tokens 1.. they stand."""
    assert len(batch.token_ids_BT) == 1
    wanted_BT = batch.kinds_BT[:, 1:] == CHANGED
    if not wanted_BT.any():
        return np.empty(0, np.float32), wanted_BT[0]
    x_ND, targets_N, _ = hidden_at(model, batch, wanted_BT, matmul)
    parts = [
        functional.cross_entropy(model.logits(x_CD).float(), targets_C, reduction="none")
        for x_CD, targets_C in zip(x_ND.split(CHUNK_TOKENS), targets_N.split(CHUNK_TOKENS), strict=True)
    ]
    return torch.cat(parts).numpy(), wanted_BT[0]


def weighted_nll(
    x_ND: Tensor, head: nn.Module, targets_N: Tensor, weights_N: Tensor, *, matmul: torch.dtype = torch.float32,
    soft: Soft | None = None,
) -> Tensor:  # fmt: skip
    """sum_n weights[n] * -log softmax(x[n] @ head)[targets[n]], or the mean of -log softmax under what `soft` says there.
    `matmul`: number format of the large products."""
    if isinstance(head, nn.Linear) and head.bias is None:
        # Autograd runs `forward` without gradients, so that it must be told whether they will be wanted.
        wanted = torch.is_grad_enabled() and (x_ND.requires_grad, head.weight.requires_grad) or (False, False)
        # torch does not type `apply`.
        total: Tensor = cast(Any, _WeightedNll).apply(x_ND, head.weight, targets_N, weights_N, matmul, wanted, soft)
        return total
    return reference_nll(head(x_ND), targets_N, weights_N, soft)


def reference_nll(logits_NV: Tensor, targets_N: Tensor, weights_N: Tensor, soft: Soft | None = None) -> Tensor:
    """The same in a few lines, for heads that are no plain product and for tests."""
    nll_N = functional.cross_entropy(logits_NV.float(), targets_N, reduction="none")
    if soft is not None:
        taught = soft.rows_N >= 0
        meant = -(soft.probabilities(soft.rows_N[taught]) * logits_NV[taught].float().log_softmax(-1)).sum(-1)
        nll_N = nll_N.masked_scatter(taught, meant)
    return (nll_N * weights_N).sum()


class _WeightedNll(torch.autograd.Function):
    @staticmethod
    def forward(*args: Any, **kwargs: Any) -> Tensor:
        ctx, x_ND, head_VD, targets_N, weights_N, matmul, wanted, soft = args
        x, head = x_ND.to(matmul), head_VD.to(matmul)
        grad_x_ND = torch.empty_like(x_ND) if wanted[0] else None
        grad_head_VD = torch.zeros_like(head_VD) if wanted[1] else None
        total = torch.zeros((), dtype=torch.float64)
        for start in range(0, x.shape[0], CHUNK_TOKENS):
            at = slice(start, start + CHUNK_TOKENS)
            probs_CV = (x[at] @ head.T).float()
            targets_C1 = targets_N[at, None]
            probs_CV -= probs_CV.amax(1, keepdim=True)
            target_logits_C = probs_CV.gather(1, targets_C1)[:, 0]
            taught, meant_SV = _meant(soft, at)
            if meant_SV is not None:
                target_logits_C[taught] = (meant_SV * probs_CV[taught]).sum(1)
            sums_C = probs_CV.exp_().sum(1)
            total += ((sums_C.log() - target_logits_C) * weights_N[at]).sum(dtype=torch.float64)
            if grad_x_ND is None and grad_head_VD is None:
                continue
            probs_CV *= (weights_N[at] / sums_C)[:, None]
            if meant_SV is None:
                probs_CV.scatter_add_(1, targets_C1, -weights_N[at, None])
            else:
                probs_CV.scatter_add_(1, targets_C1, (-weights_N[at]).masked_fill(taught, 0)[:, None])
                probs_CV[taught] -= meant_SV * weights_N[at][taught, None]
            grad_CV = probs_CV.to(matmul)
            if grad_x_ND is not None:
                grad_x_ND[at] = grad_CV @ head
            if grad_head_VD is not None and matmul == torch.float32:
                grad_head_VD.addmm_(grad_CV.T, x[at])
            elif grad_head_VD is not None:
                grad_head_VD += grad_CV.T @ x[at]
        ctx.save_for_backward(grad_x_ND, grad_head_VD)
        return total.float()

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor | None, ...]:
        (grad_output,) = grad_outputs
        grads = list(ctx.saved_tensors)
        if float(grad_output) != 1.0:
            grads = [None if grad is None else grad * grad_output for grad in grads]
        return (*grads, None, None, None, None, None)


def _meant(soft: Soft | None, at: slice) -> tuple[Tensor, Tensor | None]:
    """Which tokens of a chunk are taught by another model (a mask), and its distributions at them."""
    if soft is None:
        return torch.empty(0, dtype=torch.bool), None
    rows_C = soft.rows_N[at]
    taught_C = rows_C >= 0
    return taught_C, soft.probabilities(rows_C[taught_C]) if bool(taught_C.any()) else None


def hidden_at(
    model: Transformer, batch: Batch, wanted_BT: np.ndarray, matmul: torch.dtype
) -> tuple[Tensor, Tensor, np.ndarray]:
    """Hidden states in front of the wanted tokens (a mask over tokens 1.. of each row), those tokens, and the mask."""
    tokens_BT = torch.from_numpy(batch.token_ids_BT)
    segments_BT = None if batch.segments_BT is None else torch.from_numpy(batch.segments_BT)
    # The last token predicts nothing.
    # Weights stay float32: an update of 1e-4 would vanish in 8 bits of mantissa. Each is used once, so no copy is kept.
    with torch.autocast("cpu", matmul, enabled=matmul != torch.float32, cache_enabled=False):
        x_BTD = model.hidden(tokens_BT[:, :-1], segments_BT=None if segments_BT is None else segments_BT[:, :-1])
    at = torch.from_numpy(wanted_BT)
    return x_BTD[at], tokens_BT[:, 1:][at], wanted_BT

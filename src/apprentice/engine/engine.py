"""The native engine as a `Generator`: a checkpoint folder that continues and scores token sequences, without torch.

    Engine.load(folder) --generate(requests)--> samples, --score(prompts, targets)--> log-probabilities

Sampling, drafts, mixtures, healing, stops and streaming are those of `text.decoding`, shared with the torch model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from apprentice.core.errors import InputError
from apprentice.core.protocols import Mixture, Request, Sample, Score
from apprentice.engine.loader import load_weights
from apprentice.engine.model import DEFAULTS, EngineConfig, NumpyModel
from apprentice.text import decoding
from apprentice.text.tokenizer import Tokenizer


class Engine:
    """Implements `core.protocols.Generator`."""

    def __init__(self, model: NumpyModel, tokenizer: Tokenizer, config: EngineConfig = DEFAULTS) -> None:
        self.model, self.tokenizer, self.config = model, tokenizer, config

    @classmethod
    def load(cls, folder: Path, config: EngineConfig = DEFAULTS, *, memory_bytes: int | None = None) -> Engine:
        """A quantized or a plain Hugging Face folder. Raises: InputError naming the file that cannot be used."""
        tokenizer = Tokenizer.load(folder)
        weights = load_weights(folder, memory_bytes=memory_bytes)
        if tokenizer.vocab_size > weights.config.vocab_size:
            raise InputError(
                f"{folder}: the tokenizer has {tokenizer.vocab_size} tokens, the model {weights.config.vocab_size}",
                hint="take tokenizer.json and the weights from the same checkpoint",
            )
        return cls(NumpyModel(weights, config), tokenizer, config)

    def generate(
        self, requests: Sequence[Request], *, on_token: Callable[[int, int, str], bool] | None = None
    ) -> list[Sample]:
        return decoding.generate(
            self.model, self.tokenizer, requests, on_token=on_token, max_sequences=self.config.max_sequences
        )

    def score(
        self, prompts: Sequence[Sequence[int]], targets: Sequence[Sequence[int]], *,
        mixtures: Sequence[Mixture | None] | None = None,
    ) -> list[Score]:
        return decoding.score(self.model, prompts, targets, mixtures=mixtures)

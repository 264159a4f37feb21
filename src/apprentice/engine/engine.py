"""Our engine as a `Generator`: a checkpoint folder that continues and scores token sequences, without torch.

    Engine.load(folder) --generate(requests)--> samples, --score(prompts, targets)--> log-probabilities

The model computes in native code where that is compiled, else in numpy. Sampling, drafts, mixtures, healing, stops and
streaming are those of `text.decoding`, shared with the torch model.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from apprentice.core.errors import InputError, MissingPieceError
from apprentice.core.protocols import Mixture, Request, Sample, Score
from apprentice.engine.calling_off import CalledOff, IsWanted, WhileWanted
from apprentice.engine.loader import Checkpoint, load_weights
from apprentice.engine.model import DEFAULTS, EngineConfig, NumpyModel
from apprentice.engine.native import NativeModel
from apprentice.engine.scheduler import Passage
from apprentice.engine.stored_packing import PackingStore
from apprentice.kernels import native
from apprentice.model import adapter_files
from apprentice.text import decoding
from apprentice.text.tokenizer import Tokenizer

SCORED_TOKENS = 512
"""Scored in one pass, where no prompt is longer: others wait for it, and each has a row as wide as the vocabulary."""


class Engine:
    """Implements `core.protocols.Generator`."""

    def __init__(self, model: NativeModel | NumpyModel, tokenizer: Tokenizer, config: EngineConfig = DEFAULTS) -> None:
        self.model, self.tokenizer, self.config = model, tokenizer, config
        self._passage = Passage()

    @classmethod
    def load(cls, folder: Path, config: EngineConfig = DEFAULTS, *, memory_bytes: int | None = None) -> Engine:
        """A quantized or a plain Hugging Face folder. Raises: InputError naming the file that cannot be used."""
        if not (folder / "tokenizer.json").is_file():
            # Says so at once.
            Tokenizer.load(folder)
        # One is parsed by Python while the weights of the other are read and packed without it.
        with ThreadPoolExecutor(1) as worker:
            parsing = worker.submit(Tokenizer.load, folder)
            model = _load_model(folder, config, memory_bytes)
            tokenizer = parsing.result()
        if tokenizer.vocab_size > model.config.vocab_size:
            raise InputError(
                f"{folder}: the tokenizer has {tokenizer.vocab_size} tokens, the model {model.config.vocab_size}",
                hint="take tokenizer.json and the weights from the same checkpoint",
            )
        return cls(model, tokenizer, config)

    def generate(
        self, requests: Sequence[Request], *, on_token: Callable[[int, int, str], bool] | None = None
    ) -> list[Sample]:
        return self._generate(requests, None, on_token)

    def generate_while(
        self, requests: Sequence[Request], is_wanted: IsWanted, *, on_token: Callable[[int, int, str], bool] | None = None
    ) -> list[Sample]:
        """As `generate`, and called off once `is_wanted` says no, which is asked in line and before each chunk of a prompt: then
        all samples are empty and `cancelled`."""
        return self._generate(requests, is_wanted, on_token)

    def score(
        self, prompts: Sequence[Sequence[int]], targets: Sequence[Sequence[int]], *,
        mixtures: Sequence[Mixture | None] | None = None,
    ) -> list[Score]:
        mixtures = mixtures or [None] * len(prompts)
        whole = [i for i, target in enumerate(targets) if len(target) <= SCORED_TOKENS]
        with self._passage.shared():
            scores = dict(zip(whole, decoding.score(
                self.model, [prompts[i] for i in whole], [targets[i] for i in whole], mixtures=[mixtures[i] for i in whole],
                tokens_per_forward=SCORED_TOKENS,
            ), strict=True))  # fmt: skip
            for i in set(range(len(prompts))).difference(whole):
                scores[i] = self._score_in_parts(prompts[i], targets[i], mixtures[i])
        return [scores[i] for i in range(len(prompts))]

    def adapt(self, folder: Path | None) -> None:
        """From now on with the LoRA of a folder in PEFT's layout, in place of any before; None: the weights alone. Waits for
        requests in work, and those that come later wait for it. Raises: InputError naming what does not fit; then nothing has changed."""
        corrections = {} if folder is None else adapter_files.read(folder, self.model.config)
        with self._passage.alone():
            self.model.adapt(corrections)

    def _generate(
        self, requests: Sequence[Request], is_wanted: IsWanted | None, on_token: Callable[[int, int, str], bool] | None
    ) -> list[Sample]:
        lengths = [self._length(request) for request in requests]
        model = self.model if is_wanted is None else WhileWanted(self.model, is_wanted)
        try:
            with self._passage.shared(), self.model.admitted(lengths, is_wanted) as count:
                try:
                    return decoding.generate(
                        model, self.tokenizer, requests, on_token=on_token, max_sequences=min(count, self.config.max_sequences)
                    )
                except CalledOff:
                    # In here, as below: what a traceback holds has pages, and whoever is let in next counts on them.
                    return _cancelled(requests)
                except BaseException as error:
                    traceback.clear_frames(error.__traceback__)
                    raise
        except CalledOff:
            return _cancelled(requests)

    def _score_in_parts(self, prompt: Sequence[int], target: Sequence[int], mixture: Mixture | None) -> Score:
        """A row of probabilities is as wide as the vocabulary: of a long text they are not all held at once."""
        tokens = [*prompt, *target[:-1]]
        if not prompt or len(tokens) > self.model.max_positions:
            # It says what is wrong.
            return decoding.score(self.model, [prompt], [target])[0]
        with self.model.admitted([len(tokens)]):
            try:
                return self._score_parts(tokens, len(prompt), target, mixture)
            except BaseException as error:
                # As in `_generate`: the pages are back before the room for them is.
                traceback.clear_frames(error.__traceback__)
                raise

    def _score_parts(self, tokens: list[int], num_prompt: int, target: Sequence[int], mixture: Mixture | None) -> Score:
        whole = Score(model_log_probs=[], mixture_log_probs=None if mixture is None else [])
        cache = self.model.new_cache(len(tokens))
        for at in range(0, len(target), SCORED_TOKENS):
            part = target[at : at + SCORED_TOKENS]
            fed = tokens[cache.length : num_prompt + at + len(part) - 1]
            (output,) = self.model.forward([decoding.Feed(fed, len(part), cache)])
            found = decoding.score_target(output.log_probs_TV, part, mixture)
            whole.model_log_probs.extend(found.model_log_probs)
            if whole.mixture_log_probs is not None:
                whole.mixture_log_probs.extend(found.mixture_log_probs or [])
        return whole

    @property
    def max_threads(self) -> int:
        """Threads that may call at a time. In native code their steps are computed together."""
        return self.config.max_sequences if isinstance(self.model, NativeModel) else 1

    def _length(self, request: Request) -> int:
        return min(len(request.prompt_ids) + request.max_tokens, self.model.max_positions)


def _cancelled(requests: Sequence[Request]) -> list[Sample]:
    return [Sample(token_ids=[], text="", log_probs=[], model_log_probs=[], finish_reason="cancelled") for _ in requests]


def _load_model(folder: Path, config: EngineConfig, memory_bytes: int | None) -> NativeModel | NumpyModel:
    library = None if config.backend == "numpy" else native.load()
    if library is not None and (config.backend == "native" or native.is_fast()):
        return NativeModel(Checkpoint(folder), library, config, memory_bytes=memory_bytes, store=PackingStore.of_user())
    if library is None and config.backend == "native":
        raise MissingPieceError(f"there are no native operators: {native.why_missing()}", hint=native.how_to_mend())
    if library is None and config.backend == "auto":
        native.warn_if_missing()
    return NumpyModel(load_weights(folder, memory_bytes=memory_bytes), config)

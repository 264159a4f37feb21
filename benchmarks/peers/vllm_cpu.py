"""vLLM's CPU build as a peer of `benchmarks/run decoding`: runs under a Python that has it, and nothing of ours.

    {"do": "open", "path": "FOLDER", "threads": 2, "sequences": 16, "context": 1024, "dtype": "bfloat16"} -> {"version": "0.32.0"}
    {"do": "prefill", "tokens": 512}                                                         -> {"seconds": 1.5}
    {"do": "decode", "sequences": 8, "context": 128, "steps": 16}                            -> {"seconds": 1.2}

A line of JSON in, a line of JSON out. Its engine in this process, tokens in and tokens out, greedy, without prefix caching and
without detokenizing. What decoding takes is the difference of two calls: with `steps` more tokens and without.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from typing import Any


class Peer:
    """A model."""

    def __init__(self, path: str, threads: int, sequences: int, context: int, dtype: str) -> None:
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
        os.environ["OMP_NUM_THREADS"] = str(threads)
        from vllm import LLM  # pyrefly: ignore

        self.model = LLM(
            model=path, dtype=dtype, max_model_len=4 * context + 256, max_num_seqs=sequences, enable_prefix_caching=False,
            max_num_batched_tokens=4 * context + 256, disable_log_stats=True, skip_tokenizer_init=True,
        )  # fmt: skip
        self.vocab_size = self.model.llm_engine.model_config.get_vocab_size()
        self.random = random.Random(0)
        for sequences_now in (1, sequences):
            self.timed(sequences_now, 8, 3)

    def timed(self, sequences: int, context: int, tokens: int) -> float:
        """Seconds of `tokens` tokens behind random prompts."""
        from vllm import SamplingParams  # pyrefly: ignore

        prompts = [
            {"prompt_token_ids": [self.random.randrange(self.vocab_size) for _ in range(context)]} for _ in range(sequences)
        ]
        sampling = SamplingParams(temperature=0, max_tokens=tokens, ignore_eos=True, detokenize=False)
        started = time.perf_counter()
        self.model.generate(prompts, sampling, use_tqdm=False)
        return time.perf_counter() - started

    def prefill(self, tokens: int) -> float:
        return self.timed(1, tokens, 1)

    def decode(self, sequences: int, context: int, steps: int) -> float:
        return self.timed(sequences, context, 1 + steps) - self.timed(sequences, context, 1)


def main() -> None:
    """Answers lines from stdin until it ends."""
    # vLLM prints to stdout as it likes.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    peer: Peer | None = None
    for line in sys.stdin:
        asked = json.loads(line)
        what = asked.pop("do")
        if what == "open":
            peer = Peer(**asked)
            import vllm  # pyrefly: ignore

            answer: dict[str, Any] = {"version": vllm.__version__}
        else:
            assert peer is not None
            answer = {"seconds": getattr(peer, what)(**asked)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()

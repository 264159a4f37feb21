"""llama.cpp as a peer of `benchmarks/run engine`: runs under a Python that has llama-cpp-python, and nothing of ours.

    {"do": "quantize", "source": "a.gguf", "target": "b.gguf", "kind": 2}                    -> {"bytes": 91_000_000}
    {"do": "open", "path": "model.gguf", "threads": 2, "sequences": 8, "context": 1100}      -> {"bytes": 91_000_000}
    {"do": "prefill", "tokens": 512}                                                         -> {"seconds": 1.5}
    {"do": "decode", "sequences": 8, "context": 128, "steps": 16}                            -> {"seconds": 1.2}

A line of JSON in, a line of JSON out. Tokens are drawn as the benchmark draws them; logits are asked for as a server would:
of the last token of a prompt, and of every token of a step. Weights are mapped and warmed by one decode before the clock.
"""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path
from typing import Any

import llama_cpp  # pyrefly: ignore

BATCH_TOKENS = 512


class Peer:
    """A model and its context."""

    def __init__(self, path: str, threads: int, sequences: int, context: int) -> None:
        llama_cpp.llama_log_set(_silent, None)
        llama_cpp.llama_backend_init()
        self.model = llama_cpp.llama_model_load_from_file(path.encode(), llama_cpp.llama_model_default_params())
        self.vocab_size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))
        self.threads, self.room = threads, context + 256
        self.context = self.several = self.open(sequences, self.room)
        self.batch = llama_cpp.llama_batch_init(BATCH_TOKENS, 0, sequences)
        self.random = random.Random(0)
        self.prefill(8)

    def open(self, sequences: int, room: int) -> Any:
        """A context in which each sequence has so much room."""
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = sequences * room
        params.n_seq_max = sequences
        params.n_batch = params.n_ubatch = BATCH_TOKENS
        params.n_threads = params.n_threads_batch = self.threads
        return llama_cpp.llama_init_from_model(self.model, params)

    def feed(self, rows: list[tuple[int, int, int, bool]]) -> None:
        """(token, position, sequence, is the output asked for) of each row, at most BATCH_TOKENS."""
        self.batch.n_tokens = len(rows)
        for i, (token, position, sequence, wanted) in enumerate(rows):
            self.batch.token[i], self.batch.pos[i], self.batch.n_seq_id[i] = token, position, 1
            self.batch.seq_id[i][0], self.batch.logits[i] = sequence, wanted
        code = llama_cpp.llama_decode(self.context, self.batch)
        if code:
            raise RuntimeError(f"llama_decode: {code}")
        # Not before it is asked for is the work known to be done.
        for i, row in enumerate(rows):
            if row[3]:
                llama_cpp.llama_get_logits_ith(self.context, i)[0]

    def clear(self) -> None:
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), True)

    def read(self, sequence: int, count: int) -> None:
        tokens = [self.random.randrange(self.vocab_size) for _ in range(count)]
        for start in range(0, count, BATCH_TOKENS):
            end = min(start + BATCH_TOKENS, count)
            self.feed([(tokens[i], i, sequence, i == count - 1) for i in range(start, end)])

    def prefill(self, tokens: int) -> float:
        # A prompt longer than a sequence's share has a context to itself, made and warmed before the clock.
        self.context = self.several if tokens <= self.room else self.open(1, tokens)
        if self.context != self.several:
            self.read(0, 8)
        self.clear()
        started = time.perf_counter()
        self.read(0, tokens)
        seconds = time.perf_counter() - started
        if self.context != self.several:
            llama_cpp.llama_free(self.context)
            self.context = self.several
        return seconds

    def decode(self, sequences: int, context: int, steps: int) -> float:
        self.clear()
        for sequence in range(sequences):
            self.read(sequence, context)
        self.feed([(7, context, sequence, True) for sequence in range(sequences)])
        started = time.perf_counter()
        for step in range(1, steps + 1):
            self.feed([(self.random.randrange(self.vocab_size), context + step, i, True) for i in range(sequences)])
        return time.perf_counter() - started


@llama_cpp.llama_log_callback
def _silent(level: int, text: bytes, data: Any) -> None:
    pass


def main() -> None:
    """Answers lines from stdin until it ends."""
    peer: Peer | None = None
    for line in sys.stdin:
        asked = json.loads(line)
        what = asked.pop("do")
        if what == "quantize":
            params = llama_cpp.llama_model_quantize_default_params()
            params.ftype, params.allow_requantize, params.pure = asked["kind"], True, False
            paths = asked["source"].encode(), asked["target"].encode()
            if code := llama_cpp.llama_model_quantize(*paths, params):
                raise RuntimeError(f"llama_model_quantize: {code}")
            answer: dict[str, Any] = {"bytes": Path(asked["target"]).stat().st_size}
        elif what == "open":
            peer = Peer(**asked)
            answer = {"bytes": Path(asked["path"]).stat().st_size, "version": llama_cpp.__version__}
        else:
            assert peer is not None
            answer = {"seconds": getattr(peer, what)(**asked)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()

"""llama.cpp's `/infill`: the whole reply of a cursor between two texts, with its times, in llama.cpp's words."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from apprentice.core.protocols import Generator, Request
from apprentice.serve.generation import Ending
from apprentice.serve.jobs import Job
from apprentice.serve.wanted import generate_while


def work(generator: Generator, request: Request, ending: Ending, max_positions: int) -> Callable[[Job[dict[str, Any]]], None]:
    """To be submitted to the line: gives one answer."""

    def run(job: Job[dict[str, Any]]) -> None:
        started = time.perf_counter()
        first: list[float] = []

        def on_token(*_: object) -> bool:
            if not first:
                first.append(time.perf_counter())
            return job.is_wanted

        (sample,) = generate_while(generator, [request], lambda: job.is_wanted, on_token=on_token)
        if not job.is_wanted:
            return
        ended = time.perf_counter()
        began = first[0] if first else ended
        answer = {
            "content": ending.finish(sample), "stop": True, "truncated": False,
            "tokens_predicted": len(sample.token_ids), "tokens_evaluated": len(request.prompt_ids), "tokens_cached": 0,
            # llama.vscode takes it to be there.
            "generation_settings": {"n_ctx": max_positions},
            "timings": {
                **_times("prompt", len(request.prompt_ids), began - started),
                **_times("predicted", len(sample.token_ids), ended - began),
            },
        }  # fmt: skip
        job.give(answer)

    return run


def chosen(answer: dict[str, Any], fields: list[str] | None) -> dict[str, Any]:
    """The fields that were asked for, by their whole names; those that are not there are left out."""
    if fields is None:
        return answer
    found: dict[str, Any] = {}
    for name in fields:
        value: Any = answer
        for part in name.split("/"):
            value = value.get(part) if isinstance(value, dict) else None
        if value is not None:
            found[name] = value
    return found


def _times(name: str, count: int, seconds: float) -> dict[str, float]:
    return {
        f"{name}_n": count, f"{name}_ms": round(1000 * seconds, 3),
        f"{name}_per_token_ms": round(1000 * seconds / max(count, 1), 3),
        f"{name}_per_second": round(count / max(seconds, 1e-9), 3),
    }  # fmt: skip

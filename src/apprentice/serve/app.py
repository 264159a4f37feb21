"""The API as a Starlette application: OpenAI's endpoints over a Generator.

    GET  /health, /v1/models, /v1/models/NAME
    POST /v1/chat/completions       messages through the checkpoint's own template
    POST /v1/completions            a text goes on; with `suffix` a cursor between two texts is filled in; editors' own prompts
                                    (`dialects`) are taken apart
    POST /infill                    the same as llama.cpp's server has it

    request --Guard--> typed request --prompts (a helper thread)--> Line --pieces--> JSON, or server-sent events

What is wrong with a request is said before anything is streamed; what goes wrong later comes as an event `error`. Prompts
and replies are never logged. Left out for now: tools and embeddings. Beginnings of prompts are shared between clients (one
process serves one person or team).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from apprentice.core.protocols import Request as Generation
from apprentice.serve import infill, replies
from apprentice.serve.errors import ApiError, from_exception
from apprentice.serve.generation import Choice, Ending, Event, Finish, Piece, given_tokens, work
from apprentice.serve.guard import Guard, GuardConfig
from apprentice.serve.jobs import Job, Line
from apprentice.serve.requests import ChatRequest, CompletionRequest, InfillRequest, Shared, parse
from apprentice.serve.served import ALIAS, ServedModel, Slot, chat_requests, completion_requests, infill_request
from apprentice.serve.watching import Watched

log = logging.getLogger("apprentice.serve")

MAX_WAITING = 64
"""Requests in line and in work."""


def create_app(slot: Slot, guard: GuardConfig | None = None, *, max_waiting: int = MAX_WAITING) -> Starlette:
    """The application. Its model threads end with its lifespan."""
    guard = guard or GuardConfig()
    api = _Api(slot, Line(max_waiting, slot.model.max_threads))

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(api.line.close)

    middleware = [Middleware(Guard, guard)]
    if guard.allowed_origins:
        cors = Middleware(
            # Clients in a browser send headers of their own beside the usual two.
            CORSMiddleware, allow_origins=guard.allowed_origins, allow_methods=["GET", "POST"], allow_headers=["*"],
        )  # fmt: skip
        middleware.append(cors)
    routes = [
        Route("/health", api.health, methods=["GET"]),
        Route("/v1/models", api.models, methods=["GET"]),
        Route("/v1/models/{name:path}", api.model_by_name, methods=["GET"]),
        Route("/v1/chat/completions", _answering(api.chat), methods=["POST"]),
        Route("/v1/completions", _answering(api.complete), methods=["POST"]),
        Route("/infill", _answering(api.infill), methods=["POST"]),
    ]
    handlers: Any = {HTTPException: _http_error, ApiError: _any_error, Exception: _any_error}
    return Starlette(routes=routes, middleware=middleware, lifespan=lifespan, exception_handlers=handlers)


class _Api:
    """The endpoints."""

    def __init__(self, slot: Slot, line: Line) -> None:
        self._slot, self.line = slot, line

    async def health(self, _: Request) -> Response:
        return JSONResponse({"status": "ok", "model": self._slot.model.name})

    async def models(self, _: Request) -> Response:
        # The name that stays comes first: the model's own changes with each that is learned.
        model = self._slot.model
        return JSONResponse({"object": "list", "data": [_description(model, name) for name in dict.fromkeys((ALIAS, model.name))]})

    async def model_by_name(self, request: Request) -> Response:
        name = request.path_params["name"]
        model = self._asked_for(name)
        return JSONResponse(_description(model, ALIAS if name == ALIAS else model.name))

    async def chat(self, request: Request) -> Response:
        asked = parse(await request.body(), ChatRequest)
        model = self._asked_for(asked.model)
        requests = await run_in_threadpool(chat_requests, model, asked)
        num_top = (asked.top_logprobs or 0) if asked.logprobs else None
        job = self.line.submit(work(model.generator, requests, num_top))
        reply = replies.Reply(model, chat=True, with_log_probs=num_top is not None)
        return await self._answer(request, asked, job, reply, requests)

    async def complete(self, request: Request) -> Response:
        asked = parse(await request.body(), CompletionRequest)
        model = self._asked_for(asked.model)
        requests, endings = await run_in_threadpool(completion_requests, model, asked)
        job = self.line.submit(_completing(model, asked, requests, endings))
        reply = replies.Reply(model, chat=False, with_log_probs=asked.logprobs is not None)
        return await self._answer(request, asked, job, reply, requests)

    async def infill(self, request: Request) -> Response:
        asked = parse(await request.body(), InfillRequest)
        if asked.n_predict == 0:
            # llama.vim warms the cache with other files' text, which no prompt of ours shows.
            return JSONResponse(infill.chosen({"content": "", "stop": True}, asked.response_fields))
        model = self._slot.model
        generation, ending = await run_in_threadpool(infill_request, model, asked)
        job = self.line.submit(infill.work(model.generator, generation, ending, model.max_positions))
        answers = []
        async with _listening(request, job):
            async for answer in job.items():
                answers.append(answer)
        if not answers:
            raise ClientDisconnect
        return JSONResponse(infill.chosen(answers[0], asked.response_fields))

    async def _answer(
        self, request: Request, asked: Shared, job: Job[Event], reply: replies.Reply, requests: Sequence[Generation]
    ) -> Response:
        num_prompt = sum(len(one.prompt_ids) for one in requests[:: asked.n or 1])
        if asked.stream:
            with_usage = asked.stream_options is not None and asked.stream_options.include_usage
            events = _events(job, reply, len(requests), num_prompt, with_usage=with_usage)
            headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
            return StreamingResponse(events, media_type="text/event-stream", headers=headers)
        choices, num_finished = [Choice() for _ in requests], 0
        async with _listening(request, job):
            async for event in job.items():
                choices[event.index].take(event)
                num_finished += isinstance(event, Finish)
        if num_finished < len(choices):
            raise ClientDisconnect
        num_completion = sum(choice.num_tokens for choice in choices)
        return JSONResponse(reply.whole(choices, replies.usage(num_prompt, num_completion)))

    def _asked_for(self, name: str) -> ServedModel:
        model = self._slot.model
        if not self._slot.answers_to(name):
            raise ApiError(
                404,
                f"The model `{name}` does not exist; this server has `{model.name}`",
                code="model_not_found",
                param="model",
            )
        return model


def _description(model: ServedModel, name: str) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": model.created,
        "owned_by": "apprentice",
        "max_model_len": model.max_positions,
    }


def _completing(
    model: ServedModel, asked: CompletionRequest, requests: Sequence[Generation], endings: Sequence[Ending | None]
) -> Callable[[Job[Event]], None]:
    generator = model.generator
    going_on = work(generator, requests, asked.logprobs, endings=endings)

    def run(job: Job[Event]) -> None:
        # The prompt with its log-probabilities is a piece of its own, in front of the others.
        for index, request in enumerate(requests if asked.echo else []):
            if not job.is_wanted:
                return
            tokens: list[Watched] = []
            if asked.logprobs is not None:
                first = Watched(request.prompt_ids[0], replies.NOT_KNOWN, {})
                tokens = [first, *given_tokens(generator, request.prompt_ids, asked.logprobs)]
            # What was put in front of a text was not in it.
            begins = model.tokenizer.beginning_ids
            skipped = len(begins) if isinstance(asked.prompts()[0], str) and tuple(request.prompt_ids[: len(begins)]) == begins else 0
            job.give(Piece(index, model.tokenizer.decode(request.prompt_ids[skipped:]), tokens[skipped:]))
        going_on(job)

    return run


async def _events(
    job: Job[Event], reply: replies.Reply, num_choices: int, num_prompt: int, *, with_usage: bool
) -> AsyncIterator[bytes]:
    """Server-sent events. When the client goes away this is closed, and the job with it."""
    num_completion = 0
    try:
        for index in range(num_choices):
            if (opening := reply.opening(index)) is not None:
                yield _event(opening)
        async for event in job.items():
            if isinstance(event, Piece):
                yield _event(reply.piece(event.index, event.text, event.tokens))
            else:
                num_completion += event.num_tokens
                yield _event(reply.closing(event.index, event.reason, event.tokens))
        if with_usage:
            yield _event(reply.usage(replies.usage(num_prompt, num_completion)))
        yield b"data: [DONE]\n\n"
    except Exception as error:  # noqa: BLE001 - the status line is long gone
        yield _event(_known(error).body())
    finally:
        job.cancel()


@contextlib.asynccontextmanager
async def _listening(request: Request, job: Job[Any]) -> AsyncIterator[None]:
    """Cancels the job when the client goes away before its answer."""

    async def listen() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        job.cancel()

    task = asyncio.create_task(listen())
    try:
        yield
    finally:
        task.cancel()


def _answering(endpoint: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """Turns what an endpoint raises into an answer."""

    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except ClientDisconnect:
            return Response(status_code=499)
        except Exception as error:  # noqa: BLE001 - the boundary to the client
            return _known(error).response()

    return answer


def _known(error: Exception) -> ApiError:
    answer = from_exception(error)
    if answer.status >= 500:
        log.error("a request failed", exc_info=error)
    return answer


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = {404: "there is no such endpoint", 405: "this endpoint takes another method"}.get(error.status_code, error.detail)
    return ApiError(error.status_code, message).response()


async def _any_error(_: Request, error: Exception) -> Response:
    return _known(error).response()


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(value, separators=(",", ":")).encode() + b"\n\n"

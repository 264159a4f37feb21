"""What clients may ask for: every field with its type and range, in one typed pass over the JSON.

As with OpenAI, a field that does not exist is refused. Fields that exist there and have no meaning here are accepted where
leaving them out changes nothing (`user`, `store`, ...), and refused by name where it would (`tools`, `logit_bias`, ...).
There is no field for a chat template or its variables: templates are programs, and only the checkpoint's own is run.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Protocol, TypeVar

import msgspec
from msgspec import Meta

from apprentice.serve.errors import ApiError, unsupported
from apprentice.text import grammar

MAX_STOPS = 16
"""OpenAI takes 4; Continue sends 9."""
MAX_SAMPLES = 16
MAX_PROMPTS = 16

Name = Annotated[str, Meta(max_length=256)]
ALIAS = "apprentice"
"""A name for whatever is served."""
Temperature = Annotated[float, Meta(ge=0, le=2)]
TopP = Annotated[float, Meta(gt=0, le=1)]
Seed = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Samples = Annotated[int, Meta(ge=1, le=MAX_SAMPLES)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
StopText = Annotated[str, Meta(min_length=1, max_length=256)]
Stops = StopText | Annotated[list[StopText], Meta(max_length=MAX_STOPS)] | None
TokenId = Annotated[int, Meta(ge=0, le=2**32)]


class StreamOptions(msgspec.Struct, forbid_unknown_fields=True):
    include_usage: bool = False
    include_obfuscation: bool = False
    """Accepted; pieces are not padded."""


class Part(msgspec.Struct):
    """A part of a message's content."""

    type: str
    text: str = ""


class Message(msgspec.Struct):
    """Replies come back to us as clients got them, with fields that say nothing: those are passed over."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[Part] | None = None
    tool_calls: list[Any] | None = None
    function_call: Any = None


class Function(msgspec.Struct):
    """What was called."""

    name: Annotated[str, Meta(min_length=1, max_length=256)]
    arguments: str | dict[str, Any] = ""


class Called(msgspec.Struct):
    """A call of a tool, as an earlier reply made it."""

    function: Function


class Shared(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Fields that both endpoints have."""

    model: Name
    temperature: Temperature | None = None
    top_p: TopP | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    """Not OpenAI's: of llama.cpp and vLLM."""
    n: Samples | None = None
    seed: Seed | None = None
    stop: Stops = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: dict[str, Any] | None = None
    user: str | None = None

    @property
    def stop_texts(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    def refuse_unsupported(self) -> None:
        """Raises: ApiError for a field that would change the answer and is not computed."""
        if self.logit_bias:
            raise unsupported("logit_bias", "`logit_bias` is not supported by this server")
        if self.stream_options is not None and not self.stream:
            raise ApiError(400, "`stream_options` is only allowed when `stream` is on", param="stream_options")


class ChatRequest(Shared, kw_only=True, forbid_unknown_fields=True):
    """POST /v1/chat/completions."""

    messages: Annotated[list[Message], Meta(min_length=1, max_length=2048)]
    max_tokens: Annotated[int, Meta(ge=1, le=2**20)] | None = None
    max_completion_tokens: Annotated[int, Meta(ge=1, le=2**20)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    tools: list[Any] | None = None
    tool_choice: Any = None
    functions: list[Any] | None = None
    function_call: Any = None
    response_format: Any = None
    modalities: list[str] | None = None
    audio: Any = None
    prediction: Any = None
    web_search_options: Any = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: str | None = None
    verbosity: str | None = None
    service_tier: str | None = None
    store: bool | None = None
    metadata: dict[str, Any] | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    safety_identifier: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    """Not OpenAI's: of vLLM and llama.cpp. `enable_thinking` alone."""

    def refuse_unsupported(self) -> None:
        Shared.refuse_unsupported(self)
        for name, choice in (("tools", self.tool_choice), ("functions", self.function_call)):
            # Who may not call them needs none.
            if getattr(self, name) and choice != "none":
                raise unsupported(name, f"`{name}`: this server does not call tools; leave the field out")
        for name in ("tool_choice", "function_call"):
            if getattr(self, name) not in (None, "none", "auto"):
                raise unsupported(name, f"`{name}`: this server does not call tools; leave the field out")
        for name in ("audio", "prediction", "web_search_options"):
            if getattr(self, name):
                raise unsupported(name, f"`{name}` is not supported by this server")
        if set(self.chat_template_kwargs or ()) - {"enable_thinking"}:
            raise unsupported("chat_template_kwargs", "`chat_template_kwargs` may say `enable_thinking`, and nothing else")
        if self.modalities not in (None, [], ["text"]):
            raise unsupported("modalities", "this server answers in text only")
        if self.top_logprobs is not None and not self.logprobs:
            raise ApiError(400, "`top_logprobs` is only allowed when `logprobs` is on", param="top_logprobs")

    def form(self) -> str | None:
        """What the reply is held to (`text.grammar`). Raises: ApiError where `response_format` is none that OpenAI has."""
        asked = self.response_format
        kind = "text" if asked is None else asked.get("type") if isinstance(asked, dict) else None
        if kind == "text":
            return None
        if kind == "json_object":
            return grammar.of_schema(grammar.ANY_OBJECT)
        described = asked.get("json_schema") if kind == "json_schema" else None
        schema = described.get("schema") if isinstance(described, dict) else None
        if not isinstance(schema, dict):
            wanted = "`text`, `json_object` or `json_schema` with a `json_schema.schema`"
            raise ApiError(400, f"`response_format` must be of type {wanted}", param="response_format")
        return grammar.of_schema(schema)

    def conversation(self) -> list[dict[str, Any]]:
        """Role, text and calls of each message, by the roles that templates know: those of OpenAI's that they do not would be passed
        over without a word."""
        return [_told(message, number) for number, message in enumerate(self.messages)]

    def variables(self) -> dict[str, Any]:
        """What a template may be told besides."""
        told = (self.chat_template_kwargs or {}).get("enable_thinking")
        thinks = told if isinstance(told, bool) else False if self.reasoning_effort in ("none", "minimal") else None
        return {} if thinks is None else {"enable_thinking": thinks}


class CompletionRequest(Shared, kw_only=True, forbid_unknown_fields=True):
    """POST /v1/completions."""

    model: Name = ALIAS
    """OpenAI has it required; some editors send none."""
    prompt: str | list[str | TokenId | list[TokenId]] | None = None
    """A text or token ids, or several of one kind."""
    suffix: str | None = None
    max_tokens: Annotated[int, Meta(ge=0, le=2**20)] | None = None
    logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    echo: bool | None = None
    best_of: Samples | None = None
    environment: str | None = None
    """Zed's own; says nothing about the reply."""
    path: Annotated[str, Meta(max_length=512)] | None = None
    """Ours: the file that `prompt` and `suffix` are the two sides of a cursor in."""

    def refuse_unsupported(self) -> None:
        Shared.refuse_unsupported(self)
        if self.best_of not in (None, self.n or 1):
            raise unsupported("best_of", "`best_of` other than `n` is not supported by this server")
        if self.suffix is not None and self.echo:
            raise unsupported("echo", "`echo` cannot be combined with `suffix`")
        if self.suffix is not None and not isinstance(self.prompt, str):
            raise unsupported("suffix", "`suffix` needs a `prompt` that is one text")
        if self.path is not None and self.suffix is None:
            raise ApiError(400, "`path` is only allowed together with `suffix`", param="path")
        if self.path is not None and (not self.path.strip() or not self.path.isprintable()):
            raise ApiError(400, "`path` must be one line of printable characters", param="path")
        if self.max_tokens == 0 and not self.echo:
            raise ApiError(400, "`max_tokens` 0 is only allowed together with `echo`", param="max_tokens")

    def prompts(self) -> list[str | list[int]]:
        """Texts or token ids. Raises: ApiError where there is none or are too many."""
        if self.suffix is not None and isinstance(self.prompt, str):
            # At the beginning of a file nothing stands in front of the cursor.
            return [self.prompt]
        given = self.prompt or []
        if len({type(one) for one in given}) > 1:
            raise ApiError(400, "`prompt` must be texts or token ids, not both", param="prompt")
        is_single = isinstance(given, str) or any(isinstance(one, int) for one in given)
        prompts: list[Any] = [given] if is_single else list(given)
        if not prompts or any(len(one) == 0 for one in prompts):
            raise ApiError(400, "`prompt` must not be empty", param="prompt")
        if len(prompts) > MAX_PROMPTS:
            raise ApiError(400, f"`prompt` has {len(prompts)} entries, at most {MAX_PROMPTS} are allowed", param="prompt")
        return prompts


class InfillRequest(msgspec.Struct, kw_only=True):
    """POST /infill, as llama.cpp's server has it and llama.vim asks it. What else llama.cpp knows is passed over."""

    input_prefix: str = ""
    input_suffix: str = ""
    prompt: str = ""
    """What stands on the cursor's line in front of it."""
    n_predict: Annotated[int, Meta(ge=-1, le=2**20)] = -1
    temperature: Temperature | None = None
    top_p: TopP | None = None
    seed: Seed | None = None
    stop: Stops = None
    response_fields: Annotated[list[str], Meta(max_length=64)] | None = None
    """Names of what is answered, parts of parts as `timings/prompt_ms`."""
    stream: bool = False

    def refuse_unsupported(self) -> None:
        if self.stream:
            raise unsupported("stream", "`/infill` does not stream; use `/v1/completions` with a `suffix`")


class Refusing(Protocol):
    """What is asked for, looked at once more."""

    def refuse_unsupported(self) -> None: ...


T = TypeVar("T", bound=Refusing)

_PLACE = re.compile(r" - at `\$\.?([^`]*)`$")


def parse(body: bytes, kind: type[T]) -> T:
    """Raises: ApiError naming the field."""
    try:
        request = msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        message = str(error)
        place = _PLACE.search(message)
        unknown = re.match(r"Object contains unknown field `(.{0,80})", message)
        if unknown is not None:
            name = unknown[1].removesuffix("`")
            raise ApiError(400, f"Unrecognized request argument supplied: {name}", param=name) from None
        param = place[1] if place else None
        shown = _PLACE.sub("", message)
        raise ApiError(400, f"`{param}`: {shown}" if param else shown, param=param) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ApiError(400, "the body is not valid JSON") from None
    request.refuse_unsupported()
    return request


def _told(message: Message, number: int) -> dict[str, Any]:
    role = {"developer": "system", "function": "tool"}.get(message.role, message.role)
    calls = message.tool_calls or ([{"type": "function", "function": message.function_call}] if message.function_call else [])
    if not calls or role != "assistant":
        return {"role": role, "content": _text(message, number)}
    try:
        named = [msgspec.convert(call, Called, strict=False) for call in calls]
    except msgspec.ValidationError as error:
        where = f"messages[{number}].tool_calls"
        raise ApiError(400, f"`{where}`: {error}", param=where) from None
    functions = [{"name": call.function.name, "arguments": call.function.arguments} for call in named]
    return {"role": role, "content": _text(message, number), "tool_calls": [{"type": "function", "function": one} for one in functions]}


def _text(message: Message, number: int) -> str:
    if isinstance(message.content, list):
        for part in message.content:
            if part.type != "text":
                raise unsupported(f"messages[{number}].content", f"content of type {part.type!r:.40} is not supported, only text")
        return "".join(part.text for part in message.content)
    return message.content or ""

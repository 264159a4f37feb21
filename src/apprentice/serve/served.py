"""What is served: a generator with its tokenizer and name, and the prompts that it is given."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from apprentice.core.errors import InputError
from apprentice.core.protocols import Generator, Mixture, Request, Sample
from apprentice.repository.prompt import Place, PromptConfig, completion_prompt, completion_text, next_edit_prompt
from apprentice.serve import dialects
from apprentice.serve.errors import ApiError
from apprentice.serve.generation import Ending
from apprentice.serve.requests import ALIAS, ChatRequest, CompletionRequest, InfillRequest, Shared
from apprentice.serve.silence import SHOW_FROM, Decision, Shown, facts
from apprentice.text import chat, tools
from apprentice.text.edits import Edit, EditFormatError, parse_target, split_lines
from apprentice.text.grammar import Grammar
from apprentice.text.healing import heal
from apprentice.text.lookup import PromptLookup
from apprentice.text.tokenizer import Tokenizer

DEFAULT_CHAT_TOKENS = 8192
"""Most, where the client says nothing: room in the cache is promised for all of them."""
DEFAULT_COMPLETION_TOKENS = 16
"""OpenAI's."""
INFILL_TOKENS = 64
LINE_TOKENS = 96
"""Of the rest of a line, most."""
GREEDY = 0.05
"""A temperature up to which an editor means the likeliest."""
EDIT_TOKENS = 64
"""That a rewritten region may have more than the region."""
UNNAMED_PATH = "untitled"
MAX_PARTS = 64
"""Of a path that are looked at."""

MakeMixture = Callable[[Place, str, Sequence[int], str], Mixture | None]
"""(place, what stands on the cursor's line in front of it, healed prompt, what the output must start with)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ServedModel:
    """One model behind the API."""

    name: str
    generator: Generator
    tokenizer: Tokenizer
    max_positions: int
    """Longest prompt and reply together, in tokens."""
    created: int = 0
    """Seconds since 1970."""
    fingerprint: str | None = None
    """Of weights and memory, where known."""
    max_threads: int = 1
    """That may call the generator at a time."""
    make_mixture: MakeMixture | None = None
    """The repository's memory for completions with a `suffix`."""
    paths: frozenset[str] = frozenset()
    """Of the repository's files, as the memory knows them."""
    find_path: Callable[[Sequence[str]], str] | None = None
    """Which of them these lines are; empty where it is none."""
    prompt: PromptConfig = PromptConfig()  # noqa: RUF009 - frozen
    decision: Decision | None = None
    """What an editor that asks by itself is shown; None: everything."""
    show_from: float = SHOW_FROM
    """Chance of being right from which on it is shown, 0 to 1."""

    def shows(self, shown: Shown, sample: Sample, recent: Sequence[Edit] = ()) -> bool:
        """Whether a suggestion is worth showing unasked."""
        return self.decision is None or self.decision.chance(shown.kind, facts(shown, sample, recent)) >= self.show_from

    def path_of(self, said: str, lines: Sequence[str]) -> str:
        """What the repository calls a file. Clients put the name of their folder in front, or the whole way to it, or say none."""
        said = said.replace("\\", "/")
        parts = said.split("/")
        ways = [way for start in range(1, min(len(parts), MAX_PARTS)) if (way := "/".join(parts[start:])) in self.paths]
        # Continue names the last two parts alone, so what is whole may be the end of another one.
        longer = [path for path in _by_name(self.paths).get(parts[-1], ()) if path.endswith("/" + said)] if said else []
        possible = [*([said] if said in self.paths else []), *(longer if "/" in said or said in self.paths else []), *ways[:1]]
        if len(possible) == 1 and ("/" in possible[0] or possible[0] == said):
            return possible[0]
        # What looks like a name may be a comment that stands in the file.
        known = self.find_path(lines) if self.find_path is not None else ""
        if known and (not possible or known in possible or possible == ways[:1]):
            return known
        if possible and len(longer) <= 1 and said not in self.paths:
            return possible[0]
        return said or UNNAMED_PATH


@functools.lru_cache(maxsize=4)
def _by_name(paths: frozenset[str]) -> dict[str, list[str]]:
    """Last part -> paths that end in it."""
    found: dict[str, list[str]] = {}
    for path in sorted(paths):
        found.setdefault(path.rpartition("/")[2], []).append(path)
    return found


class Slot:
    """What is served now. It may be replaced at any time: a request ends with the model that it began with."""

    def __init__(self, model: ServedModel) -> None:
        self.model = model
        self._names = {ALIAS, model.name}

    def replace(self, model: ServedModel) -> None:
        """From now on this one. The earlier one is freed with its last request."""
        self._names.add(model.name)
        self.model = model

    def answers_to(self, name: str) -> bool:
        """Names that were served before go on: editors are set up once."""
        return name in self._names


def chat_requests(model: ServedModel, asked: ChatRequest) -> list[Request]:
    """Raises: ApiError."""
    try:
        messages = tools.for_template(asked.conversation(), model.tokenizer.chat_template)
        rendered = chat.render(
            model.tokenizer, None, messages, add_generation_prompt=True, variables=asked.variables(), learnable=False
        )
    except InputError as error:
        raise ApiError(400, error.message, param="messages") from None
    limit = asked.max_completion_tokens or asked.max_tokens
    room = _room(model, len(rendered.token_ids), limit or 1, "messages")
    form = _held_to_form(model, asked)
    plan = Plan(
        rendered.token_ids, limit or min(DEFAULT_CHAT_TOKENS, room), make_mixture=lambda: PromptLookup(rendered.token_ids, form())
    )  # fmt: skip
    return _requests(model, asked, [plan])


def _held_to_form(model: ServedModel, asked: ChatRequest) -> Callable[[], Mixture | None]:
    try:
        form = asked.form()
        return (lambda: None) if form is None else Grammar(model.tokenizer, form).again
    except InputError as error:
        raise ApiError(400, error.message, param="response_format") from None


@dataclass(frozen=True, slots=True)
class Plan:
    """A prompt as the model gets it."""

    token_ids: Sequence[int]
    max_tokens: int
    must_start_with: str = ""
    make_mixture: Callable[[], Mixture | None] = lambda: None
    """A new one for each sample: a mixture follows one text."""
    temperature: float = 1.0
    """Where the client gives none."""
    stop_text: str = ""
    """Besides the client's."""
    ending: Ending | None = None
    path: str = ""


def completion_requests(model: ServedModel, asked: CompletionRequest) -> tuple[list[Request], list[Ending | None]]:
    """`n` for each prompt, in order, each with how its answer is made. Raises: ApiError."""
    plans = [_completion_plan(model, asked, prompt) for prompt in asked.prompts()]
    return _requests(model, asked, plans), [plan.ending for plan in plans for _ in range(asked.n or 1)]


def _completion_plan(model: ServedModel, asked: CompletionRequest, prompt: str | list[int]) -> Plan:
    if asked.suffix is not None and isinstance(prompt, str):
        said = dialects.Cursor(before=prompt.replace("\r\n", "\n"), after=asked.suffix.replace("\r\n", "\n"), path=asked.path or "")
    else:
        said = dialects.read(prompt) if isinstance(prompt, str) and not asked.echo else None
    if isinstance(said, dialects.Unknown):
        plan = Plan([0], 0)
    elif isinstance(said, dialects.Cursor):
        limit = LINE_TOKENS if asked.max_tokens is None else asked.max_tokens
        if asked.suffix is not None and asked.logprobs is not None:
            # Of each token as it is said: nothing can be taken from the end.
            plan = dataclasses.replace(_fill_in(model, said, limit, healed=False), temperature=0.0)
        else:
            # Whoever sends a `suffix` may have been asked to; the forms of editors come unasked.
            plan = _go_on(model, said, limit, healed=asked.logprobs is None, unasked=asked.suffix is None)
    elif isinstance(said, dialects.Region):
        plan = _rewrite(model, said)
    else:
        token_ids = _token_ids(model, prompt)
        limit = DEFAULT_COMPLETION_TOKENS if asked.max_tokens is None else asked.max_tokens
        plan = Plan(token_ids, limit, make_mixture=functools.partial(PromptLookup, token_ids))
    _room(model, len(plan.token_ids), plan.max_tokens if plan.ending is None else 1, "prompt")
    return plan


def infill_request(model: ServedModel, asked: InfillRequest) -> tuple[Request, Ending]:
    """Greedy unless the client says otherwise. Raises: ApiError."""
    limit = INFILL_TOKENS if asked.n_predict < 0 else asked.n_predict
    said = dialects.Cursor(before=asked.input_prefix + asked.prompt, after=asked.input_suffix)
    plan = _go_on(model, said, limit, healed=True, unasked=True)
    _room(model, len(plan.token_ids), 1, "prompt")
    stops = (asked.stop,) if isinstance(asked.stop, str) else tuple(asked.stop or ())
    request = Request(
        prompt_ids=plan.token_ids, max_tokens=plan.max_tokens, temperature=asked.temperature or 0.0, top_p=asked.top_p or 1.0,
        seed=None if asked.seed is None or asked.seed < 0 else asked.seed, stop_texts=(*stops, plan.stop_text),
        must_start_with=plan.must_start_with, mixture=plan.make_mixture(),
    )  # fmt: skip
    assert plan.ending is not None
    return request, plan.ending


def _go_on(model: ServedModel, asked: dialects.Cursor, limit: int, *, healed: bool, unasked: bool) -> Plan:
    """How the cursor's line goes on: that is what the model was trained on and what was measured. Greedy. Clients ask for as
    many tokens as their own models may say. `unasked`: they do while somebody types, so what is not worth showing is nothing."""
    plan, line_rest = _fill_in(model, asked, min(limit, LINE_TOKENS), healed=healed), asked.after.partition("\n")[0]

    def finish(sample: Sample) -> str:
        more = completion_text(sample.text.removesuffix("\r"), plan.path, line_rest)
        above, _, line_start = asked.before.rpartition("\n")
        lines = [*split_lines(above), line_start + line_rest]
        shown = Shown(plan.path, lines, len(lines) - 1, len(lines), [line_start + more + line_rest], is_line=True)
        return more if not unasked or model.shows(shown, sample) else ""

    return dataclasses.replace(plan, temperature=0.0, stop_text="\n", ending=Ending(finish))


def _fill_in(model: ServedModel, asked: dialects.Cursor, limit: int, *, healed: bool) -> Plan:
    """A cursor between two texts, prompted as in training. What follows on the cursor's own line is shown below it."""
    above, line_break, line_start = asked.before.rpartition("\n")
    rest, _, below = asked.after.partition("\n")
    lines_above = split_lines(above + line_break)
    lines = [*lines_above, *([rest] if rest.strip() else []), *split_lines(below)]
    path = model.path_of(asked.path, lines)
    place = Place(path, lines, len(lines_above), len(lines_above))
    text = completion_prompt(model.tokenizer, place, line_start, config=model.prompt).text
    # Log-probabilities are of tokens behind the prompt: healing would take its last ones back.
    text, must_start_with = heal(model.tokenizer, text) if healed else (text, "")
    token_ids = model.tokenizer.encode(text)
    limit += len(model.tokenizer.encode(must_start_with))
    if model.make_mixture is None:
        return Plan(token_ids, limit, must_start_with, path=path)
    make = functools.partial(model.make_mixture, place, line_start, token_ids, must_start_with)
    return Plan(token_ids, limit, must_start_with, make, path=path)


def _rewrite(model: ServedModel, asked: dialects.Region) -> Plan:
    """A region, prompted as in training; the reply is the region as it should be, or as it is."""
    above, region, below = (split_lines(text) for text in (asked.above, asked.region, asked.below))
    lines = [*above, *region, *below]
    place = Place(model.path_of(asked.path, lines), lines, len(above), len(above) + len(region))
    token_ids = model.tokenizer.encode(next_edit_prompt(model.tokenizer, place, asked.recent, model.prompt).text)
    # A client's limit is meant for what its model would say; a region that is cut off is of no use.
    limit = min(len(model.tokenizer.encode(asked.region)) + EDIT_TOKENS, model.max_positions - len(token_ids))

    def finish(sample: Sample) -> str:
        """Only what was ended by its mark is whole: half of a region must not take the place of all of it."""
        try:
            new = parse_target("\n" + sample.text)
        except EditFormatError:
            return asked.answer(asked.region)
        shown = Shown(place.path, lines, place.start_line, place.end_line, new, is_line=False)
        return asked.answer("".join(line + "\n" for line in new) if model.shows(shown, sample, asked.recent) else asked.region)

    plan = Plan(token_ids, limit, "\n", temperature=0.0, ending=Ending(finish, at_mark=True))
    if model.make_mixture is None:
        return plan
    return dataclasses.replace(plan, make_mixture=functools.partial(model.make_mixture, place, "", token_ids, ""))


def _token_ids(model: ServedModel, prompt: str | list[int]) -> list[int]:
    if isinstance(prompt, str):
        return [*model.tokenizer.beginning_ids, *model.tokenizer.encode(prompt)]
    if max(prompt) >= model.tokenizer.vocab_size:
        raise ApiError(400, f"`prompt` has a token id above {model.tokenizer.vocab_size - 1}", param="prompt")
    return prompt


def _room(model: ServedModel, num_prompt: int, limit: int, param: str) -> int:
    """Tokens that a reply may have. Raises: ApiError where `limit` is more."""
    room = model.max_positions - num_prompt
    if room < limit:
        raise ApiError(
            400,
            f"This model's maximum context length is {model.max_positions} tokens. However, your request has {num_prompt} tokens "
            f"in the {param} and asks for {limit} more. Please reduce one of them.",
            code="context_length_exceeded",
            param=param,
        )
    return room


def _temperature(asked: Shared, plan: Plan) -> float:
    """As asked for; what clients send that mean the likeliest (0.01) is that for an editor's prompt."""
    if asked.temperature is None:
        return plan.temperature
    return 0.0 if plan.ending is not None and asked.temperature <= GREEDY else asked.temperature


def _stops(asked: Shared, plan: Plan) -> tuple[str, ...]:
    if plan.ending is not None and plan.ending.at_mark:
        # What a client thinks that its model's marks are may stand in code.
        return ()
    return (*asked.stop_texts, plan.stop_text) if plan.stop_text else asked.stop_texts


def _requests(model: ServedModel, asked: Shared, plans: Sequence[Plan]) -> list[Request]:
    requests: list[Request] = []
    for plan in plans:
        for number in range(asked.n or 1):
            requests.append(
                Request(
                    prompt_ids=plan.token_ids,
                    max_tokens=plan.max_tokens,
                    temperature=_temperature(asked, plan),
                    top_p=1.0 if asked.top_p is None else asked.top_p,
                    min_p=asked.min_p or 0.0,
                    presence_penalty=asked.presence_penalty or 0.0,
                    frequency_penalty=asked.frequency_penalty or 0.0,
                    # Each of several samples has a seed of its own; numpy takes no negative ones.
                    seed=None if asked.seed is None else (asked.seed % 2**64) + number,
                    stop_texts=_stops(asked, plan),
                    must_start_with=plan.must_start_with,
                    mixture=plan.make_mixture(),
                )
            )
    return requests

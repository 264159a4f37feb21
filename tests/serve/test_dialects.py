"""What editors send, built as their sources build it, and what they get."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import httpx
import pytest
from tests.serve.conftest import Running

from apprentice.core.fakes import ScriptedGenerator
from apprentice.core.protocols import Mixture
from apprentice.engine.engine import Engine
from apprentice.repository.prompt import Place
from apprentice.serve import dialects
from apprentice.serve.dialects import CURSOR, Cursor, Region, Unknown
from apprentice.serve.silence import Decision
from apprentice.text.edits import Edit

Start = Callable[..., Running]

BEFORE, AFTER = "import os\n\ndef f():\n    retu", "\n\nf()\n"
FORMS = {
    "qwen": "<|fim_prefix|>{before}<|fim_suffix|>{after}<|fim_middle|>",
    "starcoder": "<fim_prefix>{before}<fim_suffix>{after}<fim_middle>",
    "deepseek": "<｜fim▁begin｜>{before}<｜fim▁hole｜>{after}<｜fim▁end｜>",
    "codellama": "<PRE> {before} <SUF>{after} <MID>",
    "codestral": "[SUFFIX]{after}[PREFIX]{before}",
    "glm": "<|code_prefix|>{before}<|code_suffix|>{after}<|code_middle|>",
    "suffix first": "<|fim_suffix|>{after}<|fim_prefix|>{before}<|fim_middle|>",
}
DIFF = "--- a/src/a.py\n+++ b/src/a.py\n@@ -3,3 +3,3 @@\n def f():\n-    return x\n+    return y\n \n"
ABOVE, REGION, BELOW = "import os\n\n", "def f():\n    re<|user_cursor|>turn x\n", "\nf()\n"
ZETA = {
    "0113": "<|file_sep|>src/a.py\n<|fim_prefix|>\n{above}<|fim_middle|>current\n{region}<|fim_suffix|>\n{below}<|fim_middle|>updated\n",
    "0112": "<|file_sep|>src/a.py\n<|fim_prefix|>\n{above}<|fim_suffix|>\n{below}<|fim_middle|>current\n{region}<|fim_middle|>updated\n",
    "0120": "<|file_sep|>src/a.py\n<|fim_prefix|>{above}<|fim_suffix|>{below}<|fim_middle|><<<<<<< CURRENT\n{region}=======\n",
    "0131": "<|file_sep|>src/a.py\n<|fim_prefix|>\n{above}<<<<<<< CURRENT\n{region}=======\n<|fim_suffix|>\n{below}<|fim_middle|>",
}
SEED = "<[fim-suffix]>\n{below}<[fim-prefix]><filename>b.py\nx = 1\n<filename>edit_history\n{diff}<filename>src/a.py\n{above}<<<<<<< CURRENT\n{region}=======\n<[fim-middle]>"


def zeta(form: str) -> str:
    if form == "0211":
        return SEED.format(above=ABOVE, region=REGION, below=BELOW, diff=DIFF)
    history = "<|file_sep|>edit history\n" + DIFF
    return "<|file_sep|>other.py\nx = 1\n" + history + ZETA[form].format(above=ABOVE, region=REGION, below=BELOW)


@pytest.mark.parametrize("form", FORMS)
def test_a_cursor_between_two_texts(form: str) -> None:
    assert dialects.read(FORMS[form].format(before=BEFORE, after=AFTER)) == Cursor(before=BEFORE, after=AFTER)


@pytest.mark.parametrize(
    ("prompt", "path"),
    [
        ("<|repo_name|>r\n<|file_sep|>b.py\nx\n<|file_sep|>src/a.py\n<|fim_prefix|>A<|fim_suffix|>B<|fim_middle|>", "src/a.py"),
        ("<|fim_prefix|># Path: src/a.py\nA<|fim_suffix|>B<|fim_middle|>", "src/a.py"),
        ("<|fim_prefix|>// Path: b.py\n// x = 1\n//\n// Path: src/a.py\nA<|fim_suffix|>B<|fim_middle|>", "src/a.py"),
        ("<|fim_prefix|># src/a.py\nA<|fim_suffix|>B<|fim_middle|>", "src/a.py"),
        ("<|fim_prefix|># A comment.\nA<|fim_suffix|>B<|fim_middle|>", ""),
        ("[SUFFIX]B[PREFIX]+++++ b.py\nx\n\n+++++ src/a.py\nA", "src/a.py"),
        # Continue where no other file is open, and twinny.
        ("<|fim_prefix|>\n# src/a.py\nA<|fim_suffix|>B<|fim_middle|>", "src/a.py"),
        ("<|fim_prefix|>\n\n# Language: Python (python) \n# File uri: file:///home/me/my%20repo/src/a.py (python) \nA<|fim_suffix|>B<|fim_middle|>", "/home/me/my repo/src/a.py"),
        ("# Language: Python\n\n[SUFFIX]B[PREFIX]A", ""),
        # Marks of others that stand in a file.
        ("<|fim_prefix|>usage: [SUFFIX] [PREFIX]\nA<|fim_suffix|>B<|fim_middle|>", ""),
        ("[SUFFIX]B[PREFIX]# [SUFFIX]\nA", ""),
        ("<|fim_prefix|>A<|fim_suffix|>B<|fim_middle|>", ""),
    ],
)
def test_the_path_is_the_one_that_the_prompt_names(prompt: str, path: str) -> None:
    found = dialects.read(prompt)
    assert isinstance(found, Cursor)
    assert (found.path, found.before[-1], found.after) == (path, "A", "B")


def test_a_blank_behind_the_mark_is_no_part_of_the_file() -> None:
    assert dialects.read("<PRE> f(x <SUF> )\n <MID>") == Cursor(before="f(x", after=")\n")
    assert dialects.read("<PRE> f(x <SUF> + y)\n <MID>") == Cursor(before="f(x", after=" + y)\n")


@pytest.mark.parametrize("form", [*ZETA, "0211"])
def test_a_region_with_the_latest_edits(form: str) -> None:
    edit = Edit("src/a.py", 3, ("    return x",), ("    return y",), ("def f():",), ("",))
    region = REGION.replace("<|user_cursor|>", "")
    assert dialects.read(zeta(form)) == Region(path="src/a.py", above=ABOVE, region=region, below=BELOW, recent=(edit,))


ZETA1 = (
    "### Instruction:\nYou are a code completion assistant.\n\n### User Edits:\n\nUser edited src/a.py:\n```diff\n@@ -3,3 +3,3 @@\n def f():\n"
    "-    return x\n+    return y\n \n```\n\n### User Excerpt:\n\n```src/a.py\n<|start_of_file|>\nimport os\n\n<|editable_region_start|>\n"
    "def f():\n    re<|user_cursor_is_here|>turn x\n<|editable_region_end|>\n\nf()\n```\n\n### Response:\n"
)
SWEPT = "last_updated:\n" * 18 + REGION.replace("<|user_cursor|>", "")


def sweep(window: str) -> str:
    """A window without a line break at its end gets one."""
    window = window if window.endswith("\n") else window + "\n"
    return (
        "<|file_sep|>other.py\nx = 1\n<|file_sep|>src/a.py.diff\noriginal:\ndef f():\n    return x\n\nupdated:\ndef f():\n    return y\n\n"
        f"<|file_sep|>original/src/a.py\n{window}<|file_sep|>current/src/a.py\n{window}<|file_sep|>updated/src/a.py\n"
    )


def test_other_ways_to_ask_for_a_region() -> None:
    edit = Edit("src/a.py", 3, ("    return x",), ("    return y",), ("def f():",), ("",))
    region = REGION.replace("<|user_cursor|>", "")
    found = dialects.read(ZETA1)
    assert isinstance(found, Region)
    assert (found.path, found.above, found.region, found.below, found.recent) == ("src/a.py", ABOVE, region, "\nf()", (edit,))
    # Marks of code in the file itself.
    fenced = dialects.read(ZETA1.replace("import os\n", "```python\nimport os\n```\n"))
    assert isinstance(fenced, Region)
    assert (fenced.path, fenced.above) == ("src/a.py", "```python\nimport os\n```\n\n")
    # Without its marks an editor would take all that is said for the region, and nothing for an empty one.
    assert found.answer("x\n") == "<|editable_region_start|>\nx\n<|editable_region_end|>"
    # 21 lines, of which the last is empty, or is not.
    for window in (SWEPT, SWEPT + "x = 1"):
        found = dialects.read(sweep(window))
        assert isinstance(found, Region)
        # Where an edit was is not said, but what stood around it.
        assert (found.path, found.region.rstrip("\n"), found.recent) == ("src/a.py", window.rstrip("\n"), (dataclasses.replace(edit, start_line=1),))
        assert found.answer(found.region) == ""
        assert found.answer(found.region.replace("f()", "g()")) == window.replace("f()", "g()")
        assert dialects.read(sweep(window).replace("/src/a.py\n", "/src/a.py:3:4\n")) == found
    # Near the ends of a file it cannot be told.
    assert dialects.read(sweep(region)) == Unknown()


@pytest.mark.parametrize(
    "prompt",
    [
        "def f():\n    retu", "", "<|fim_middle|>", "a<|fim_prefix|>b<|fim_middle|>", "[SUFFIX]x", "<|fim_prefix|>a<|fim_suffix|>b",
    ],
)  # fmt: skip
def test_other_texts_are_left_alone(prompt: str) -> None:
    assert dialects.read(prompt) is None


@pytest.mark.parametrize(
    "prompt",
    [
        "<|file_sep|>a.py\n<|fim_prefix|>\n<|user_cursor|><|fim_middle|>updated\n", "<|file_sep|>\n<|fim_prefix|><|user_cursor|>",
        "<|marker_1|>\na<|user_cursor|>\n<|marker_2|>", zeta("0113").replace("def f():\n    re", "1:0a|def f():\n2:ff|    re"),
        zeta("0113").replace("import os", "import <|user_cursor|>os"), ZETA1.replace("<|editable_region_end|>", ""),
        ZETA1.replace("\n```src/a.py", ""), ZETA1.replace("import os", "import <|user_cursor_is_here|>os"),
    ],
)  # fmt: skip
def test_a_cursor_in_an_unknown_form(prompt: str) -> None:
    assert dialects.read(prompt) == Unknown()


@pytest.mark.parametrize("form", FORMS)
def test_line_breaks_of_windows(form: str) -> None:
    prompt = FORMS[form].format(before=BEFORE, after=AFTER)
    assert dialects.read(prompt.replace("\n", "\r\n")) == Cursor(before=BEFORE, after=AFTER)


@pytest.mark.parametrize("piece", [CURSOR, "# a/b.py\n", "<[fim-prefix]>", "<filename>edit_history\n", "<<<<<<< CURRENT\n", "=======\n", "<|fim_middle|>", "<|file_sep|>", "<|file_sep|>a.diff\noriginal:\nx\nupdated:\n", "User edited a:\n```diff\n", "<|user_cursor_is_here|>", "<|editable_region_start|>\n", "[PREFIX]", "+++++ a", "@@ -1 +1 @@\n", "--- a/b\n+++ b/b\n", "<|fim_suffix|>"])
def test_a_hostile_prompt_takes_no_time(piece: str) -> None:
    start = time.process_time()
    for end in ("", "<|fim_middle|>", "<[fim-middle]>", "<|fim_middle|>updated\n", "=======\n"):
        for begin in ("", "[SUFFIX]", "\n```a\n<|editable_region_start|>\n<|user_cursor_is_here|>\n<|editable_region_end|>", "<|file_sep|>a\n<|fim_prefix|><|user_cursor|>", "<|file_sep|>edit history\n", "<[fim-suffix]>"):
            dialects.read(begin + piece * 20_000 + end)
    assert time.process_time() - start < 10


def ask(url: str, body: dict[str, Any], path: str = "/completions") -> dict[str, Any]:
    reply = httpx.post(url + path, json=body, timeout=60)
    assert reply.status_code == 200, reply.text
    return reply.json()


@pytest.mark.parametrize("form", [form for form in FORMS])
def test_zed_and_continue_get_what_a_suffix_would_get(start: Start, form: str) -> None:
    asked: list[tuple[Place, str]] = []

    def make_mixture(place: Place, line_start: str, prompt_ids: Sequence[int], must_start_with: str) -> Mixture | None:
        asked.append((place, line_start))
        return None

    running = start(make_mixture=make_mixture)
    meant = ask(running.url, {"model": "debug", "prompt": BEFORE, "suffix": AFTER, "max_tokens": 9, "temperature": 0, "stop": "\n"})
    stops = ["<|endoftext|>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>",
             "<|im_start|>", "<|im_end|>"]  # fmt: skip
    body = {"model": "debug", "prompt": FORMS[form].format(before=BEFORE, after=AFTER), "max_tokens": 9, "stop": stops, "environment": None}
    found = ask(running.url, body)
    # Greedy, though neither editor asks for it.
    assert found["choices"][0]["text"] == meant["choices"][0]["text"]
    assert asked[0] == asked[1]
    assert found["choices"][0]["text"]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("def f():\n    return y\n>>>>>>> after\nmore", "def f():\n    return y\n"),
        (">>>>>>> after", ""),
        ("def f():\n    return", None),
        ("def f():\n    return y\n", None),
        ("<<<<<<< before\n>>>>>>> after", None),
    ],
)
def test_zeta_gets_the_region_or_its_own_lines(start: Start, engine: Engine, said: str, expected: str | None) -> None:
    running = start(generator=ScriptedGenerator(engine.tokenizer, lambda request: said))
    region = REGION.replace("<|user_cursor|>", "") if expected is None else expected
    swept = "" if expected is None else expected
    for prompt, answer in ((sweep(SWEPT), swept), (ZETA1, f"<|editable_region_start|>\n{region}<|editable_region_end|>")):
        assert ask(running.url, {"prompt": prompt, "stop": ["<|file_sep|>", "<|editable_region_end|>"]})["choices"][0]["text"] == answer
    body = {"model": "debug", "prompt": zeta("0113"), "max_tokens": 64, "stop": ["return"], "temperature": None}
    choice = ask(running.url, body)["choices"][0]
    assert choice["text"] == (REGION.replace("<|user_cursor|>", "") if expected is None else expected)


def test_llama_vim_gets_the_fields_that_it_names(start: Start) -> None:
    running = start()
    meant = ask(running.url, {"model": "debug", "prompt": BEFORE, "suffix": AFTER, "max_tokens": 9, "temperature": 0, "stop": "\n"})
    prefix, _, middle = BEFORE.rpartition("\n")
    body = {
        "input_prefix": prefix + "\n", "input_suffix": AFTER, "input_extra": [{"text": "x", "time": [1, 2], "filename": "b.py"}],
        "prompt": middle, "n_predict": 9, "stop": [], "n_indent": 0, "top_k": 40, "top_p": 0.90, "stream": False,
        "samplers": ["top_k", "top_p", "infill"], "cache_prompt": True, "t_max_prompt_ms": 500, "t_max_predict_ms": 60_000,
        "response_fields": ["content", "timings/prompt_n", "timings/predicted_per_second", "truncated", "tokens_cached", "no/such"],
    }  # fmt: skip
    found = ask(running.url.removesuffix("/v1"), body, "/infill")
    assert found.keys() == {"content", "timings/prompt_n", "timings/predicted_per_second", "truncated", "tokens_cached"}
    assert found["content"] == meant["choices"][0]["text"]
    whole = ask(running.url.removesuffix("/v1"), {**body, "response_fields": None}, "/infill")
    assert whole["tokens_predicted"] == whole["timings"]["predicted_n"] > 0
    # llama.vscode's status bar.
    assert whole["generation_settings"]["n_ctx"] > 0
    warm = {**body, "prompt": "", "n_predict": 0, "response_fields": [""]}
    assert ask(running.url.removesuffix("/v1"), warm, "/infill") == {}


def test_one_line_is_suggested_without_what_stands_behind_the_cursor(start: Start, engine: Engine) -> None:
    running = start(generator=ScriptedGenerator(engine.tokenizer, lambda request: "rn f(x)\n    y\n"))
    body = {"input_prefix": BEFORE, "input_suffix": ")" + AFTER}
    assert ask(running.url.removesuffix("/v1"), body, "/infill")["content"] == "rn f(x"
    prompt = FORMS["qwen"].format(before=BEFORE, after=")" + AFTER)
    assert ask(running.url, {"model": "debug", "prompt": prompt})["choices"][0]["text"] == "rn f(x"
    # minuet sends no `stop`, and some send no model.
    for line_break in ("\n", "\r\n"):
        body = {"prompt": BEFORE.replace("\n", line_break), "suffix": (")" + AFTER).replace("\n", line_break)}
        assert ask(running.url, body)["choices"][0]["text"] == "rn f(x"


@pytest.mark.parametrize(("show_from", "is_shown"), [(0.0, True), (1.0, False)])
def test_an_editor_that_asks_by_itself_gets_nothing_new_where_silence_is_better(
    start: Start, engine: Engine, show_from: float, is_shown: bool
) -> None:
    region = start(
        generator=ScriptedGenerator(engine.tokenizer, lambda request: "def f():\n    return y\n>>>>>>> after"),
        decision=Decision.default(), show_from=show_from,
    )  # fmt: skip
    for form in (*ZETA, "0211"):
        text = ask(region.url, {"model": "debug", "prompt": zeta(form)})["choices"][0]["text"]
        assert text == ("def f():\n    return y\n" if is_shown else REGION.replace(CURSOR, ""))
    line = start(generator=ScriptedGenerator(engine.tokenizer, lambda request: "rn 1"), decision=Decision.default(), show_from=show_from)
    said = "rn 1" if is_shown else ""
    for form in FORMS.values():
        assert ask(line.url, {"model": "debug", "prompt": form.format(before=BEFORE, after=AFTER)})["choices"][0]["text"] == said
    assert ask(line.url.removesuffix("/v1"), {"input_prefix": BEFORE, "input_suffix": AFTER}, "/infill")["content"] == said
    # Whoever names a suffix asks for it, and gets it.
    assert ask(line.url, {"model": "debug", "prompt": BEFORE, "suffix": AFTER, "stop": "\n"})["choices"][0]["text"] == "rn 1"


@pytest.mark.parametrize("is_shown", [True, False])
def test_silence_has_the_form_of_an_answer(start: Start, is_shown: bool) -> None:
    """Several choices, log-probabilities, usage, whole and streamed."""
    running = start(decision=Decision.default(), show_from=0.0 if is_shown else 1.0)
    prompt = FORMS["qwen"].format(before=BEFORE, after=AFTER)
    body = {"model": "debug", "prompt": prompt, "n": 2, "logprobs": 1, "temperature": 1, "seed": 3, "max_tokens": 8}
    whole = ask(running.url, body)
    assert [choice["index"] for choice in whole["choices"]] == [0, 1]
    assert whole["usage"]["completion_tokens"] > 0
    lines = httpx.post(f"{running.url}/completions", json={**body, "stream": True}, timeout=60).text.split("\n\n")
    pieces = [json.loads(line.removeprefix("data: "))["choices"][0] for line in lines if line.startswith("data: {")]
    assert lines[-2] == "data: [DONE]"
    for choice in whole["choices"]:
        own = [piece for piece in pieces if piece["index"] == choice["index"]]
        assert [piece["finish_reason"] for piece in own] == [None, choice["finish_reason"]]
        assert "".join(piece["text"] for piece in own) == choice["text"]
        assert bool(choice["text"]) is is_shown
        assert all(bool(values) is is_shown for values in choice["logprobs"].values())
        assert sum((piece["logprobs"]["tokens"] for piece in own), []) == choice["logprobs"]["tokens"]


def test_a_cursor_in_an_unknown_form_is_answered_with_nothing(start: Start) -> None:
    body = {"model": "debug", "prompt": "<|marker_1|>\na<|user_cursor|>\n<|marker_2|>", "max_tokens": 64}
    choice = ask(start().url, body)["choices"][0]
    assert (choice["text"], choice["finish_reason"]) == ("", "length")


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("src/a.py", "src/a.py"), ("project/src/a.py", "src/a.py"), ("C:\\work\\project\\src\\a.py", "src/a.py"), ("src/new.py", "found.py"),
        ("", "found.py"),
    ],
)  # fmt: skip
def test_the_file_is_called_what_the_repository_calls_it(start: Start, said: str, expected: str) -> None:
    places: list[Place] = []

    def make_mixture(place: Place, line_start: str, prompt_ids: Sequence[int], must_start_with: str) -> Mixture | None:
        places.append(place)
        return None

    running = start(make_mixture=make_mixture, paths=frozenset(["src/a.py", "a.py"]), find_path=lambda lines: "found.py" if "x = 1" in lines else "")
    named = f"<|file_sep|>{said}\n" if said else ""
    ask(running.url, {"model": "debug", "prompt": f"{named}<|fim_prefix|>x = 1\ny<|fim_suffix|>\n<|fim_middle|>"})
    ask(running.url, {"model": "debug", "prompt": "x = 1\ny", "suffix": "\n", "path": said or None, "max_tokens": 2})
    assert [place.path for place in places] == [expected, expected]
    for said, called in (("", "untitled"), ("src/new.py", "src/new.py")):
        ask(running.url, {"model": "debug", "prompt": "y", "suffix": "\n", "path": said or None, "max_tokens": 2})
        assert places[-1].path == called

"""Calls of tools for templates that know none: in words, as Hermes and Qwen write them.

    {"role": "assistant", "tool_calls": [...]}  -->  <tool_call>\\n{"name": "ls", "arguments": {"path": "."}}\\n</tool_call>
    {"role": "tool", "content": "a.py"}         -->  a user's message: <tool_response>\\na.py\\n</tool_response>

A template that names `tool_calls` gets them as they are, with their arguments as an object, as transformers' templates
expect; any other one would leave them out without a word.
Source: NousResearch, "Hermes Function Calling"; the chat template of Qwen2.5.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

_OBJECT = msgspec.json.Decoder(dict[str, Any])


def knows_tools(template: str | None) -> bool:
    """Whether a template says what a reply called."""
    return template is not None and "tool_calls" in template


def for_template(messages: Iterable[Mapping[str, Any]], template: str | None) -> list[dict[str, Any]]:
    """The messages as this template can tell them."""
    tell = _with_objects if knows_tools(template) else _in_words
    return [tell(message) for message in messages]


def _with_objects(message: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(message)
    if calls := found.get("tool_calls"):
        found["tool_calls"] = [
            {**call, "function": {**call["function"], "arguments": _arguments(call["function"]["arguments"])}} for call in calls
        ]
    return found


def _in_words(message: Mapping[str, Any]) -> dict[str, Any]:
    text = message.get("content") or ""
    if message["role"] == "tool":
        return {"role": "user", "content": f"<tool_response>\n{text}\n</tool_response>"}
    calls = [_call(call["function"]) for call in message.get("tool_calls") or ()]
    return {"role": message["role"], "content": "\n".join(filter(None, (text, *calls)))}


def _call(function: Mapping[str, Any]) -> str:
    said = msgspec.json.encode({"name": function["name"], "arguments": _arguments(function["arguments"])}).decode()
    return f"<tool_call>\n{said}\n</tool_call>"


def _arguments(arguments: Any) -> Any:
    """An object where the text is one."""
    try:
        return _OBJECT.decode(arguments) if isinstance(arguments, str) else arguments
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return arguments

from __future__ import annotations

from apprentice.text.tools import for_template, knows_tools

TALK = [
    {"role": "user", "content": "what is here?"},
    {"role": "assistant", "content": "Let me see.", "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "ls", "arguments": '{"path":"."}'}}]},
    {"role": "tool", "content": "a.py", "tool_call_id": "c1", "name": "ls"},
    {"role": "assistant", "content": "A file."},
]  # fmt: skip
QWEN = "{% for m in messages %}{% if m.tool_calls %}{{ m.tool_calls }}{% endif %}{% endfor %}"


def test_a_template_that_knows_tools_gets_them_with_objects() -> None:
    told = for_template(TALK, QWEN)
    assert told[1]["tool_calls"][0]["function"] == {"name": "ls", "arguments": {"path": "."}}
    assert [message["role"] for message in told] == ["user", "assistant", "tool", "assistant"]
    assert TALK[1]["tool_calls"][0]["function"]["arguments"] == '{"path":"."}'  # type: ignore[index]


def test_any_other_gets_them_in_words() -> None:
    assert for_template(TALK, "{% for m in messages %}{{ m.content }}{% endfor %}") == [
        {"role": "user", "content": "what is here?"},
        {"role": "assistant", "content": 'Let me see.\n<tool_call>\n{"name":"ls","arguments":{"path":"."}}\n</tool_call>'},
        {"role": "user", "content": "<tool_response>\na.py\n</tool_response>"},
        {"role": "assistant", "content": "A file."},
    ]
    assert not knows_tools(None)


def test_arguments_that_are_no_object_stay_text() -> None:
    call = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "sh", "arguments": "ls -l"}}]}
    assert for_template([call], None)[0]["content"] == '<tool_call>\n{"name":"sh","arguments":"ls -l"}\n</tool_call>'
    assert for_template([call], QWEN)[0]["tool_calls"][0]["function"]["arguments"] == "ls -l"

"""A moment -> the example that asks for the replacement of the region, the place being given."""

from __future__ import annotations

from collections.abc import Sequence

from apprentice.core.protocols import Tokenizer
from apprentice.examples.example import NEXT_EDIT, Example, from_moment
from apprentice.examples.work import Moment
from apprentice.repository.prompt import Place, PromptConfig, next_edit_prompt
from apprentice.text.edits import Edit, render_target


def region(lines: Sequence[str], edit: Edit) -> Place:
    """Where the edit happens."""
    return Place(edit.path, lines, edit.start_line, edit.start_line + len(edit.old))


def next_edit(moment: Moment, tokenizer: Tokenizer, config: PromptConfig) -> Example:
    """The example of this moment."""
    prompt = next_edit_prompt(tokenizer, region(moment.lines, moment.edit), moment.recent, config)
    return from_moment(moment, NEXT_EDIT, "edit", prompt, render_target(moment.edit.old, moment.edit.new))

"""The command `apprentice`: a table of commands, each loaded only when it is called.

    words typed --> the command's own file --> one stage or one server --> exit code

Nothing heavy is imported here: help and typing errors come at once. A command is a function with keyword-only options in a
file of its own under `cli/`; cyclopts makes options, help and completion of its signature and docstring. It prints its
result through `common.print_result` and raises errors of `core.errors`; `common.report` turns them into words and an
exit code.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NamedTuple

import cyclopts

from apprentice.cli import common
from apprentice.cli.usage import usage_error


class Command(NamedTuple):
    """A line of the table."""

    words: str
    """As typed: `doctor`, or `sessions read`."""
    path: str
    """`module:function`, imported when called."""
    help: str
    """One sentence for the list of commands, without a full stop."""


COMMANDS = (
    Command("learn", "apprentice.cli.learn:learn", "Learn from a repository's history: read, train, quantize, measure"),
    Command("sessions read", "apprentice.cli.sessions:read", "Read repositories and exported histories, without secrets"),
    Command("sessions discover", "apprentice.cli.sessions:discover", "Show which sessions lie on this machine; read none"),
    Command("sessions show", "apprentice.cli.sessions:show", "Show the newest sessions as they will be learned from"),
    Command("sessions forget", "apprentice.cli.sessions:forget", "Take somebody's sessions out of what is learned from"),
    Command("sessions export", "apprentice.cli.sessions:export", "Write sessions for another machine or program"),
    Command("sessions outcomes", "apprentice.cli.sessions:outcomes", "Show what became of the edits that assistants made"),
    Command("examples make", "apprentice.cli.examples:make", "Make examples of sessions: edits, conversations, pairs"),
    Command("examples show", "apprentice.cli.examples:show", "Show examples and what of them carries loss"),
    Command("train sft", "apprentice.cli.train:sft", "Fine-tune a base on examples"),
    Command("eval", "apprentice.cli.eval:evaluate", "Measure models on held-out newer work"),
    Command("model quantize", "apprentice.cli.model:quantize", "Store a checkpoint in NVFP4"),
    Command("complete", "apprentice.cli.complete:complete", "Suggest what to write at a place of a file"),
    Command("chat", "apprentice.cli.chat:chat", "Talk to the model"),
    Command("serve", "apprentice.cli.serve:serve", "Answer over HTTP as OpenAI's API does, or an editor as its language server"),
    Command("connect", "apprentice.cli.connect:connect", "Set an editor up for suggestions, or undo it"),
    Command("show", "apprentice.cli.show:show", "Show an artifact or the runs of a folder"),
    Command("doctor", "apprentice.cli.doctor:doctor", "Say what works on this machine and what does not"),
)  # fmt: skip
"""Every command. A new one is a file and a line here."""

GROUPS = {
    "sessions": "What developers did: read, show and export it",
    "examples": "What is learned from: prompts with their targets",
    "train": "Change a model's weights",
    "model": "Convert models",
}
"""First words of two-word commands; a group without commands is not shown."""


def build_app(commands: Sequence[Command] = COMMANDS) -> cyclopts.App:
    """The tree of commands."""
    app = cyclopts.App(
        name="apprentice",
        help="Turn a team's git history into a private coding model",
        help_epilogue="With any command, --verbose shows the traceback of an error",
        help_format="plaintext",
        version=common.version,
        default_parameter=cyclopts.Parameter(negative_iterable=()),
        result_action="return_value",
        print_error=False,
        exit_on_error=False,
        help_on_error=False,
        suppress_keyboard_interrupt=False,
    )
    groups: dict[str, cyclopts.App] = {}
    for command in commands:
        first, _, second = command.words.partition(" ")
        parent = app
        if second:
            if first not in groups:
                groups[first] = cyclopts.App(name=first, help=GROUPS[first], help_format="plaintext")
                app.command(groups[first])
            parent = groups[first]
        parent.command(command.path, name=second or first, help=command.help)
    return app


def run(words: Sequence[str], commands: Sequence[Command] = COMMANDS) -> int:
    """Run a command line. Returns the exit code."""
    words, verbose = common.take_flag(words, "--verbose")
    try:
        result = build_app(commands)(words)
        sys.stdout.flush()
        return result if isinstance(result, int) and not isinstance(result, bool) else 0
    except cyclopts.CycloptsError as error:
        return common.report(usage_error(error, [command.words for command in commands]), verbose=verbose)
    except (Exception, KeyboardInterrupt) as error:
        return common.report(error, verbose=verbose)


def main() -> None:
    """Entry point of the script `apprentice`."""
    common.prepare_streams()
    sys.exit(run(sys.argv[1:]))

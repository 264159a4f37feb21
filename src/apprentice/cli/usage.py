"""The parser's complaints in our words: what is wrong, and the nearest thing that is right.

The parser's own text for an unknown command would import every command to list them; the table of names is enough.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

import cyclopts

from apprentice.core.errors import ConfigError


def usage_error(error: cyclopts.CycloptsError, commands: Sequence[str]) -> ConfigError:
    """A ConfigError. `commands`: all commands as typed, `sessions read` for instance."""
    chain = list(error.command_chain or ())
    if isinstance(error, cyclopts.UnknownCommandError):
        return _unknown_command(error, commands)
    if isinstance(error, cyclopts.UnknownOptionError):
        word = (error.token.keyword or error.token.value).partition("=")[0]
        names = [name for argument in error.argument_collection for name in argument.names if name.startswith("-")]
        return ConfigError(f"there is no option `{word}`", hint=_nearest(word, [*names, "--help", "--verbose"], chain))
    if isinstance(error, cyclopts.UnusedCliTokensError):
        return ConfigError(f"unexpected argument `{(error.unused_tokens or [''])[0]}`", hint=_help(chain))
    if isinstance(error, cyclopts.MissingArgumentError) and error.argument is not None:
        given = error.keyword or next((token.keyword for token in error.argument.tokens if token.keyword), None)
        name = error.argument.name.lstrip("-").upper() if error.argument.field_info.is_positional else error.argument.name
        message = f"`{given}` needs a value" if given else f"`{name}` is missing"
        return ConfigError(message, hint=_help(chain))
    return ConfigError(_plain(error), hint=_help(chain))


def _unknown_command(error: cyclopts.CycloptsError, commands: Sequence[str]) -> ConfigError:
    chain, words = list(error.command_chain or ()), error.unused_tokens or [""]
    group = [word for word in chain if any(command.startswith(f"{word} ") for command in commands)]
    below = {command.split()[len(group)] for command in commands if command.split()[: len(group)] == group}
    message = f"there is no command `{' '.join([*group, words[0]])}`"
    elsewhere = [command for command in commands if command.split()[-1] == words[0]]
    if elsewhere and not difflib.get_close_matches(words[0], sorted(below), n=1, cutoff=0.6):
        return ConfigError(message, hint="did you mean " + " or ".join(f"`apprentice {command}`" for command in elsewhere) + "?")
    return ConfigError(message, hint=_nearest(words[0], below, group))


def _nearest(word: str, known: Iterable[str], chain: Sequence[str]) -> str:
    matches = difflib.get_close_matches(word, sorted(known), n=1, cutoff=0.6)
    return f"did you mean `{matches[0]}`?" if matches else _help(chain)


def _help(chain: Sequence[str]) -> str:
    return f"see `{' '.join(['apprentice', *chain, '--help'])}`"


def _plain(error: cyclopts.CycloptsError) -> str:
    """Backticks for quotes, no capital, no full stop behind a single sentence."""
    message = " ".join(str(error).split()).replace('"', "`")
    return message[:1].lower() + message[1:].removesuffix(".")

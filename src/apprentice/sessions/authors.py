"""Who made a commit: a developer (as a pseudonym), an assistant, or a tool.

A person's name may be an assistant's (Claude, Devin), so names alone decide nothing: an assistant is known by its
address, by a `[bot]` account, or by the exact name that its product writes into a trailer. When in doubt it was a
developer, whose work may be learned from, so the list errs towards assistants only where a trailer names one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from apprentice.sessions.events import Author

_ADDRESSES = (
    (r"@anthropic\.com$|\+claude(\[bot\])?@users\.noreply\.github\.com$", "claude"),
    (r"\+copilot(-swe-agent)?(\[bot\])?@users\.noreply\.github\.com$|^copilot@github\.com$", "copilot"),
    (r"@cursor\.(com|sh)$|\+cursor(agent)?(\[bot\])?@users\.noreply\.github\.com$", "cursor"),
    (r"@aider\.chat$", "aider"),
    (r"\+devin-ai-integration\[bot\]@users\.noreply\.github\.com$|@devin\.ai$|@cognition\.ai$", "devin"),
    (r"@openai\.com$|\+(chatgpt-)?codex(-connector)?(\[bot\])?@users\.noreply\.github\.com$", "codex"),
    (r"\+google-labs-jules(\[bot\])?@users\.noreply\.github\.com$|^gemini-cli@|\+gemini-code-assist", "gemini"),
    (r"@openhands\.dev$|^openhands@all-hands\.dev$|\+openhands-agent@", "openhands"),
    (r"@codeium\.com$|@windsurf\.com$", "windsurf"),
    (r"@ampcode\.com$", "amp"),
    (r"@charm\.land$", "crush"),
    (r"^qwen-coder@alibabacloud\.com$", "qwen"),
    (r"\+factory-droid(\[bot\])?@users\.noreply\.github\.com$|@factory\.ai$", "droid"),
    (r"\+sweep-ai(\[bot\])?@|\+(lovable|v0|bolt)[\w-]*(\[bot\])?@users\.noreply\.github\.com$", "builder"),
)
_TRAILER_NAMES = (
    (r"claude(?: code)?(?: ?(?:opus|sonnet|haiku|fable)?[\d. -]*(?:\([^)]*\))?)", "claude"),
    (r"(?:github )?copilot(?: (?:swe|coding) agent)?", "copilot"),
    (r"cursor(?: ?agent)?", "cursor"),
    (r"aider(?: \(.*\))?", "aider"),
    (r"devin(?: ai)?", "devin"),
    (r"(?:openai |chatgpt )?codex(?: cli)?|chatgpt|gpt-[\w.-]+", "codex"),
    (r"gemini(?: cli)?(?: [\w.-]+)?|(?:google-)?jules", "gemini"),
    (r"qwen(?:[ -]cod(?:er|e))?", "qwen"),
    (r"(?:factory[ -])?droid", "droid"),
    (r"openhands|windsurf(?: cascade)?|cline|roo code|amp|opencode|goose|crush", ""),
)
_TRAILER = re.compile(
    r"^(?:co-authored-by|co-developed-by|assisted-by|generated-by|generated-with)\s*:\s*([^<\n]{0,200}?)\s*(?:<([^<>\n]{0,200})>)?\s*$",
    re.IGNORECASE | re.MULTILINE,
)
_FOOTER = re.compile(
    r"^\W{0,4}\s?generated (?:with|by) \[?(claude code|copilot|cursor|aider|devin|codex|gemini|crush|opencode|qwen code)\b", re.I | re.M
)
_WITH_MODEL = re.compile(r"([a-z][\w .-]{0,30}):\S.{0,200}")
"""`AGENT:MODEL [TOOLS]`, the form of the Linux kernel: https://docs.kernel.org/process/coding-assistants.html"""
_BOT = re.compile(r"^(.{1,80})\[bot\]$")


@dataclass(frozen=True, slots=True)
class Identity:
    """A name and address as git has them."""

    name: str
    email: str


def classify(author: Identity, message: str, *, person: str) -> Author:
    """The author of a commit. `person`: the pseudonym to use for a developer."""
    assistant = _assistant(author, trailer=False) or next(
        (found for named in trailers(message) if (found := _assistant(named, trailer=True))), ""
    )
    if not assistant and (footer := _FOOTER.search(message)):
        assistant = footer.group(1).lower().removesuffix(" code")
    if assistant:
        return Author(kind="assistant", agent=assistant)
    bot = _BOT.match(author.name) or _BOT.match(author.email.split("@")[0].partition("+")[2])
    if bot:
        return Author(kind="tool", agent=bot.group(1).lower())
    return Author(kind="developer", person=person)


def trailers(message: str) -> Iterable[Identity]:
    """Who else is named at the end of a message as having written the work."""
    for found in _TRAILER.finditer(message[-10_000:]):
        yield Identity(found.group(1), found.group(2) or "")


def _assistant(identity: Identity, *, trailer: bool) -> str:
    email = identity.email.strip().lower()
    for pattern, agent in _ADDRESSES:
        if re.search(pattern, email):
            return agent
    name = identity.name.strip().lower().removesuffix("[bot]")
    if trailer and (with_model := _WITH_MODEL.fullmatch(name)):
        name = with_model[1]
    for pattern, agent in _TRAILER_NAMES:
        if (trailer or identity.name.endswith("[bot]")) and re.fullmatch(pattern, name):
            return agent or name
    # `aider` marks the author's own name: "Ada (aider)".
    return "aider" if re.search(r"\(aider\)$", name) else ""


class Pseudonyms:
    """`person-1`, `person-2`, ... by first appearance of an address. Nothing is stored: a later reading walks the same
    commits in the same order and comes to the same names."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def of(self, identity: Identity) -> str:
        key = identity.email.strip().lower() or identity.name.strip().lower()
        return f"person-{self._numbers.setdefault(key, len(self._numbers) + 1)}"

    def key(self, person: str) -> str | None:
        """Who has a pseudonym: an address, or the name of somebody without one."""
        return next((key for key, number in self._numbers.items() if f"person-{number}" == person), None)

    def known(self, key: str) -> str | None:
        """The pseudonym that somebody has already."""
        return f"person-{self._numbers[key]}" if key in self._numbers else None

"""Who may be learned from.

Naming a repository is the permission to learn from the code in it; by default loss falls on what people wrote. What an
assistant wrote is read as context and carries loss only where the policy says so, for several vendors' terms forbid to
train other models on their outputs. What a tool wrote (dependency bots, formatters) teaches nothing by default.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from apprentice.core import config
from apprentice.core.errors import ConfigError
from apprentice.sessions.events import Author

_KINDS = ("developer", "assistant", "tool")


@dataclass(frozen=True, kw_only=True, slots=True)
class Terms:
    """On what ground a source may be read."""

    source: str
    vendor: str
    link: str
    read: str
    """Date on which the terms were read, or empty where there are none."""


TERMS = {
    terms.source: terms
    for terms in (
        Terms(source="git", vendor="the repository's owner", link="the licence in the repository", read=""),
        Terms(
            source="claude_code", vendor="Anthropic",
            link="https://support.claude.com/en/articles/12326764-can-i-use-my-outputs-to-train-an-ai-model", read="2026-11-28",
        ),
        # Clause 1.5 (v): no model that competes with Cursor may be trained on its suggestions.
        Terms(source="cursor", vendor="Anysphere", link="https://cursor.com/terms-of-service", read="2026-11-28"),
        Terms(source="editor", vendor="the one who recorded it", link="", read=""),
        Terms(source="specstory", vendor="that of the assistant that was recorded", link="", read=""),
        Terms(source="aider", vendor="that of the model that was used", link="", read=""),
        Terms(source="swe_agent", vendor="that of the model that was used", link="", read=""),
        Terms(source="atif", vendor="that of the assistant that was recorded", link="", read=""),
    )
}  # fmt: skip


FILE = "policy.toml"
"""Beside the runs: `learn_from = ["developer", "assistant:ours"]`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """The default learns from developers only."""

    learn_from: tuple[str, ...] = ("developer",)
    """Each `developer`, `assistant`, `tool`, or one assistant or tool by name: `assistant:claude`."""

    def __post_init__(self) -> None:
        if not self.learn_from:
            raise ConfigError("`learn_from` names nobody to learn from", hint="leave it out to learn from developers")
        for entry in self.learn_from:
            kind, colon, agent = entry.partition(":")
            if kind not in _KINDS or (colon and (kind == "developer" or not agent)):
                raise ConfigError(
                    f"`{entry}` names nobody to learn from",
                    hint="use `developer`, `assistant`, `tool` or `assistant:NAME`",
                )

    def may_learn(self, author: Author) -> bool:
        """Whether loss may fall on what this author wrote."""
        return author.kind in self.learn_from or f"{author.kind}:{author.agent}" in self.learn_from

    def describe(self, sources: Iterable[str]) -> dict[str, Any]:
        """For the manifest: the policy and the terms of each source."""
        terms = [asdict(TERMS[source]) for source in sorted(set(sources)) if source in TERMS]
        return {"learn_from": list(self.learn_from), "terms": terms}


def chosen(learn_from: tuple[str, ...], folder: Path) -> Policy:
    """As asked for, else as the file in the folder says, else the default. Raises: ConfigError naming what is wrong and where."""
    if learn_from:
        return Policy(learn_from=learn_from)
    path = folder / FILE
    return config.load(Policy, path) if path.is_file() else Policy()

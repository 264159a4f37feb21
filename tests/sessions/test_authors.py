import pytest

from apprentice.sessions.authors import Identity, Pseudonyms, classify, trailers
from apprentice.sessions.events import Author

ADA = Identity("Ada Lovelace", "ada@analytical.example")


@pytest.mark.parametrize(
    ("message", "agent"),
    [
        ("Fix\n\nCo-Authored-By: Claude <noreply@anthropic.com>", "claude"),
        ("Fix\n\nCo-authored-by: Claude Sonnet 4.5 <noreply@anthropic.com>", "claude"),
        ("Fix\n\n\U0001f916 Generated with [Claude Code](https://claude.com/claude-code)", "claude"),
        ("Fix\n\nCo-authored-by: Copilot <198982749+Copilot@users.noreply.github.com>", "copilot"),
        ("Fix\n\nCo-authored-by: Cursor <cursoragent@cursor.com>", "cursor"),
        ("Fix\n\nCo-authored-by: aider (gpt-4o) <noreply@aider.chat>", "aider"),
        ("Fix\n\nAssisted-by: GitHub Copilot", "copilot"),
        ("Fix\n\nCo-authored-by: devin-ai <158243242+devin-ai-integration[bot]@users.noreply.github.com>", "devin"),
        ("Fix\n\nCo-authored-by: Ada <a@b.example>\nCo-authored-by: Codex <noreply@openai.com>", "codex"),
        ("Fix\n\nCo-authored-by: Cline", "cline"),
        ("Fix\n\nAssisted-by: Claude:claude-opus-4-6", "claude"),
        ("Fix\n\nAssisted-by: Codex:gpt-5-4 coccinelle sparse", "codex"),
        ("Fix\n\nCo-authored-by: Qwen-Coder <qwen-coder@alibabacloud.com>", "qwen"),
        ("Fix\n\nAssisted-by: Some Model via Crush <crush@charm.land>", "crush"),
        ("Fix\n\nCo-authored-by: factory-droid[bot] <138933559+factory-droid[bot]@users.noreply.github.com>", "droid"),
        ("Fix\n\nGenerated with Crush", "crush"),
    ],
)
def test_a_trailer_that_names_an_assistant_makes_it_the_author(message: str, agent: str) -> None:
    assert classify(ADA, message, person="person-1") == Author(kind="assistant", agent=agent)


@pytest.mark.parametrize(
    "message",
    [
        "Fix\n\nCo-authored-by: Claude Monet <claude@giverny.example>",
        "Fix\n\nCo-authored-by: Devin Smith <devin@smith.example>",
        "Fix\n\nSigned-off-by: Claude <noreply@nowhere.example>",
        "Support Claude in the client",
        "Fix\n\nAssisted-by: Grace Hopper: review",
        "Fix\n\nCo-authored-by: dependabot[bot] <49699333+dependabot[bot]@users.noreply.github.com>",
        "Describe text generated with a cursor that moves",
        "Add Co-authored-by: Copilot lines to the docs, see the guide",
    ],
)
def test_people_and_mentions_are_not_taken_for_assistants(message: str) -> None:
    assert classify(ADA, message, person="person-1") == Author(kind="developer", person="person-1")


@pytest.mark.parametrize(
    ("identity", "author"),
    [
        (Identity("dependabot[bot]", "49699333+dependabot[bot]@users.noreply.github.com"), Author(kind="tool", agent="dependabot")),
        (Identity("pre-commit-ci[bot]", "66853113+pre-commit-ci[bot]@users.noreply.github.com"),
         Author(kind="tool", agent="pre-commit-ci")),
        (Identity("copilot-swe-agent[bot]", "198982749+Copilot@users.noreply.github.com"), Author(kind="assistant", agent="copilot")),
        (Identity("Claude", "noreply@anthropic.com"), Author(kind="assistant", agent="claude")),
        (Identity("Ada (aider)", "ada@analytical.example"), Author(kind="assistant", agent="aider")),
        (Identity("Claude", "claude@giverny.example"), Author(kind="developer", person="p")),
        (Identity("Devin", "devin@smith.example"), Author(kind="developer", person="p")),
        (Identity("Robot", "robot@users.noreply.github.com"), Author(kind="developer", person="p")),
        (Identity("", ""), Author(kind="developer", person="p")),
    ],
)  # fmt: skip
def test_an_author_is_known_by_address_or_bot_account(identity: Identity, author: Author) -> None:
    assert classify(identity, "Fix", person="p") == author


def test_trailers_are_read_with_and_without_address() -> None:
    found = list(trailers("Fix\n\nCo-authored-by: Ada <a@b.example>\nAssisted-by: Cline\n"))
    assert found == [Identity("Ada", "a@b.example"), Identity("Cline", "")]


def test_a_message_of_megabytes_is_searched_at_once() -> None:
    assert classify(ADA, "Co-authored-by: " + " " * 2_000_000 + "<", person="p").kind == "developer"


def test_one_address_is_one_person_in_order_of_appearance() -> None:
    pseudonyms = Pseudonyms()
    assert pseudonyms.of(ADA) == "person-1"
    assert pseudonyms.of(Identity("Grace", "grace@navy.example")) == "person-2"
    assert pseudonyms.of(Identity("A. Lovelace", "ADA@analytical.example ")) == "person-1"

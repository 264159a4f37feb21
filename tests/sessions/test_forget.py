"""Somebody's sessions taken out: nothing of them is left, and what others did still stands in its file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.conftest import GitRepository
from tests.sessions.readers.test_specstory import HEAD, agent, user

from apprentice.core import artifacts, files
from apprentice.core.errors import InputError
from apprentice.core.progress import Silent
from apprentice.learn.config import LearnConfig
from apprentice.learn.sources import Source
from apprentice.learn.stages import sessions as stage
from apprentice.repository.world import World
from apprentice.sessions import replay, store
from apprentice.sessions.bundle import export_bundle
from apprentice.sessions.forget import Whose, forget, saw
from apprentice.sessions.policy import Policy
from apprentice.sessions.readers import files as readers
from apprentice.sessions.store import Sessions, SessionsWriter
from apprentice.text.edits import split_lines

NewRepository = Callable[..., GitRepository]


@pytest.fixture
def history(new_repository: NewRepository) -> GitRepository:
    """Ada and Grace in turn, on shared and on own files."""
    repository = new_repository()
    for number, (name, path, text) in enumerate([
        ("ada", "a.py", "one\n"), ("grace", "a.py", "one\ntwo\n"), ("grace", "own.py", "draft\n"), ("grace", "own.py", "grace\n"), ("ada", "a.py", "one\ntwo\nthree\n"),
        ("grace", "moved.py", "x = 1\n"), ("ada", "b.py", "b\n"), ("grace", "own.py", "grace\nagain\n"), ("grace", "a.py", "ONE\ntwo\nthree\n"),
    ]):  # fmt: skip
        (repository.path / path).write_text(text)
        repository.git("add", "-A")
        repository.git("commit", "-q", "-m", f"{name} {number}", "--author", f"{name} <{name}@example.org>")
    return repository


def worlds_fit(sessions: Sessions) -> None:
    """Every edit starts from the text that the tree has there."""
    worlds = replay.start(sessions)
    for session in sessions.sessions():
        world: World = worlds[session.repository]
        replay.begin(world, session)
        for event in session.edits:
            replay.begin_edit(world, event)
            before = [] if event.before_id is None else split_lines(sessions.text(event.before_id))
            assert list(world.lines(event.path)) == before
            replay.settle(world, event)


def test_nothing_of_a_developer_is_left_and_the_others_stand(
    history: GitRepository, read: Callable[..., Sessions], tmp_path: Path
) -> None:
    sessions = read(history.path)
    grace = next(s.author.person for s in sessions.sessions() if s.intent.startswith("grace"))
    done = forget(sessions.folder, Whose(person=grace), tmp_path / "after")
    after = Sessions.open(tmp_path / "after")
    assert done.sessions == 6
    assert grace not in repr(list(after.sessions()))
    assert [s.intent for s in after.sessions()] == [s.intent for s in sessions.sessions() if not s.intent.startswith("grace")] + [""]
    worlds_fit(after)
    # The tree at the end is the same: a later reading goes on from it.
    ends = []
    for one in (sessions, after):
        world = replay.start(one)[one.repositories()[0]]
        for session in one.sessions():
            replay.advance(world, session)
        ends.append({path: one.text(text_id) for path, text_id in world.files().items()})
    assert ends[0] == ends[1]
    # What nobody else's work ever stood beside is gone.
    assert done.texts == 1
    assert "draft\n" not in [after.text(text_id) for text_id in after.text_ids()]
    assert after.manifest.extra["forgotten"] == [{"person": grace, "repository": sessions.repositories()[0]}]


def test_what_one_tool_recorded(tmp_path: Path, history: GitRepository, read: Callable[..., Sessions]) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.md").write_text(HEAD + user("go") + agent("done"))
    (tmp_path / "in" / "b.md").write_bytes((HEAD.replace("id-1", "id-2") + user("more")).encode() + b"\xff\n")
    with artifacts.create(tmp_path / "talks", kind=store.KIND, version=store.VERSION) as artifact:
        with SessionsWriter(artifact, _Plain()) as writer:
            readers.read(readers.find([tmp_path / "in"]), writer, Silent())
            writer.finish(config={}, policy=Policy())
    done = stage.forget(tmp_path / "talks", Whose(source="specstory"))
    assert (done.sessions, done.events) == (2, 3)
    left = Sessions.open(tmp_path / "talks")
    assert (list(left.talks()), left.streams()) == ([], [])
    assert not (tmp_path / "talks" / store.ASIDE).read_bytes()


def test_who_was_forgotten_does_not_come_back(history: GitRepository, tmp_path: Path) -> None:
    target = tmp_path / "sessions"

    def read_again(*more: Path, limit_commits: int = 3000) -> Sessions:
        sources = [Source("git", history.path, ""), *(Source("sessions", path, "") for path in more)]
        return stage.read(sources, target, LearnConfig(limit_commits=limit_commits), Policy(), Silent())

    grace = next(s.author.person for s in read_again().sessions() if s.intent.startswith("grace"))
    stage.forget(target, Whose(person=grace))
    for name in ("ada", "grace", "ada"):
        (history.path / "late.py").write_text((history.path / "late.py").read_text() + "x\n" if (history.path / "late.py").exists() else "x\n")
        history.git("add", "-A")
        history.git("commit", "-q", "-m", f"{name} late", "--author", f"{name} <{name}@example.org>")
    again = read_again()
    assert [s.intent for s in again.sessions()][-2:] == ["ada late", "ada late"]
    assert grace not in repr(list(again.sessions()))
    worlds_fit(again)
    # Nor where all is read anew, with a tool's sessions besides.
    (tmp_path / "a.md").write_text(HEAD + user("go") + agent("done"))
    anew = read_again(tmp_path / "a.md")
    assert len(list(anew.talks())) == 1
    assert grace not in repr(list(anew.sessions()))
    assert [said["person"] for said in anew.manifest.extra["forgotten"]] == [grace]
    # Where another part is read people have other numbers: hers is the one that is taken out.
    newest = read_again(limit_commits=2)
    assert {s.intent for s in newest.sessions()} == {"ada late"}
    (gone,) = newest.manifest.extra["forgotten"]
    assert gone["person"] != next(s.author.person for s in newest.sessions() if s.intent == "ada late")
    assert not list(tmp_path.glob("sessions.[na]*"))
    with pytest.raises(InputError, match="may come back under another name"):
        read_again(limit_commits=1)
    assert not list(tmp_path.glob("sessions.[na]*"))


def test_who_was_forgotten_does_not_come_back_under_somebody_elses_name(history: GitRepository, tmp_path: Path) -> None:
    target = tmp_path / "sessions"

    def read_again(*more: Path) -> Sessions:
        sources = [Source("git", history.path, ""), *(Source("sessions", path, "") for path in more)]
        return stage.read(sources, target, LearnConfig(), Policy(), Silent())

    grace = next(s.author.person for s in read_again().sessions() if s.intent.startswith("grace"))
    stage.forget(target, Whose(person=grace))
    # Carol's branch is older than all and comes in now: read from the beginning, she has the second number.
    history.git("checkout", "-q", "--orphan", "carol")
    history.git("rm", "-rfq", ".")
    (history.path / "c.py").write_text("c\n")
    history.git("add", "-A")
    for name in ("carol", "dora"):
        (history.path / "c.py").write_text(f"{name}\n")
        history.git("add", "-A")
        when = {"GIT_COMMITTER_DATE": "2001-01-01T00:00:00Z", "GIT_AUTHOR_DATE": "2001-01-01T00:00:00Z"}
        history.git("commit", "-q", "-m", f"{name} came", "--author", f"{name} <{name}@example.org>", **when)
    history.git("checkout", "-q", "main")
    history.git("merge", "-q", "--allow-unrelated-histories", "-m", "merge", "carol")
    (tmp_path / "a.md").write_text(HEAD + user("go") + agent("done"))
    anew = read_again(tmp_path / "a.md")
    intents = [s.intent for s in anew.sessions()]
    assert {"carol came", "dora came"} <= set(intents)
    assert not any(intent.startswith("grace") for intent in intents)
    worlds_fit(anew)


def test_who_was_forgotten_does_not_come_back_where_the_folder_has_another_name(
    history: GitRepository, new_repository: NewRepository, tmp_path: Path
) -> None:
    target = tmp_path / "sessions"

    def read_again(path: Path) -> Sessions:
        return stage.read([Source("git", path, "")], target, LearnConfig(), Policy(), Silent())

    grace = next(s.author.person for s in read_again(history.path).sessions() if s.intent.startswith("grace"))
    stage.forget(target, Whose(person=grace))
    moved = history.path.rename(tmp_path / "called otherwise")
    anew = read_again(moved)
    assert [s.intent.partition(" ")[0] for s in anew.sessions() if s.intent] == ["ada"] * 3
    assert [said["repository"] for said in anew.manifest.extra["forgotten"]] == anew.repositories() == ["called otherwise"]
    # Nor after a reading that left it out, and under a third name.
    other = new_repository("other")
    other.commit("one", a_py="1\n")
    assert read_again(other.path).repositories() == ["other"]
    moved = moved.rename(tmp_path / "third")
    assert not [s for s in read_again(moved).sessions() if s.intent.startswith("grace")]
    # On another branch nobody knows who is who.
    history.path = moved.rename(tmp_path / "fourth")
    history.git("checkout", "-q", "-b", "aside", "HEAD~2")
    history.commit("aside", late_py="1\n")
    with pytest.raises(InputError, match="may come back under another name"):
        read_again(history.path)


def test_who_was_forgotten_does_not_come_back_in_a_newer_bundle(history: GitRepository, read: Callable[..., Sessions], tmp_path: Path) -> None:
    target, bundle = tmp_path / "target", tmp_path / "team.bundle"
    export_bundle(read(history.path), bundle)

    def read_again(*more: Path) -> Sessions:
        return stage.read([Source("sessions", path, "") for path in (bundle, *more)], target, LearnConfig(), Policy(), Silent())

    grace = next(s.author.person for s in read_again().sessions() if s.intent.startswith("grace"))
    stage.forget(target, Whose(person=grace))
    (tmp_path / "a.md").write_text(HEAD + user("go") + agent("done"))
    assert grace not in repr(list(read_again(tmp_path / "a.md").sessions()))
    # A reading without it between changes nothing.
    stage.read([Source("git", history.path, "")], target, LearnConfig(), Policy(), Silent())
    assert grace not in repr(list(read_again().sessions()))
    bundle.unlink()
    export_bundle(read(history.path, into="newest", limit_commits=4), bundle)
    with pytest.raises(InputError, match="may come back under another name"):
        read_again()


def test_nothing_is_left_where_the_folder_is_a_link(history: GitRepository, tmp_path: Path) -> None:
    target, real = tmp_path / "home" / "sessions", tmp_path / "elsewhere"
    target.parent.mkdir()
    target.symlink_to(real)
    sessions = stage.read([Source("git", history.path, "")], target, LearnConfig(), Policy(), Silent())
    stage.forget(target, Whose(person=next(s.author.person for s in sessions.sessions() if s.intent.startswith("grace"))))
    assert target.is_symlink()
    assert not [s.intent for s in Sessions.open(real).sessions() if s.intent.startswith("grace")]


def test_nobody_is_forgotten_while_a_run_learns(history: GitRepository, tmp_path: Path) -> None:
    target = tmp_path / "sessions"
    stage.read([Source("git", history.path, "")], target, LearnConfig(), Policy(), Silent())
    (tmp_path / "runs").mkdir()
    with files.lock(tmp_path), pytest.raises(InputError, match="in use"):
        stage.forget(target, Whose(person="person-1"))
    stage.forget(target, Whose(person="person-1"))


def test_one_name_in_two_repositories(history: GitRepository, new_repository: NewRepository, read: Callable[..., Sessions], tmp_path: Path) -> None:
    other = new_repository("other")
    other.commit("one", a_py="1\n")
    sessions = read(history.path, other.path)
    with pytest.raises(InputError, match="somebody else in each of .*other"):
        forget(sessions.folder, Whose(person="person-1"), tmp_path / "after")
    done = forget(sessions.folder, Whose(person="person-1", repository="other"), tmp_path / "after")
    assert done.sessions == 1


def test_nobody_is_forgotten_by_mistake(history: GitRepository, read: Callable[..., Sessions], tmp_path: Path) -> None:
    sessions = read(history.path)
    for whose, words in ((Whose(person="person-9"), "no sessions of person-9"), (Whose(source="cursor"), "nothing of that source"),
                         (Whose(person="local-user"), "whoever used a tool"),
                         (Whose(person="person-1", repository="other"), "nothing of that source or repository")):  # fmt: skip
        with pytest.raises(InputError, match=words):
            forget(sessions.folder, whose, tmp_path / "after")
    with pytest.raises(ValueError, match="either a person or a source"):
        Whose()


class _Plain:
    def redact(self, text: str) -> tuple[str, dict[str, int]]:
        return text, {}


def test_what_was_made_before_is_named_wherever_it_lies_beside(tmp_path: Path) -> None:
    made = [tmp_path / "runs" / "0001" / "examples", tmp_path / "runs" / "0001" / "checkpoint", tmp_path / "talks" / "conversations"]
    for folder in made:
        with artifacts.create(folder, kind=folder.name, version=1) as artifact:
            parents = {"sessions": "these"} if folder.name == "examples" else {}
            artifact.finish(extra={"people": ["person-2"]} if folder.name == "checkpoint" else {}, parents=parents)
    # A report, what a killed run left, and files of others that are called like ours.
    for name in ("runs/0001/report/index.html", "runs/0002/memory/unfinished.json", "web/public/manifest.json", "web/pages/index.html"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    (tmp_path / "recorded").mkdir()
    more = [tmp_path / "runs/0001/report", tmp_path / "runs/0002/memory"]
    tool = saw(tmp_path, Whose(source="cursor"), "these")
    assert tool == sorted([*made, *more])
    assert saw(tmp_path, Whose(source="editor"), "these") == sorted([*tool, tmp_path / "recorded"])
    assert saw(tmp_path, Whose(person="person-1"), "these") == sorted([made[0], made[2], *more])
    # What others called whom is not known.
    assert saw(tmp_path, Whose(person="person-1"), "others") == tool

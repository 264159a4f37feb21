"""Moves the memory and the test's moments forward together: at an edit, the memory knows what came before and no more.

    works --Replay--> View (a moment, the memory as it stood then, earlier edits) --> arms answer, in any order

At an example the memory holds the tree of the commit's parent and all edits earlier in time (DESIGN 9); earlier edits of
the same commit are among them, and the file as it stands is shown to it with every question. Leaving out the edited
lines, and that path of the repository, is the memory's own doing: it is told the region.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, overload

from apprentice.core.protocols import Mixture, TextSource
from apprentice.examples.filters import file_reason
from apprentice.examples.work import FileWork, Moment, Player, Work, after, is_showable
from apprentice.text.edits import Edit, split_lines


class MixtureSource(Protocol):
    """What an arm asks of a memory (`memory.memory.Memory`)."""

    def mixture(
        self, *, path: str, lines: Sequence[str], start_line: int, end_line: int, prompt_ids: Sequence[int],
        line_start: str = "",
    ) -> Mixture: ...


class EditMemory(MixtureSource, Protocol):
    """What a replay asks of a memory. A copy costs little and does not see what its original is told later."""

    def copy(self) -> MixtureSource: ...

    def set_files(self, texts: Mapping[str, str]) -> Any: ...
    def remove_file(self, path: str) -> Any: ...
    def add_edit(self, edit: Edit, provenance: dict[str, Any]) -> Any: ...


@dataclass(frozen=True, slots=True)
class Memories:
    """The memories of one repository as they stood when the test began."""

    by_name: Mapping[str, EditMemory]
    """Name (that arms refer to) -> memory."""
    followed: Sequence[EditMemory]
    """Those that learn what happens on the way: each index once, where several gates share one."""


NO_MEMORIES = Memories({}, [])
OpenMemories = Callable[[str], Memories]
"""Repository -> its memories, opened afresh: a second walk over the test starts from where the first did."""


@dataclass(frozen=True, slots=True)
class View:
    """What may be known at an edit."""

    moment: Moment
    memories: Mapping[str, MixtureSource]
    earlier: Sequence[Edit] = ()
    """All edits made before, of the same repository, oldest first."""


class _Earlier(Sequence[Edit]):
    """The first edits of a list that goes on growing."""

    def __init__(self, edits: Sequence[Edit]) -> None:
        self._edits, self._count = edits, len(edits)

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Edit: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Edit]: ...
    def __getitem__(self, index: int | slice) -> Edit | Sequence[Edit]:
        if isinstance(index, slice):
            return [self._edits[i] for i in range(*index.indices(self._count))]
        if not -self._count <= index < self._count:
            raise IndexError(index)
        return self._edits[index % self._count]


class Replay:
    """The test's works, to be gone through as often as needed; of the works before them only the edits are kept."""

    def __init__(self, works: Iterable[Work], starts: Mapping[str, str], *, texts: TextSource | None = None) -> None:
        """`starts`: repository -> the commit before which its memories were taken. Works of other repositories are
        passed over."""
        self._texts = texts
        self._works: list[Work] = []
        self._player = Player(leave_out=file_reason)
        self._earlier: dict[str, list[Edit]] = {repository: [] for repository in starts}
        started: set[str] = set()
        for work in works:
            if starts.get(work.repository) == work.commit:
                started.add(work.repository)
            if work.repository in started:
                self._works.append(work)
            elif work.repository in starts:
                self._earlier[work.repository] += [moment.edit for moment in self._player.play(work)]

    def views(self, open_memories: OpenMemories, commits: Collection[str]) -> Iterator[View]:
        """The moments of these commits, in order."""
        player = self._player.copy()
        earlier = {repository: list(edits) for repository, edits in self._earlier.items()}
        memories: dict[str, Memories] = {}
        left = sum(work.commit in commits for work in self._works)
        for work in self._works:
            if not left:
                break
            left -= work.commit in commits
            if work.repository not in memories:
                memories[work.repository] = open_memories(work.repository)
            known, edits = memories[work.repository], earlier[work.repository]
            _move(work, known.followed, self._texts)
            for moment in player.play(work):
                if work.commit in commits:
                    yield View(moment, {name: memory.copy() for name, memory in known.by_name.items()}, _Earlier(edits))
                edits.append(moment.edit)
                if is_showable(moment.edit):
                    for memory in known.followed:
                        memory.add_edit(moment.edit, _origin(moment))
            _settle([file for file in work.files if player.reason(file) is None], known.followed)


def _origin(moment: Moment) -> dict[str, Any]:
    return {"commit": moment.work.commit, "session": moment.work.session, "path": moment.edit.path}


def _move(work: Work, followed: Sequence[EditMemory], texts: TextSource | None) -> None:
    """Other people's work comes in."""
    changes: dict[str, str | None] = {}
    for path, text_id in work.moves if followed else ():
        text = texts.text(text_id) if texts is not None and text_id is not None else None
        changes[path] = text if text is not None and file_reason(path, split_lines(text)) is None else None
    _change(followed, changes)


def _settle(changed: Iterable[FileWork], followed: Sequence[EditMemory]) -> None:
    """The commit is done: its files are part of the tree."""
    changes: dict[str, str | None] = {}
    for file in changed if followed else ():
        try:
            text = None if file.removed else "".join(line + "\n" for line in after(file))
        except ValueError:
            continue
        if file.renamed_from is not None:
            changes[file.renamed_from] = None
        changes[file.path] = text
    _change(followed, changes)


def _change(followed: Sequence[EditMemory], changes: Mapping[str, str | None]) -> None:
    """Path -> new text, or None where the file is gone; the last word on a path counts."""
    texts = {path: text for path, text in changes.items() if text is not None}
    gone = [path for path, text in changes.items() if text is None]
    for memory in followed:
        for path in gone:
            memory.remove_file(path)
        if texts:
            memory.set_files(texts)

"""What a repository and its edits say next, known a second after it was written and without training.

    files, edits --tokens--> two indexes --+
    the file at hand, without the region --+--> NativeMixture --> mixed probabilities, drafts for speculative decoding
    the region's own lines ----------------+--> Resemblances (`complete --why`)

Four sources, each trusted as far as the gate says: the file at hand, the repository's other files, every earlier edit
(also those of this file), and the very lines that are to be replaced, where the prompt shows them.

Undelete trap: the file holds the line that is about to change and would predict it with near certainty. So the
region's lines are left out of the file, and the file's path out of the repository. The region itself has a say as a
source of its own, with a weight of its own: copying is what most tokens of an edit do, and the gate is told when
another source says just what stands there already. For a completion the old lines are not shown, and it has no say.

What is stored is text: token ids decode to it. Only redacted text may be handed in, and a memory is as secret as the
repository. Left out: several people's memories in one, forgetting of old edits, retrieval for the prompt.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from apprentice.core.protocols import Mixture, Tokenizer
from apprentice.kernels import native as kernels
from apprentice.memory.gate import Gate
from apprentice.memory.index import MAX_MATCH, Document, Index
from apprentice.memory.mixture import MemoryMixture, Recorder, Source
from apprentice.memory.native import MAX_SEGMENTS, NativeMixture
from apprentice.memory.resemblance import Origin, Resemblance, resemblances
from apprentice.text.edits import END_MARK, NEW_MARK, Edit

CONTEXT_LINES = 40
"""Lines above the region that are surely more than MAX_MATCH tokens, unless most are empty."""
REGION_CONTEXT_LINES = 3
FILE_LINES = 4000
"""Lines of the file at hand on each side of the region: farther ones cost time and say little."""
_TAIL_TOKENS = 16
"""Tokens in which NEW_MARK can be recognized at the end of a prompt."""


@dataclass(frozen=True, slots=True)
class State:
    """What a memory knows besides its tokens, in the order of its documents."""

    groups: list[str]
    """Path of each group."""
    files: list[Origin]
    edits: list[Origin]


class Memory:
    """Of one repository. Mixtures see the memory as it was when they were made."""

    def __init__(self, tokenizer: Tokenizer, gate: Gate | None = None) -> None:
        self.tokenizer = tokenizer
        self.gate = gate or Gate.default()
        self.repository = Index()
        self.edits = Index()
        self._groups: dict[str, int] = {}
        self._files: dict[str, int] = {}
        self._file_origins: dict[int, Origin] = {}
        self._edit_origins: dict[int, Origin] = {}
        self._last_file: tuple[str, str, Index] | None = None

    @classmethod
    def restore(
        cls, tokenizer: Tokenizer, gate: Gate, groups: dict[str, int], repository: Index, files: dict[int, Origin],
        edits: Index, edit_origins: dict[int, Origin],
    ) -> Memory:  # fmt: skip
        """A memory out of its parts: origins by document, groups by path."""
        memory = cls(tokenizer, gate)
        memory.repository, memory.edits, memory._groups = repository, edits, groups
        memory._files = {origin.path: number for number, origin in files.items()}
        memory._file_origins, memory._edit_origins = files, edit_origins
        return memory

    def state(self) -> State:
        """For the store."""
        files = [self._file_origins[number] for number in self.repository.documents]
        return State(list(self._groups), files, [self._edit_origins[number] for number in self.edits.documents])

    @property
    def num_tokens(self) -> int:
        return self.repository.num_tokens + self.edits.num_tokens

    @property
    def paths(self) -> list[str]:
        """Files of the repository that are known."""
        return list(self._files)

    def with_gate(self, gate: Gate) -> Memory:
        """The same memory, growing together with this one, under another gate: for another model."""
        other = Memory(self.tokenizer, gate)
        other.repository, other.edits, other._groups = self.repository, self.edits, self._groups
        other._files, other._file_origins, other._edit_origins = self._files, self._file_origins, self._edit_origins
        return other

    def copy(self) -> Memory:
        """This memory at this moment: it does not see what the original is told later, and goes on by itself."""
        other = Memory(self.tokenizer, self.gate)
        other.repository, other.edits, other._groups = self.repository.copy(), self.edits.copy(), dict(self._groups)
        other._files, other._file_origins = dict(self._files), dict(self._file_origins)
        other._edit_origins = dict(self._edit_origins)
        return other

    def set_file(self, path: str, text: str) -> None:
        """A file of the repository as it stands now."""
        self.set_files({path: text})

    def set_files(self, texts: Mapping[str, str]) -> None:
        """Many files at once, which is faster than one by one."""
        documents = {path: Document(self._tokens("\n" + text), 0, self._group(path)) for path, text in texts.items()}
        for path, number in zip(documents, self.repository.add_all(documents.values()), strict=True):
            self.remove_file(path)
            self._files[path] = number
            self._file_origins[number] = Origin(path, 0, {})

    def remove_file(self, path: str) -> None:
        """Forget a file; nothing happens where it is not known. Its edits stay."""
        if path in self._files:
            number = self._files.pop(path)
            self.repository.remove(number)
            del self._file_origins[number]

    def add_edit(self, edit: Edit, provenance: Mapping[str, Any]) -> None:
        """`provenance`: what is known of where it comes from (JSON values); `explain` shows its `commit`."""
        self.add_edits([(edit, provenance)])

    def add_edits(self, edits: Iterable[tuple[Edit, Mapping[str, Any]]]) -> None:
        """Many edits at once, oldest first, which is faster than one by one."""
        documents: list[Document] = []
        origins: list[Origin] = []
        for edit, provenance in edits:
            above = self._tokens(_block(edit.above))
            target = self._tokens(_block([*edit.new, END_MARK]))
            documents.append(Document(np.concatenate([above, target]), len(above), self._group(edit.path)))
            origins.append(Origin(edit.path, edit.start_line - len(edit.above), dict(provenance)))
        self._edit_origins.update(zip(self.edits.add_all(documents), origins, strict=True))

    def mixture(
        self, *, path: str, lines: Sequence[str], start_line: int, end_line: int, prompt_ids: Sequence[int],
        line_start: str = "",
    ) -> Mixture:  # fmt: skip
        """For a suggestion that replaces lines [start_line, end_line) of a file as it stands.

        `prompt_ids` ending in NEW_MARK ask for a whole replacement; all others for a completion, whose first line
        starts with `line_start` (what the healed prompt still shows of it)."""
        sources, context = self._at(path, lines, start_line, end_line, prompt_ids, line_start)
        library = kernels.load()
        if library is not None and all(len(source.view.segments) <= MAX_SEGMENTS for source in sources if source is not None):
            return NativeMixture(sources, context, self.gate, library)
        return MemoryMixture(sources, context, self.gate)

    def recorder(
        self, *, path: str, lines: Sequence[str], start_line: int, end_line: int, prompt_ids: Sequence[int],
        line_start: str = "",
    ) -> Recorder:  # fmt: skip
        """A mixture that changes nothing and gathers `records` for `Gate.fit`."""
        return Recorder(*self._at(path, lines, start_line, end_line, prompt_ids, line_start), self.gate)

    def explain(
        self, *, path: str, lines: Sequence[str], start_line: int, end_line: int, new_text: str, limit: int = 5
    ) -> list[Resemblance]:
        """Places and commits that a suggestion resembles, the longest resemblance first: in the same file outside the
        region, in other files, in earlier edits. `new_text` replaces lines [start_line, end_line)."""
        context = self._tokens(_block(lines[max(0, start_line - CONTEXT_LINES) : start_line]))
        file, origins = self._file(path, lines, start_line, end_line)
        places = [
            (Source(self.edits.view()), self._edit_origins),
            (Source(file.view()), origins),
            (Source(self.repository.view(), self._groups.get(path)), self._file_origins),
        ]
        return resemblances(self.tokenizer, places, context.tolist(), self._tokens("\n" + new_text).tolist(), limit)

    def _at(
        self,
        path: str,
        lines: Sequence[str],
        start_line: int,
        end_line: int,
        prompt_ids: Sequence[int],
        line_start: str,
    ) -> tuple[list[Source | None], list[int]]:
        replaces = self.tokenizer.decode(prompt_ids[-_TAIL_TOKENS:]).endswith(NEW_MARK)
        context = _block(lines[max(0, start_line - CONTEXT_LINES) : start_line]) + (
            "" if replaces else "\n" + line_start
        )
        region = Index()
        if replaces:
            above = self._tokens(_block(lines[max(0, start_line - REGION_CONTEXT_LINES) : start_line]))
            old = self._tokens(_block([*lines[start_line:end_line], END_MARK]))
            region.add(np.concatenate([above, old]), first=len(above))
        sources = [
            Source(self._file(path, lines, start_line, end_line)[0].view()),
            Source(self.repository.view(), self._groups.get(path)),
            Source(self.edits.view()),
            Source(region.view()) if replaces else None,
        ]
        return sources, self._tokens(context)[-MAX_MATCH:].tolist()

    def _file(self, path: str, lines: Sequence[str], start_line: int, end_line: int) -> tuple[Index, dict[int, Origin]]:
        """The file at hand without the region. The last one is kept: one place is often asked about several times."""
        first = max(0, start_line - FILE_LINES)
        above = _block(lines[first:start_line])
        # The last line's end is a place too, so that the whole of it can be found.
        below = _block([*lines[end_line : end_line + FILE_LINES], ""]) if end_line < len(lines) else ""
        if self._last_file is None or self._last_file[:2] != (above, below):
            index = Index()
            index.add_all([Document(self._tokens(above)), Document(self._tokens(below))])
            self._last_file = (above, below, index)
        index = self._last_file[2]
        origins = [Origin(path, first, {}), Origin(path, end_line, {})]
        return index, dict(zip(index.documents, origins, strict=True))

    def _tokens(self, text: str) -> np.ndarray:
        return np.array(self.tokenizer.encode(text), np.int32)

    def _group(self, path: str) -> int:
        return self._groups.setdefault(path, len(self._groups))


def _block(lines: Sequence[str]) -> str:
    """Each line behind a line break, as in targets: so indentation is cut into tokens the same way everywhere."""
    return "".join("\n" + line for line in lines)

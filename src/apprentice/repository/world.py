"""The files of a repository at any moment of its history, by moving forward through edits.

    World({path: text id}, texts)  --set_file(path, id)--> after a file was changed as a whole
                                   --apply(edit)-->        after one place of a file was changed

Only ids are held, and the lines of the file being edited; texts come from a content-addressed store. A file's lines may
run ahead of its stored text while the edits of one commit are applied one by one; `set_file` settles it again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from apprentice.core.protocols import TextSource
from apprentice.text import edits
from apprentice.text.edits import Edit


class World:
    """See the module's docstring. Paths are those of the repository, with `/`."""

    def __init__(self, tree: Mapping[str, str], texts: TextSource) -> None:
        self._ids = dict(tree)
        self._ahead: dict[str, list[str]] = {}
        self._texts = texts

    def __contains__(self, path: object) -> bool:
        return path in self._ids or path in self._ahead

    def __iter__(self) -> Iterator[str]:
        """All paths, those of new files last."""
        yield from self._ids
        yield from (path for path in self._ahead if path not in self._ids)

    def files(self) -> dict[str, str]:
        """Path -> id of the text, a copy. A file that runs ahead of its text has the id from before."""
        return dict(self._ids)

    def text_id(self, path: str) -> str | None:
        """Id of the file's text; None where there is no such file or it runs ahead of its text."""
        return None if path in self._ahead else self._ids.get(path)

    def lines(self, path: str) -> list[str]:
        """The file's lines as they stand, without line breaks; none where there is no such file."""
        if path in self._ahead:
            return list(self._ahead[path])
        text_id = self._ids.get(path)
        return [] if text_id is None else edits.split_lines(self._texts.text(text_id))

    def text(self, path: str) -> str:
        """The file's text as it stands; the last line is taken to end in a line break where it runs ahead."""
        if path in self._ahead:
            return "".join(line + "\n" for line in self._ahead[path])
        text_id = self._ids.get(path)
        return "" if text_id is None else self._texts.text(text_id)

    def apply(self, edit: Edit) -> None:
        """Change one place. Raises: ValueError where the old lines do not stand there."""
        self._ahead[edit.path] = edits.apply(self.lines(edit.path), edit)

    def set_file(self, path: str, text_id: str | None, *, renamed_from: str | None = None) -> None:
        """The file now has this text, or is gone (None); where it was renamed its old path is gone."""
        for gone in (path, renamed_from):
            if gone is not None:
                self._ahead.pop(gone, None)
                self._ids.pop(gone, None)
        if text_id is not None:
            self._ids[path] = text_id

    def begin_rename(self, old_path: str, path: str) -> None:
        """Move a file's lines to its new path, so that edits in it can be applied there."""
        self._ahead[path] = self.lines(old_path)
        self._ahead.pop(old_path, None)
        self._ids.pop(old_path, None)

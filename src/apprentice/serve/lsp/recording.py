"""What is written down of a session in the editor, where the developer has asked for it: one file a session, a line an event.

    .apprentice/recorded/20261203T101500-1a2b3c4d.jsonl
      {"recording":"apprentice","version":1,"session":"...","time":...,"repository":"..."}
      {"type":"edit",...}            an edit of the developer, or one that an accepted suggestion made (its author is `apprentice`)
      {"type":"suggestion",...}      what was offered, and its outcome

    Stretch --Redactor, before and after--> lines without secrets --hunks--> event --core.files.append_line--> disk

Only files of the repository (or of the folder at hand, where it is none) are written down, none that git ignores, and none whose name,
or whose folder's, says that it holds secrets. Nobody but the developer may read the recordings. Each line is on disk before the next message of the editor is answered, so a crash loses the edit that was being
made and no more; but a suggestion at a line that may hold the beginning of a secret waits until the edit there has ended, and is
dropped where it has become one. A disk that takes no more ends the recording, not the server.
"""

from __future__ import annotations

import contextlib
import re
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from apprentice.core import files
from apprentice.core.errors import ApprenticeError
from apprentice.core.protocols import SecretScanner
from apprentice.repository.git import is_ignored
from apprentice.serve.lsp.documents import path_of, repository_of
from apprentice.serve.lsp.history import Stretch
from apprentice.serve.lsp.outcomes import Outcome
from apprentice.sessions.conversation import DEVELOPER
from apprentice.sessions.differences import hunks_between
from apprentice.sessions.events import Author, EditEvent, Provenance, Suggestion
from apprentice.sessions.readers.editor import AGENT, SOURCE, Header
from apprentice.sessions.unusable import Unusable
from apprentice.text.edits import Edit, split_lines

FOLDER = "recorded"
MODEL = Author(kind="assistant", agent=AGENT)
MAX_EVENT_CHARS = 200_000
MAX_HELD = 200
"""Suggestions of a document that wait for the edit to end."""

_SECRET_FILES = re.compile(
    r".*\.env(\..*)?|\.env([-_].*|rc)|.*\.(tfvars|tfstate)(\..*)?|kubeconfig|.*(service[-_]?account|client[-_]?secret).*\.json"
    r"|.*[-_.](secrets?|credentials)\.(ya?ml|json|toml|ini|txt)|.*\.(pem|key|p12|pfx|jks|keystore|kdbx|ppk|asc|gpg|ovpn)|id_(rsa|dsa|ecdsa|ed25519).*|\.?(netrc|npmrc|pypirc|pgpass|htpasswd|git-credentials)"
    r"|credentials(\..*)?|secrets?(\..*)?",
    re.IGNORECASE,
)
_SECRET_FOLDERS = frozenset((".git", ".ssh", ".gnupg", ".aws", ".kube", ".docker", ".secrets", "secrets"))
"""Of a repository: what git keeps there itself (messages, addresses with tokens in them) is no file of it."""
_BEGINNING = re.compile(
    r"pass|secret|token|key|auth|credential|bearer|private|(?=[\w+/=.-]{0,200}\d)(?=[\w+/=.-]{0,200}[a-z])[\w+/=.-]{8,}", re.IGNORECASE
)

_UNFINISHED = re.compile(
    r"""((?:pass|secret|token|key|auth|credential|bearer|private)\w{0,40}["']?\]?\s{0,5}(?::\s{0,5}\w{1,20}\s{0,5})?[=:]\s{0,5}[bfru]{0,2}(["'`]))(?:(?!\2).){3,}$""",
    re.IGNORECASE,
)
"""A text behind a telling name that has not come to its end: nobody can recognize it yet."""


@dataclass(frozen=True, slots=True)
class _Place:
    """A changed place without secrets."""

    edit: Edit
    has_secret: bool
    """There was one in its lines, old or new, which was taken out."""
    may_tell: bool
    """There was one on one side only, and the other may hold a part of it, which nobody can recognize as such."""
    may_begin: bool
    """The old lines may hold the beginning of one that is being typed."""


class Recorder:
    """Writes the file of one session; the file begins with its first event."""

    def __init__(
        self, folder: Path, root: Path, scanner: SecretScanner, *, repository: str = "",
        say: Callable[[str], None] = lambda message: None, clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        """`folder` is made where it is missing; files below `root` are written down; `say` tells the developer where the recording
        comes to an end."""
        self.folder, self.say = folder, say
        self._root, self._scanner, self._clock = root.resolve(), scanner, clock
        self._repository = repository
        self.num_events = 0
        self.dropped: Counter[str] = Counter()
        self._path: Path | None = None
        self._offset = 0
        self._is_ended = False
        self._held: dict[str, list[tuple[Stretch, Outcome]]] = {}
        self._ignored: dict[Path, bool] = {}

    def may_record(self, stretch: Stretch) -> bool:
        """Whether the file is one of the repository's, and none that holds secrets by its name or its folder's."""
        path = path_of(stretch.uri)
        if path is None or _SECRET_FILES.fullmatch(path.name):
            return False
        # An editor may come by a link, and a link in the repository may lead out of it.
        try:
            real = path.resolve()
        except (OSError, RuntimeError):
            # A loop of links: there is no such file.
            return False
        if not real.is_relative_to(self._root) or _SECRET_FILES.fullmatch(real.name) or real.is_relative_to(self.folder.resolve()):
            return False
        if _SECRET_FOLDERS.intersection(real.relative_to(self._root).parts[:-1]):
            return False
        # Not one of a repository inside of ours: nobody has named that one.
        ours = repository_of(self._root / "any")
        return repository_of(real) in (ours, None) and not (ours is not None and self._is_ignored(ours, real))

    def _is_ignored(self, root: Path, path: Path) -> bool:
        """What git leaves out is no file of the repository: notes of one's own, settings with secrets, what was installed."""
        if path not in self._ignored:
            try:
                self._ignored[path] = is_ignored(root, path)
            except ApprenticeError:
                # A folder called `.git` that is none: nothing says that it is left out.
                self._ignored[path] = False
        return self._ignored[path]

    def summary(self) -> str:
        """What was written and what was left out, for the one who starts it."""
        left_out = ", ".join(f"{count} {reason}" for reason, count in sorted(self.dropped.items()) if count)
        return f"recorded {self.num_events} events" + (f"; left out: {left_out}" if left_out else "")

    def edited(self, stretch: Stretch) -> None:
        """An edit has ended."""
        with self._ending():
            if self._is_ended or not self.may_record(stretch):
                return
            places = self._places(stretch)
            self._release(stretch.uri, has_secret=any(place.has_secret for place in places))
            hunks = tuple(place.edit for place in self._clean(places))
            if hunks:
                author = MODEL if stretch.by_model else DEVELOPER
                self._write(EditEvent, stretch, author, path=hunks[0].path, before_id=None, after_id=None, hunks=hunks)

    def suggested(self, stretch: Stretch, outcome: Outcome) -> None:
        """The outcome of a suggestion is known. `stretch`: what it would have made of the document."""
        with self._ending():
            if self._is_ended or not self.may_record(stretch):
                return
            places = self._places(stretch)
            if outcome in ("rejected", "ignored") and any(place.may_begin for place in places):
                held = self._held.setdefault(stretch.uri, [])
                held.append((stretch, outcome))
                if len(held) > MAX_HELD:
                    del held[0]
                    self.dropped["waiting too long"] += 1
            else:
                self._suggest(stretch, places, outcome)

    def close(self, uri: str | None = None) -> None:
        """A document, or all, are closed: nothing waits any longer. Their edits were told before."""
        with self._ending():
            for held in [uri] if uri is not None else list(self._held):
                self._release(held, has_secret=False)

    def _release(self, uri: str, *, has_secret: bool) -> None:
        for stretch, outcome in self._held.pop(uri, []):
            if has_secret:
                self.dropped["beside a secret"] += 1
            else:
                self._suggest(stretch, self._places(stretch), outcome)

    def _suggest(self, stretch: Stretch, places: Sequence[_Place], outcome: Outcome) -> None:
        for place in self._clean(places):
            self._write(Suggestion, stretch, MODEL, edit=place.edit, outcome=outcome)

    def _clean(self, places: Sequence[_Place]) -> list[_Place]:
        clean = [place for place in places if not place.may_tell]
        self.dropped["beside a secret"] += len(places) - len(clean)
        return clean

    def _places(self, stretch: Stretch) -> list[_Place]:
        path, old, new = self._redact(stretch.name), self._lines(stretch.old), self._lines(stretch.new)
        if old is None or new is None:
            self.dropped["redacted to other lines"] += 1
            return []
        try:
            edits = hunks_between(path, _text(old), _text(new))
        except Unusable as unusable:
            self.dropped[unusable.reason] += 1
            return []
        if sum(len(line) for edit in edits for line in (*edit.old, *edit.new)) > MAX_EVENT_CHARS:
            self.dropped["too long"] += 1
            return []
        places: list[_Place] = []
        grown = 0
        for edit in edits:
            at, was = edit.start_line, edit.start_line - grown
            old_lines = list(zip(stretch.old, old, strict=True))[was : was + len(edit.old)]
            new_lines = list(zip(stretch.new, new, strict=True))[at : at + len(edit.new)]
            in_old, in_new = (any(raw != redacted for raw, redacted in lines) for lines in (old_lines, new_lines))
            begins = [bool(_BEGINNING.search(raw)) for raw, redacted in (*old_lines, *new_lines) if raw == redacted]
            grown += len(edit.new) - len(edit.old)
            place = replace(edit, start_line=at + stretch.first_line)
            may_begin = any(_BEGINNING.search(raw) for raw, _ in old_lines)
            places.append(_Place(place, in_old or in_new, in_old != in_new and any(begins), may_begin))
        return places

    def _lines(self, lines: Sequence[str]) -> list[str] | None:
        redacted = [_UNFINISHED.sub(r"\1<secret:unfinished>", line) for line in split_lines(self._redact(_text(lines)))]
        return redacted if len(redacted) == len(lines) else None

    def _redact(self, text: str) -> str:
        return self._scanner.redact(text)[0]

    def _write(self, event_type: type[Any], stretch: Stretch, author: Author, **fields: Any) -> None:
        if self._is_ended:
            return
        path = self._path or self._begin(stretch.time)
        event = event_type(
            id=f"{SOURCE}:{path.stem}/{self.num_events}", session_id=f"{SOURCE}:{path.stem}", time=stretch.time, author=author,
            provenance=Provenance(source=SOURCE, file=path.name, offset=self._offset), repository=self._repository, **fields,
        )  # fmt: skip
        self._append(path, event)
        self.num_events += 1

    def _begin(self, started: float) -> Path:
        files.make_folder(self.folder)
        _make_private(self.folder, 0o700)
        self._repository = self._redact(self._repository)
        name = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(self._clock()))}-{uuid.uuid4().hex[:8]}"
        path = self.folder / f"{name}.jsonl"
        self._append(path, Header(session=f"{SOURCE}:{name}", time=started, repository=self._repository))
        _make_private(path, 0o600)
        self._path = path
        return path

    def _append(self, path: Path, value: Any) -> None:
        line = msgspec.json.encode(value).decode()
        files.append_line(path, line)
        self._offset += len(line.encode()) + 1

    @contextlib.contextmanager
    def _ending(self) -> Iterator[None]:
        """Whatever goes wrong here must not come between the developer and the editor."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - the boundary
            self._is_ended = True
            reason = error.message if isinstance(error, ApprenticeError) else type(error).__name__
            self.say(f"nothing more is recorded: {reason}")


def _make_private(path: Path, mode: int) -> None:
    # Some file systems know no modes.
    with contextlib.suppress(OSError):
        path.chmod(mode)


def _text(lines: Sequence[str]) -> str:
    return "".join(line + "\n" for line in lines)

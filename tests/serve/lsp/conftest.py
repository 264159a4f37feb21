"""An editor that speaks JSON-RPC over two streams: to a server in this process, or to the command in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from apprentice.core.fakes import ByteTokenizer, ScriptedGenerator
from apprentice.core.protocols import Generator, Request, Sample, Score
from apprentice.serve.lsp import server as language_server
from apprentice.serve.lsp.editor import Assistant, AssistantSlot
from apprentice.serve.lsp.recording import Recorder
from apprentice.serve.silence import Decision
from apprentice.serve.suggestions import Suggester
from apprentice.text.edits import Edit, target_text
from apprentice.text.redaction import Redactor

TOKENIZER = ByteTokenizer()
ACCEPT = "apprentice.acceptSuggestion"
REJECT = "apprentice.rejectSuggestion"


class RpcError(Exception):
    """An answer that is an error."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error)
        self.code: int = error["code"]
        self.message: str = error["message"]


class Client:
    """Sends, and gathers what comes."""

    def __init__(self, incoming: BinaryIO, outgoing: BinaryIO) -> None:
        self._incoming, self._outgoing = incoming, outgoing
        self._answers: dict[Any, queue.Queue[dict[str, Any]]] = {}
        self._number = 0
        self.notifications: list[dict[str, Any]] = []
        self.unasked: queue.Queue[dict[str, Any]] = queue.Queue()
        """Answers to no request of ours."""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def send(self, message: Any) -> None:
        self.send_bytes(json.dumps(message).encode())

    def send_bytes(self, body: bytes) -> None:
        self._outgoing.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
        self._outgoing.flush()

    def notify(self, method: str, params: Any = None) -> None:
        self.send({"jsonrpc": "2.0", "method": method, "params": params})

    def ask(self, method: str, params: Any = None) -> int:
        """Without waiting; the number of the request."""
        self._number += 1
        self._answers[self._number] = queue.Queue()
        self.send({"jsonrpc": "2.0", "id": self._number, "method": method, "params": params})
        return self._number

    def answer(self, number: int, timeout_s: float = 30) -> Any:
        message = self._answers[number].get(timeout=timeout_s)
        if "error" in message:
            raise RpcError(message["error"])
        return message["result"]

    def request(self, method: str, params: Any = None) -> Any:
        return self.answer(self.ask(method, params))

    def wait(self) -> None:
        """Until everything sent before was handled: messages are handled in their order."""
        with contextlib.suppress(RpcError):
            self.request("apprentice/nothing")

    def _read(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            while header := self._incoming.readline():
                length = int(header.split(b":")[1])
                while self._incoming.readline().strip():
                    pass
                message = json.loads(self._incoming.read(length))
                if "method" in message:
                    self.notifications.append(message)
                elif message.get("id") in self._answers:
                    self._answers[message["id"]].put(message)
                else:
                    self.unasked.put(message)


@dataclass
class Buffer:
    """A document in the editor: what is typed here is told to the server, in UTF-16."""

    client: Client
    uri: str
    text: str
    version: int = 1
    encoding: str = "utf-16"

    def open(self) -> Buffer:
        item = {"uri": self.uri, "languageId": "python", "version": self.version, "text": self.text}
        self.client.notify("textDocument/didOpen", {"textDocument": item})
        return self

    def position(self, at: int) -> dict[str, int]:
        """Of a character's number in the text."""
        before = self.text[:at]
        line = before[before.rfind("\n") + 1 :]
        widths = {"utf-8": ("utf-8", 1), "utf-16": ("utf-16-le", 2), "utf-32": ("utf-32-le", 4)}
        encoding, width = widths[self.encoding]
        return {"line": before.count("\n"), "character": len(line.encode(encoding, "surrogatepass")) // width}

    def replace(self, start: int, end: int, text: str) -> None:
        span = {"start": self.position(start), "end": self.position(end)}
        self.text = self.text[:start] + text + self.text[end:]
        self.version += 1
        self._changed([{"range": span, "text": text}])

    def set(self, text: str) -> None:
        """All of it, as simple clients do."""
        self.text = text
        self.version += 1
        self._changed([{"text": text}])

    def type(self, at: int, text: str) -> None:
        """A letter at a time."""
        for number, character in enumerate(text):
            self.replace(at + number, at + number, character)

    def _changed(self, changes: list[dict[str, Any]]) -> None:
        document = {"uri": self.uri, "version": self.version}
        self.client.notify("textDocument/didChange", {"textDocument": document, "contentChanges": changes})

    def save(self) -> None:
        self.client.notify("textDocument/didSave", {"textDocument": {"uri": self.uri}})

    def close(self) -> None:
        self.client.notify("textDocument/didClose", {"textDocument": {"uri": self.uri}})

    def ask_completion(self, at: int, kind: int = 2, **context: Any) -> int:
        params = {
            "textDocument": {"uri": self.uri}, "position": self.position(at), "context": {"triggerKind": kind, **context},
        }  # fmt: skip
        return self.client.ask("textDocument/inlineCompletion", params)

    def complete(self, at: int, kind: int = 2, **context: Any) -> dict[str, Any] | None:
        """The item, or None where there is none."""
        result = self.client.answer(self.ask_completion(at, kind, **context))
        return result["items"][0] if result and result["items"] else None

    def ask_edit(self, at: int, version: int | None = None) -> int:
        document = {"uri": self.uri, "version": self.version if version is None else version}
        return self.client.ask("textDocument/copilotInlineEdit", {"textDocument": document, "position": self.position(at)})

    def edit(self, at: int) -> dict[str, Any] | None:
        edits = self.client.answer(self.ask_edit(at))["edits"]
        return edits[0] if edits else None

    def put(self, item: dict[str, Any]) -> None:
        """What an editor does that accepts a suggestion, but for its command."""
        start, end = (self.offset(item["range"][name]) for name in ("start", "end"))
        self.replace(start, end, item.get("insertText", item.get("text")))

    def accept(self, item: dict[str, Any]) -> None:
        self.put(item)
        command = item["command"]
        self.client.request("workspace/executeCommand", {"command": command["command"], "arguments": command["arguments"]})

    def offset(self, position: dict[str, int]) -> int:
        lines = self.text.split("\n")
        at = sum(len(line) + 1 for line in lines[: position["line"]])
        line = lines[position["line"]] if position["line"] < len(lines) else ""
        for number in range(len(line) + 1):
            if self.position(at + number)["character"] == position["character"]:
                return at + number
        raise AssertionError(position)


@dataclass
class Talk:
    """A client, the server's other ends, and what the model was asked."""

    client: Client
    generator: Any
    recorder: Recorder | None
    root: Path
    slot: AssistantSlot
    remembered: list[Any] = field(default_factory=list)

    def buffer(self, text: str, name: str = "a.py", **options: Any) -> Buffer:
        return Buffer(self.client, (self.root / name).as_uri(), text, **options).open()

    @property
    def prompts(self) -> list[str]:
        return [TOKENIZER.decode(request.prompt_ids) for request in self.generator.requests]

    @property
    def recorded(self) -> list[dict[str, Any]]:
        """Events on the disk, without the header."""
        self.client.wait()
        files = sorted(self.recorder.folder.glob("*.jsonl")) if self.recorder else []
        return [json.loads(line) for file in files for line in file.read_text().splitlines()[1:]]

    @property
    def outcomes(self) -> list[tuple[str, str]]:
        """(first new line, outcome) of each suggestion on the disk."""
        return [(event["edit"]["new"][0], event["outcome"]) for event in self.recorded if event["type"] == "suggestion"]


def replies(lines: dict[str, str | None] | Callable[[str], str | None]) -> Callable[[Request], str]:
    """Goes on at a line by what stands on it; a line is replaced by what it becomes (None: by nothing), others stay."""

    def reply(request: Request) -> str:
        prompt = TOKENIZER.decode(request.prompt_ids)
        find = re.search(r"<<<<<<< before\n([^\n]*\n)?=======\Z", prompt)
        line = (find[1] or "").rstrip("\n") if find else prompt.rsplit("\n", 1)[-1]
        said = lines(line) if callable(lines) else lines.get(line, line if find else "")
        if find:
            return target_text([] if said is None else said.split("\n"))
        return said or ""

    return reply


class Waiting:
    """A generator that says a token when it is let."""

    def __init__(self, inner: Generator) -> None:
        self.inner = inner
        self.begun = threading.Semaphore(0)
        self.let = threading.Semaphore(0)
        self.cancelled = 0

    @property
    def requests(self) -> list[Request]:
        return self.inner.requests  # pyrefly: ignore[missing-attribute]

    def generate(self, requests: Sequence[Request], *, on_token: Callable[[int, int, str], bool] | None = None) -> list[Sample]:
        def slowly(index: int, token_id: int, text: str) -> bool:
            assert self.let.acquire(timeout=30)
            return on_token is None or on_token(index, token_id, text)

        self.begun.release()
        samples = self.inner.generate(requests, on_token=slowly)
        self.cancelled += sum(sample.finish_reason == "cancelled" for sample in samples)
        return samples

    def score(self, *arguments: Any, **options: Any) -> list[Score]:
        return self.inner.score(*arguments, **options)


Start = Callable[..., Talk]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts servers in this process, in a repository; they end with the test."""
    root = tmp_path / "project"
    (root / ".git").mkdir(parents=True)
    ending: list[tuple[Client, threading.Thread, list[BinaryIO]]] = []

    def begin(
        generator: Any = "", *, record: bool = False, shows: bool = True, encodings: Sequence[str] | None = None,
        initialize: bool = True, scanner: Any = None, uncommitted: Any = None, log_prob: float = -0.01,
        rejected: Sequence[Sequence[Edit]] = (),
    ) -> Talk:  # fmt: skip
        if isinstance(generator, dict) or (callable(generator) and not hasattr(generator, "generate")):
            generator = replies(generator)
        if not hasattr(generator, "generate"):
            generator = ScriptedGenerator(TOKENIZER, generator if callable(generator) else [generator], log_prob=log_prob)
        recorder = None
        if record:
            recorder = Recorder(root / ".apprentice" / "recorded", root, scanner or Redactor(), repository="project")
        remembered: list[Any] = []
        suggester = Suggester(generator, TOKENIZER, decision=None if shows else Decision.default(), show_from=1.0)
        slot = AssistantSlot(Assistant(name="scripted", suggester=suggester, remember=lambda edits: remembered.append(edits) if edits else None))
        to_server, from_client = os.pipe()
        to_client, from_server = os.pipe()
        stdin, stdout = os.fdopen(to_server, "rb"), os.fdopen(from_server, "wb")
        thread = threading.Thread(
            target=language_server.serve, args=(slot, stdin, stdout), daemon=True,
            kwargs={"recorder": recorder, "uncommitted": uncommitted, "rejected": rejected},
        )  # fmt: skip
        thread.start()
        incoming, outgoing = os.fdopen(to_client, "rb"), os.fdopen(from_client, "wb")
        client = Client(incoming, outgoing)
        ending.append((client, thread, [outgoing, stdin, stdout, incoming]))
        if initialize:
            greet(client, root, encodings)
        return Talk(client, generator, recorder, root, slot, remembered)

    yield begin
    for client, thread, streams in ending:
        with contextlib.suppress(OSError, ValueError):
            client.ask("shutdown")
            client.notify("exit")
        thread.join(20)
        assert not thread.is_alive()
        for stream in streams:
            stream.close()


def greet(client: Client, root: Path, encodings: Sequence[str] | None = None) -> dict[str, Any]:
    """What the server says it can do."""
    general = {} if encodings is None else {"general": {"positionEncodings": list(encodings)}}
    params = {"processId": None, "rootUri": root.as_uri(), "capabilities": general}
    result = client.request("initialize", params)
    client.notify("initialized", {})
    return result


@contextlib.contextmanager
def command(words: Sequence[str], folder: Path, environment: dict[str, str] | None = None) -> Iterator[tuple[Client, subprocess.Popen[bytes]]]:
    """The command in a process of its own."""
    with subprocess.Popen(
        list(words), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=folder, env=environment
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        client = Client(process.stdout, process.stdin)  # pyrefly: ignore[bad-argument-type]
        try:
            yield client, process
        finally:
            process.kill()

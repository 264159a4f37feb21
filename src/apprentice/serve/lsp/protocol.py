"""What goes over the wire besides LSP 3.18, and what happens to messages that are none.

Next edits have no standard. What copilot-language-server offers is what editors' plugins speak, as its README describes it
(github.com/github/copilot-language-server-release, release 1.534) and as its clients do it (folke/sidekick.nvim,
copilotlsp-nvim/copilot-lsp, copilot-emacs/copilot.el, zed-industries/zed):

    textDocument/copilotInlineEdit                  {textDocument: {uri, version}, position} -> {edits: [{text, range, textDocument, command}]}
    textDocument/didShowCompletion                  {item}                  a completion was shown
    textDocument/didShowInlineEdit                  {item: {command}}       an edit was shown
    textDocument/didPartiallyAcceptCompletion       {item, acceptedLength}  UTF-16 units from the beginning of its text
    workspace/executeCommand                        {command, arguments: [id]}  it was accepted; some clients send it as a notification

pygls leaves a request that it cannot read without an answer, and tells the developer of every such message in a window. Here
the client gets the error, and the log a line without contents.
"""

from __future__ import annotations

import json
import logging
from typing import Annotated, Any

import msgspec
from lsprotocol import converters, types
from pygls.exceptions import JsonRpcException, JsonRpcInvalidParams, JsonRpcInvalidRequest, JsonRpcParseError
from pygls.lsp.server import LanguageServer
from pygls.protocol import JsonRPCNotification, JsonRPCRequestMessage, LanguageServerProtocol

INLINE_EDIT = "textDocument/copilotInlineEdit"
DID_SHOW_COMPLETION = "textDocument/didShowCompletion"
DID_SHOW_INLINE_EDIT = "textDocument/didShowInlineEdit"
DID_PARTIALLY_ACCEPT = "textDocument/didPartiallyAcceptCompletion"
DID_FOCUS = "textDocument/didFocus"
ACCEPT = "apprentice.acceptSuggestion"
REJECT = "apprentice.rejectSuggestion"

log = logging.getLogger("apprentice.serve")

Unsigned = Annotated[int, msgspec.Meta(ge=0)]


class _Params(msgspec.Struct, frozen=True, rename="camel"):
    pass


class VersionedDocument(_Params, frozen=True):
    """Which document, as the client has it."""

    uri: str
    version: int | None = None


class Position(_Params, frozen=True):
    """In units of the encoding that was agreed on."""

    line: Unsigned
    character: Unsigned


class InlineEditParams(_Params, frozen=True):
    """What is asked for a next edit."""

    text_document: VersionedDocument
    position: Position


class ItemCommand(_Params, frozen=True):
    """Of a suggestion: its first argument is the suggestion's id."""

    arguments: list[Any] = []


class Item(_Params, frozen=True):
    """A suggestion as the client gives it back."""

    command: ItemCommand | None = None

    @property
    def id(self) -> str:
        arguments = self.command.arguments if self.command is not None else []
        return str(arguments[0]) if arguments else ""


class ShownParams(_Params, frozen=True):
    """A suggestion is shown."""

    item: Item


class PartlyAcceptedParams(_Params, frozen=True):
    """A part of a suggestion was put in."""

    item: Item
    accepted_length: Unsigned


def read(params: Any, params_type: type[Any]) -> Any:
    """Parameters in their type. Raises: JsonRpcInvalidParams."""
    try:
        return msgspec.convert(params, params_type)
    except msgspec.ValidationError as error:
        raise JsonRpcInvalidParams(f"Invalid Params: {error}") from None


class Protocol(LanguageServerProtocol):
    """pygls' protocol, which answers what it cannot read."""

    def structure_message(self, data: dict[str, Any]) -> Any:
        # Every object of a message comes by here, the innermost first.
        if "jsonrpc" not in data or not data.keys() & {"method", "result", "error"}:
            return data
        method, id = data.get("method"), data.get("id")
        if not isinstance(id, str | int | None):
            # pygls would look it up among its requests, which ends the server.
            raise JsonRpcInvalidRequest
        try:
            if method == types.WORKSPACE_EXECUTE_COMMAND and id is None:
                params = self._converter.structure(data.get("params"), types.ExecuteCommandParams)
                return JsonRPCNotification(method, data["jsonrpc"], params)
            message = super().structure_message(data)
        except Exception as error:  # noqa: BLE001 - whatever a converter makes of it
            if isinstance(method, str) and isinstance(id, str | int):
                self._send_response(id, error=JsonRpcInvalidParams().to_response_error())
            raise error if isinstance(error, JsonRpcException) else JsonRpcInvalidParams() from error
        if isinstance(message, types.InitializeRequest):
            _prefer_utf_16(message.params.capabilities.general)
        return message


def _prefer_utf_16(general: types.GeneralClientCapabilities | None) -> None:
    """Every client knows it, and some plugins of clients that also know others count in nothing else."""
    if general is not None and types.PositionEncodingKind.Utf16 in (general.position_encodings or ()):
        general.position_encodings = [types.PositionEncodingKind.Utf16]


class Server(LanguageServer):
    """pygls' server without its windows."""

    def __init__(self, name: str, version: str) -> None:
        super().__init__(name, version, protocol_cls=Protocol, converter_factory=_converter)

    def report_server_error(self, error: Exception, source: Any) -> None:
        """Into the log, without contents; what was no JSON is answered as JSON-RPC says."""
        log.error("a message could not be handled: %s", type(error).__name__)
        if isinstance(error, json.JSONDecodeError | UnicodeDecodeError):
            self.protocol._send_response(None, error=JsonRpcParseError().to_response_error())  # pyrefly: ignore[bad-argument-type]


def _converter() -> Any:
    """lsprotocol's; messages that it does not know keep their parameters as they came."""
    converter = converters.get_converter()
    for kind in (JsonRPCRequestMessage, JsonRPCNotification):
        converter.register_structure_hook(kind, _as_it_came)
    return converter


def _as_it_came(data: dict[str, Any], kind: Any) -> Any:
    fields = {"method": data["method"], "jsonrpc": data["jsonrpc"], "params": data.get("params")}
    return kind(id=data["id"], **fields) if kind is JsonRPCRequestMessage else kind(**fields)

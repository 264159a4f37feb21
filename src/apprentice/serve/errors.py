"""Errors as OpenAI's API gives them: a status and {"error": {"message", "type", "param", "code"}}."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse

from apprentice.core.errors import UserError


class ApiError(Exception):
    """Something to tell the client."""

    def __init__(self, status: int, message: str, *, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param

    def body(self) -> dict[str, Any]:
        kind = "server_error" if self.status >= 500 else _TYPES.get(self.status, "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        headers = {"retry-after": "1"} if self.status in (429, 503) else None
        return JSONResponse(self.body(), self.status, headers)


_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


def unsupported(param: str, message: str) -> ApiError:
    """A field of OpenAI's API that this server knows and does not have."""
    return ApiError(400, message, code="unsupported_parameter", param=param)


def from_exception(error: BaseException) -> ApiError:
    """What a client may know of an error: the user's mistakes in full, ours not at all."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, UserError):
        return ApiError(400, error.message if error.hint is None else f"{error.message} ({error.hint})")
    return ApiError(500, "the server made a mistake; its log says which")

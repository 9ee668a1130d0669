"""Errors of the client."""

from __future__ import annotations

from typing import Optional, Union


class ClientError(Exception):
    """A refusal or a failure.

    `code` is a word of the server or of this client, or the number of a close frame, `status` that of an HTTP answer.
    With `fatal` the client has given up.
    """

    def __init__(
        self,
        code: Union[int, str],
        message: str = "",
        *,
        status: Optional[int] = None,
        id: Optional[int] = None,  # pylint: disable=redefined-builtin
        fatal: bool = False,
    ) -> None:
        super().__init__(message or f"closed with {code}")
        self.code = code
        self.status = status
        self.id = id
        self.fatal = fatal


class RequestRefused(ClientError):
    """The server refused a request; the connection goes on."""


class GaveUp(ClientError):
    """The client does not come back. `fatal` is true."""


class Closed(ClientError):
    """The client or the subscription was closed by the program itself."""

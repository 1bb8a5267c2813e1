"""Retries of what a storage service refused for a moment, and errors that say what it refused for good."""

from __future__ import annotations

import errno
import random
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from http.client import HTTPException
from typing import TypeVar

from amodal_diffusion.basics import InputError
from amodal_diffusion.io.urls import Location, is_url, public_name, redacted

PAUSES = (1.0, 3.0, 9.0)
"""Seconds before the retries of a transient error; each varies by a quarter, so that workers do not ask in step."""

_jitter = random.Random()  # its own, so that the order of training data does not depend on the network
_TRANSIENT_STATUS = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
_TRANSIENT_ERRNO = frozenset({errno.EBUSY, errno.ECONNRESET, errno.ECONNABORTED, errno.ECONNREFUSED, errno.EPIPE})
_TRANSIENT_NAMES = frozenset(  # of libraries that are not imported here, by the names of their classes
    {
        "ClientConnectionError", "ClientPayloadError", "ConnectionError", "FSTimeoutError", "HTTPClientError",
        "IncompleteRead", "ResponseParserError", "ServerTimeoutError", "ServiceRequestError", "ServiceResponseError",
        "TransportError",
    }
)  # fmt: skip
_BAD_CERTIFICATE = "CERTIFICATE_VERIFY_FAILED"
_LIBRARIES = frozenset({"adlfs", "aiobotocore", "aiohttp", "azure", "botocore", "fsspec", "gcsfs", "google", "s3fs"})

T = TypeVar("T")


class MissingError(InputError):
    """There is no such object, or it may not be seen.

    Attributes:
        forbidden: whether the service refused access.
    """

    def __init__(self, message: str, *, forbidden: bool = False) -> None:
        super().__init__(message)
        self.forbidden = forbidden


class UnavailableError(InputError):
    """The service did not answer, or answered with an error of its own, after all retries."""


def attempt(action: Callable[[], T], location: Location, *, verb: str = "read") -> T:
    """Do something; after a transient error do it again, three times at most, after growing pauses.

    Args:
        action: may be called four times.
        location: that it works on, for the error.
        verb: what cannot be done to the location if it fails.

    Raises:
        MissingError: if there is no such object or access is forbidden.
        UnavailableError: if the error is still transient after three retries.
        InputError: after any other error of a file, a connection or a service.
    """
    for pause in (*PAUSES, None):
        try:
            return action()
        except InputError:
            raise
        except Exception as error:  # the libraries of a filesystem have errors of no common class
            if not _of_storage(error):
                raise
            if pause is None or not is_transient(error):
                raise explained(error, location, verb) from None  # its text may hold what a URL hides
        time.sleep(pause * _jitter.uniform(0.75, 1.25))
    raise AssertionError


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and what it came from."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        reason = getattr(seen, "reason", None)  # URLError
        seen = reason if isinstance(reason, BaseException) else seen.__cause__


def _of_storage(error: Exception) -> bool:
    """Whether an error is one of a file, a connection or a service, not of this program."""
    return isinstance(error, OSError | HTTPException) or type(error).__module__.partition(".")[0] in _LIBRARIES


def status_of(error: BaseException) -> int | None:
    """HTTP status that an error reports; None for none."""
    for cause in _causes(error):
        answer = getattr(cause, "response", None)  # botocore
        values = [answer.get("ResponseMetadata", {}).get("HTTPStatusCode")] if isinstance(answer, Mapping) else []
        for value in (*values, *(getattr(cause, name, None) for name in ("status", "status_code", "code"))):
            if isinstance(value, int) and 300 <= value < 600:
                return value
    return None


def is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed a little later: a server error, throttling or a cut connection."""
    causes = list(_causes(error))
    if any(_BAD_CERTIFICATE in str(cause) for cause in causes):
        return False
    if any({kind.__name__ for kind in type(cause).__mro__} & _TRANSIENT_NAMES for cause in causes):
        return True  # before the status, which aiohttp makes up for a cut connection
    status = status_of(error)
    if status is not None:
        return status in _TRANSIENT_STATUS
    return any(
        isinstance(cause, ConnectionError | TimeoutError | HTTPException | socket.gaierror)
        or (isinstance(cause, OSError) and cause.errno in _TRANSIENT_ERRNO)
        for cause in causes
    )


def explained(error: Exception, location: Location, verb: str) -> InputError:
    """The error that a user sees; it holds nothing that a URL hides."""
    name, status = public_name(location), status_of(error)
    if isinstance(error, FileNotFoundError) or status == 404:
        return MissingError(f"{name}: there is no such {'bucket or folder' if verb == 'written' else 'file or object'}")
    if status in (401, 403) or (isinstance(error, PermissionError) and is_url(location)):
        return MissingError(f"{name}: access is forbidden; check the name and the credentials", forbidden=True)
    text = (error.strerror if isinstance(error, OSError) else None) or f"{error}" or type(error).__name__
    reason = " ".join(redacted(text, location).split())
    if is_transient(error):
        return UnavailableError(f"{name}: cannot be {verb} after {len(PAUSES)} retries ({reason})")
    return InputError(f"{name}: cannot be {verb} ({reason})")

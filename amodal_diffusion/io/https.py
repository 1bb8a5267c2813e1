"""Reading over https, with a check of each redirect before it is followed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPMessage, HTTPResponse, IncompleteRead
from typing import IO
from urllib.parse import urljoin
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

from amodal_diffusion.basics import InputError
from amodal_diffusion.io.urls import UrlPolicy, host_of, public_name

TIMEOUT = 60.0
"""Seconds without a byte after which a connection counts as cut."""
_CHUNK = 1 << 20
_TOTAL = re.compile(r"bytes (?:\d+-\d+|\*)/(?P<total>\d+)")


class _CheckedRedirects(HTTPRedirectHandler):
    """Follows a redirect only where the policy allows it."""

    def __init__(self, policy: UrlPolicy) -> None:
        self._policy = policy

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        """Check the next hop; raise an InputError if it may not be asked."""
        self._policy.check_host(urljoin(req.full_url, newurl))
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def policy_of(url: str) -> UrlPolicy:
    """The policy for a URL that the user typed: its own host, and redirects within it."""
    return UrlPolicy(frozenset({host_of(url)}))


@contextmanager
def _asked(url: str, headers: Mapping[str, str], policy: UrlPolicy | None) -> Iterator[HTTPResponse]:
    """Send a GET request; presigned URLs allow no other."""
    policy = policy or policy_of(url)
    policy.check_host(url)
    opener = build_opener(ProxyHandler(), _CheckedRedirects(policy))
    with opener.open(Request(url.partition("#")[0], headers=dict(headers)), timeout=TIMEOUT) as response:
        yield response


def stat(url: str, policy: UrlPolicy | None = None) -> tuple[int | None, str]:
    """Ask for the size and the version of a file without reading it.

    Args:
        url: the file.
        policy: hosts that may be asked; that of the URL by default.

    Returns:
        size in bytes, None if the server does not tell it; and its ETag, else the time of its last change, else "".
    """
    with _asked(url, {"Range": "bytes=0-0"}, policy) as response:
        version = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
        return _size(response), version


def _size(response: HTTPResponse) -> int | None:
    """Size of the whole file, from the answer to a request with or without a range."""
    if response.status == 206:
        total = _TOTAL.fullmatch(response.headers.get("Content-Range", ""))
        return int(total["total"]) if total else None
    length = response.headers.get("Content-Length")
    return int(length) if length is not None and length.isdecimal() else None


def read(url: str, start: int, length: int, policy: UrlPolicy | None = None) -> bytes:
    """Read a part of a file.

    Args:
        url: the file.
        start: offset of the first byte.
        length: number of bytes.
        policy: hosts that may be asked; that of the URL by default.

    Returns:
        fewer bytes if the file ends before.
    """
    with _asked(url, {"Range": f"bytes={start}-{start + length - 1}"}, policy) as response:
        if response.status != 206:  # the server sends the whole file
            _skip(response, start)
        data = response.read(length)
        if len(data) < length and response.length:  # `read(n)` returns what came before the connection was cut
            raise IncompleteRead(data, length - len(data))
        return data


def _skip(response: HTTPResponse, count: int) -> None:
    while count > 0:
        part = response.read(min(count, _CHUNK))
        if not part:
            return
        count -= len(part)


def save(
    url: str,
    file: IO[bytes],
    limit: int | None = None,
    policy: UrlPolicy | None = None,
    on_progress: Callable[[], None] | None = None,
) -> int:
    """Write a whole file, from the beginning.

    Args:
        url: the file.
        file: open for writing.
        limit: most bytes that are read; None for any number.
        policy: hosts that may be asked; that of the URL by default.
        on_progress: called when a part has arrived.

    Returns:
        number of bytes.

    Raises:
        InputError: if it is larger than the limit.
    """
    count = 0
    with _asked(url, {}, policy) as response:
        while part := response.read(_CHUNK):
            count += len(part)
            if limit is not None and count > limit:
                raise InputError(f"{public_name(url)}: larger than {limit} bytes")
            file.write(part)
            if on_progress is not None:
                on_progress()
        if response.length:
            raise IncompleteRead(b"", response.length)
    return count

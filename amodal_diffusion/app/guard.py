"""ASGI middleware in front of Gradio that isolates visitors' files; a cookie with a secret identifies each browser.

Gradio serves every file of its cache to anyone who requests its path. The guard serves a file only to its owner, and
rejects input that names another visitor's file or an external address.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import unquote

from amodal_diffusion.app.sessions import Sessions

COOKIE = "amodal_visitor"
MAX_EVENT = 4 * 2**20
"""Largest size in bytes of an event that is not an upload."""

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_FILE = re.compile(r"/file[=/](.*)", re.DOTALL)
_ELSEWHERE = re.compile(r"/(proxy=|deep_link)")  # not used by this page
_SECRET = re.compile(r"[\w-]{20,100}")


class Guard:
    """ASGI middleware that serves files only to their owners."""

    def __init__(self, app: App, sessions: Sessions) -> None:
        """Wrap an application.

        Args:
            app: Gradio's application.
            sessions: sessions of all open pages, which decide who may read a file.
        """
        self._app, self._sessions = app, sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle an ASGI connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        visitor, known = visitor_of(scope)
        if not known:
            scope = _with_cookie(scope, visitor)
            send = _setting_cookie(send, visitor)
        path, method = scope["path"], scope["method"]
        file = _FILE.search(path)
        if _ELSEWHERE.search(path) or (file and not self._sessions.may_read(visitor, file[1])):
            await _refuse(send, 403, "not yours, or not there")
        elif method == "POST" and path.endswith("/upload"):
            await self._upload(scope, receive, send, visitor)
        elif method == "POST" and not _header(scope, b"content-type").startswith("multipart/form-data"):
            await self._event(scope, receive, send, visitor)
        else:
            await self._app(scope, receive, send)

    async def _upload(self, scope: Scope, receive: Receive, send: Send, visitor: str) -> None:
        """Forward an upload, and grant its files to the visitor before the browser receives their paths."""
        started: Message = {}
        body = b""

        async def listen(message: Message) -> None:
            nonlocal started, body
            if message["type"] == "http.response.start":
                started = message
                return
            body += message.get("body", b"")
            if message.get("more_body"):
                return
            if started["status"] == 200:
                self._sessions.grant(visitor, json.loads(body))
            await send(started)
            await send({"type": "http.response.body", "body": body})

        await self._app(scope, receive, listen)

    async def _event(self, scope: Scope, receive: Receive, send: Send, visitor: str) -> None:
        """Forward an event if the visitor may read all files that it names."""
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > MAX_EVENT:
                await _refuse(send, 413, f"more than {MAX_EVENT} bytes")
                return
        try:
            named = list(_paths(json.loads(body or b"null")))
        except (ValueError, RecursionError):
            await _refuse(send, 400, "not JSON")
            return
        if not all(self._sessions.may_read(visitor, path) for path in named):
            await _refuse(send, 403, "names a file that is not yours")
            return
        passed = False

        async def replay() -> Message:
            nonlocal passed
            if passed:
                return await receive()
            passed = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, replay, send)


def visitor_of(scope: Scope) -> tuple[str, bool]:
    """The secret of a browser, and whether the browser sent it; a new secret if it sent none or an invalid one.

    Args:
        scope: ASGI scope of the connection.
    """
    try:
        cookie = SimpleCookie(_header(scope, b"cookie")).get(COOKIE)
    except CookieError:
        cookie = None
    if cookie is not None and _SECRET.fullmatch(cookie.value):
        return cookie.value, True
    return secrets.token_urlsafe(24), False


def _paths(value: object) -> Iterator[str]:
    """All values that Gradio interprets as file paths, at any nesting depth."""
    if isinstance(value, dict):
        for key, entry in value.items():
            if key in ("path", "url") and isinstance(entry, str):
                served = _FILE.search(entry)
                yield unquote(served[1]) if served else entry
            else:
                yield from _paths(entry)
    elif isinstance(value, list):
        for entry in value:
            yield from _paths(entry)


def _header(scope: Scope, name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), "")


def _with_cookie(scope: Scope, visitor: str) -> Scope:
    """The scope with the new secret as its cookie, as if the browser had sent it."""
    others = [(key, value) for key, value in scope["headers"] if key != b"cookie"]
    return {**scope, "headers": [*others, (b"cookie", f"{COOKIE}={visitor}".encode())]}


def _setting_cookie(send: Send, visitor: str) -> Send:
    async def wrapped(message: Message) -> None:
        if message["type"] == "http.response.start":
            cookie = f"{COOKIE}={visitor}; Path=/; HttpOnly; SameSite=Strict"
            message = {**message, "headers": [*message.get("headers", []), (b"set-cookie", cookie.encode())]}
        await send(message)

    return wrapped


async def _refuse(send: Send, status: int, text: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode()})

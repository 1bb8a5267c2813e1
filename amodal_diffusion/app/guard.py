"""ASGI middleware in front of Gradio that isolates visitors' files; a cookie with a secret identifies each browser.

Gradio serves every file of its cache to anyone who requests its path. The guard serves a file only to its owner, and
rejects input that names another visitor's file or an external address. Where the page has a login, only the login form
is open without it: Gradio leaves some routes open. The guard also rejects requests that another site's page sends,
uploads for which there is no room, and host names that are not this server's.
"""

from __future__ import annotations

import ipaddress
import json
import re
import secrets
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from anyio import to_thread
from starlette.requests import ClientDisconnect, cookie_parser

from amodal_diffusion.app.sessions import MIB, Sessions
from amodal_diffusion.basics import InputError

COOKIE = "amodal_visitor"
MAX_EVENT = 4 * MIB
"""Largest size in bytes of an event that is not an upload."""

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_FILE = re.compile(r"/file[=/](.*)", re.DOTALL)
_ELSEWHERE = re.compile(r"/(proxy=|deep_link)")  # not used by this page
_SECRET = re.compile(r"[\w-]{20,100}")
_FORM = re.compile(r"/(theme\.css|favicon\.ico|robots\.txt|manifest\.json|(assets|static|svelte)/.*)?")
_STARTED = "/gradio_api/startup-events"  # which Gradio itself asks for when the server begins
_UPLOAD = "/gradio_api/upload"
_MAX_LOGIN = 2**16
_HEADERS = 2**16  # bytes of an upload beside its files
_READING = ("GET", "HEAD", "OPTIONS")


@dataclass(frozen=True)
class Access:
    """Who may use the page.

    Attributes:
        user_of: the user who is logged in on a connection, or None; None where the page has no login.
        hosts: names by which browsers may reach the server, beside addresses and ``localhost``; None for any.
        upload_bytes: largest upload.
    """

    user_of: Callable[[Scope], str | None] | None = None
    hosts: frozenset[str] | None = None
    upload_bytes: int = 500 * MIB

    def refusal(self, scope: Scope) -> tuple[int, str] | None:
        """Status and text of the answer to a connection that is not let in; None for one that is.

        Args:
            scope: ASGI's, of the connection.
        """
        if not self._knows_host(_header(scope, b"host")):
            return 403, "this page serves this computer alone; behind a proxy start it with --allowed-hosts NAME"
        if self._from_elsewhere(scope):
            return 403, "sent by the page of another site"
        if self.user_of is not None and self.user_of(scope) is None and not _is_login(scope):
            return 401, "log in first"
        return None

    def _knows_host(self, host: str) -> bool:
        """An address cannot be a foreign site's name that was made to point to this computer."""
        name = _name(host)
        return self.hosts is None or name in ("", "localhost") or name in self.hosts or _is_address(name)

    def _from_elsewhere(self, scope: Scope) -> bool:
        """Whether another site's page sent the request; browsers tell, other programs have nobody's cookies."""
        origin, site = _header(scope, b"origin"), _header(scope, b"sec-fetch-site")
        if site:  # which no script can set, and which also holds where a proxy changes the name of the host
            return site not in ("same-origin", "none") and bool(origin or scope["method"] not in _READING)
        if not origin:
            return False
        try:
            place = urlsplit(origin).netloc.lower()
        except ValueError:
            return True
        known = {_header(scope, name).lower() for name in (b"host", b"x-forwarded-host")}
        return not place or (place not in known and _name(place) not in (self.hosts or ()))  # none: a file, a sandbox


class Guard:
    """ASGI middleware that serves files only to their owners."""

    def __init__(self, app: App, sessions: Sessions, *, access: Access | None = None) -> None:
        """Wrap an application.

        Args:
            app: Gradio's application.
            sessions: sessions of all open pages, which decide who may read a file.
            access: who may use the page.
        """
        self._app, self._sessions, self._access = app, sessions, access or Access()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle an ASGI connection."""
        if scope["type"] == "websocket":  # Gradio has none
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = self._access.refusal(scope)
        if refusal is not None:
            await _refuse(send, *refusal)
            return
        secret, known = visitor_of(scope)
        if not known:
            scope = _with_cookie(scope, secret)
            send = _setting_cookie(send, secret)
        visitor = owner(secret, self._access.user_of(scope) if self._access.user_of else None)
        await self._serve(scope, receive, send, visitor)

    async def _serve(self, scope: Scope, receive: Receive, send: Send, visitor: str) -> None:
        path, method = scope["path"], scope["method"]
        file = _FILE.search(path)
        multipart = _header(scope, b"content-type").startswith("multipart/form-data")
        if _ELSEWHERE.search(path) or (file and not self._sessions.may_read(visitor, file[1])):
            await _refuse(send, 403, "not yours, or not there")
        elif method in _READING:
            await self._app(scope, receive, send)
        elif multipart and path.rstrip("/") == _UPLOAD:
            await self._upload(scope, receive, send, visitor)
        elif path.rstrip("/") == "/login":
            await self._pass(scope, receive, send, most=_MAX_LOGIN)
        elif multipart:
            await _refuse(send, 415, "not taken here")
        else:
            await self._event(scope, receive, send, visitor)

    async def _pass(self, scope: Scope, receive: Receive, send: Send, *, most: int) -> None:
        """Pass a request on that is read while it comes in; refuse it once it has more bytes than allowed."""
        found, begun = 0, False

        async def counted() -> Message:
            nonlocal found
            message = await receive()
            found += len(message.get("body", b""))
            if found > most:
                raise _TooLargeError
            return message

        async def noted(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            if int(_header(scope, b"content-length") or 0) > most:
                raise _TooLargeError
            await self._app(scope, counted, noted)
        except (_TooLargeError, ClientDisconnect):
            if not begun:
                await _refuse(send, 413, f"exceeds the maximum allowed size of {most} bytes")

    async def _upload(self, scope: Scope, receive: Receive, send: Send, visitor: str) -> None:
        """Pass an upload on if there is room, and grant its files before the browser learns their paths."""
        most = self._access.upload_bytes + _HEADERS
        size = min(int(_header(scope, b"content-length") or most), most)
        try:
            await to_thread.run_sync(self._sessions.reserve, visitor, size)
        except InputError as error:
            await _refuse(send, 413, str(error))
            return
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
                self._sessions.grant(visitor, _uploaded(body))
            await send(started)
            await send({"type": "http.response.body", "body": body})

        try:
            await self._pass(scope, receive, listen, most=most)
        finally:
            self._sessions.release(visitor, size)

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


class _TooLargeError(Exception):
    """A request has more bytes than allowed."""


def owner(secret: str, user: str | None) -> str:
    """Whose files they are: a browser's, and in it a user's, so that users of one browser see their own alone.

    Args:
        secret: the browser's.
        user: who is logged in, if anyone.
    """
    return secret if user is None else f"{secret}/{user}"


def visitor_of(scope: Scope) -> tuple[str, bool]:
    """The secret of a browser, and whether the browser sent it; a new secret if it sent none or an invalid one.

    Args:
        scope: ASGI scope of the connection.
    """
    secret = cookie_parser(_header(scope, b"cookie")).get(COOKIE, "")  # as Gradio does: others may set any cookies
    if _SECRET.fullmatch(secret):
        return secret, True
    return secrets.token_urlsafe(24), False


def _uploaded(body: bytes) -> list[str]:
    """Paths of the files that Gradio says it has received."""
    found = json.loads(body)
    return [path for path in found if isinstance(path, str)] if isinstance(found, list) else []


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


def _is_login(scope: Scope) -> bool:
    """Whether a request is for the form of the login, or is the form."""
    path = scope["path"]
    if scope["method"] == "POST":
        return path in ("/login", "/login/")
    return scope["method"] in _READING and (path == _STARTED or _FORM.fullmatch(path) is not None)


def _name(host: str) -> str:
    """Name or address of a host without its port, in lower case."""
    name = host[: host.index("]") + 1] if host.startswith("[") and "]" in host else host.partition(":")[0]
    return name.strip("[]").lower().rstrip(".")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _header(scope: Scope, name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), "")


def _with_cookie(scope: Scope, visitor: str) -> Scope:
    """The scope with the new secret as its cookie, as if the browser had sent it."""
    others = [(key, value) for key, value in scope["headers"] if key != b"cookie"]
    cookies = "; ".join(filter(None, [_header(scope, b"cookie"), f"{COOKIE}={visitor}"]))  # the last of a name counts
    return {**scope, "headers": [*others, (b"cookie", cookies.encode("latin-1"))]}


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

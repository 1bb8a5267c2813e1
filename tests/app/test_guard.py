"""No visitor reads or names another's file: the requests that Gradio's routes see, and those that they do not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from amodal_diffusion.app.guard import COOKIE, MAX_EVENT, Access, Guard
from amodal_diffusion.app.sessions import Quota, Sessions

ANN, BOB = "a" * 32, "b" * 32


class Behind:
    """Stands where Gradio does: notes what gets through, and answers."""

    def __init__(self, answer: object = None) -> None:
        self.seen: list[tuple[str, bytes, dict[bytes, bytes]]] = []
        self._answer = json.dumps(answer).encode()

    async def __call__(self, scope: Any, receive: Callable, send: Callable) -> None:
        body = b""
        if scope["method"] == "POST":
            body = (await receive())["body"]
        self.seen.append((scope["path"], body, dict(scope["headers"])))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": self._answer[:3], "more_body": True})
        await send({"type": "http.response.body", "body": self._answer[3:]})


def ask(
    guard: Guard,
    path: str,
    visitor: str | None,
    *,
    method: str = "GET",
    body: bytes = b"",
    kind: str = "application/json",
    more: dict[str, str] | None = None,
) -> tuple[int, bytes, dict[bytes, bytes]]:
    """Send a request of two parts; its status, body and headers."""
    headers = [(b"content-type", kind.encode())]
    headers += [(name.encode(), value.encode()) for name, value in (more or {}).items()]
    if visitor is not None:
        headers.append((b"cookie", f"other=1; {COOKIE}={visitor}".encode()))
    scope = {"type": "http", "method": method, "path": path, "headers": headers}
    parts = [
        {"type": "http.request", "body": body[:5], "more_body": True},
        {"type": "http.request", "body": body[5:], "more_body": False},
    ]
    if kind.startswith("multipart"):
        parts = [{"type": "http.request", "body": body, "more_body": False}]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return parts.pop(0)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(guard(scope, receive, send))
    content = b"".join(message.get("body", b"") for message in sent[1:])
    return sent[0]["status"], content, dict(sent[0]["headers"])


@pytest.fixture
def sessions(tmp_path: Path) -> Sessions:
    return Sessions(tmp_path)


@pytest.fixture
def anns(sessions: Sessions) -> Path:
    """A file of Ann's."""
    path = sessions.get(ANN, "page").folder / "frame.png"
    path.write_bytes(b"hers")
    return path


@pytest.mark.parametrize("route", ["/gradio_api/file={}", "/gradio_api/file/{}", "/file={}"])
def test_a_file_is_its_visitors_alone(sessions: Sessions, anns: Path, route: str) -> None:
    behind = Behind()
    guard = Guard(behind, sessions)
    assert ask(guard, route.format(anns), ANN)[0] == 200
    for visitor in (BOB, None):
        assert ask(guard, route.format(anns), visitor)[0] == 403
    assert len(behind.seen) == 1


def test_no_way_around_through_other_names_of_a_file(sessions: Sessions, anns: Path, tmp_path: Path) -> None:
    own = sessions.get(BOB, "page").folder
    (own / "link").symlink_to(anns)
    guard = Guard(Behind(), sessions)
    for path in (f"{own}/../../{anns.relative_to(tmp_path)}", f"{own}/link", f"/{anns}", "/etc/passwd", "\0", ""):
        assert ask(guard, f"/gradio_api/file={path}", BOB)[0] == 403, path


def test_addresses_elsewhere_are_not_fetched(sessions: Sessions) -> None:
    guard = Guard(Behind(), sessions)
    for path in ("/gradio_api/file=http://example.org/a.png", "/gradio_api/proxy=http://example.org/a.png"):
        assert ask(guard, path, ANN)[0] == 403


def event(path: str, key: str = "path") -> bytes:
    return json.dumps({"data": [{"files": [{key: path, "meta": {"_type": "gradio.FileData"}}]}]}).encode()


@pytest.mark.parametrize("kind", ["application/json", "text/plain", ""])
def test_an_event_names_no_file_of_others(sessions: Sessions, anns: Path, kind: str) -> None:
    behind = Behind()
    guard = Guard(behind, sessions)
    assert ask(guard, "/gradio_api/queue/join", BOB, method="POST", body=event(str(anns)), kind=kind)[0] == 403
    url = f"http://127.0.0.1:7860/gradio_api/file={anns}"
    assert ask(guard, "/gradio_api/queue/join", BOB, method="POST", body=event(url, "url"), kind=kind)[0] == 403
    elsewhere = event("http://example.org/a.png")
    assert ask(guard, "/gradio_api/queue/join", BOB, method="POST", body=elsewhere, kind=kind)[0] == 403
    assert not behind.seen
    assert ask(guard, "/gradio_api/queue/join", ANN, method="POST", body=event(url, "url"), kind=kind)[0] == 200
    assert behind.seen[0][1] == event(url, "url")  # whole, though it came in parts


def test_an_event_that_is_no_json_or_too_large_is_refused(sessions: Sessions) -> None:
    guard = Guard(Behind(), sessions)
    assert ask(guard, "/gradio_api/queue/join", ANN, method="POST", body=b"{no")[0] == 400
    assert ask(guard, "/gradio_api/queue/join", ANN, method="POST", body=b"[" * 100000)[0] == 400
    assert ask(guard, "/gradio_api/queue/join", ANN, method="POST", body=bytes(MAX_EVENT + 1))[0] == 413


def test_an_upload_is_whose_browser_sent_it(sessions: Sessions, tmp_path: Path) -> None:
    upload = tmp_path / "0123" / "clip.mp4"
    upload.parent.mkdir()
    upload.write_bytes(b"clip")
    guard = Guard(Behind([str(upload)]), sessions)
    multipart = "multipart/form-data; boundary=x"
    status, body, _ = ask(guard, "/gradio_api/upload", ANN, method="POST", body=b"--x", kind=multipart)
    assert (status, json.loads(body)) == (200, [str(upload)])
    assert ask(guard, f"/gradio_api/file={upload}", ANN)[0] == 200
    assert ask(guard, f"/gradio_api/file={upload}", BOB)[0] == 403


def test_a_new_browser_gets_a_secret_that_scripts_cannot_read(sessions: Sessions) -> None:
    behind = Behind()
    guard = Guard(behind, sessions)
    for shown in (None, "short", 'x"; Path=/'):
        headers = ask(guard, "/", shown)[2]
        cookie = headers[b"set-cookie"].decode()
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert behind.seen[-1][2][b"cookie"].decode().endswith(cookie.partition(";")[0])  # from the first request on
    assert b"set-cookie" not in ask(guard, "/", ANN)[2]
    assert len({entry[2][b"cookie"] for entry in behind.seen[:3]}) == 3


def test_cookies_of_other_programs_on_this_host_change_nothing(sessions: Sessions) -> None:
    """Cookies hold for all ports of a host, and not everyone keeps to the grammar."""
    behind = Behind()
    guard = Guard(behind, sessions)
    shown = '{"theme":"dark","n":2}; flags[x]=1; name; a@b=\xe9; token=of-gradio; ' + f"{COOKIE}={ANN}"
    assert b"set-cookie" not in ask(guard, "/", None, more={"cookie": shown})[2]
    headers = ask(guard, "/", None, more={"cookie": "token=of-gradio; x={}"})[2]
    assert b"set-cookie" in headers
    assert behind.seen[-1][2][b"cookie"].decode().startswith("token=of-gradio; x={}; ")


def test_only_the_upload_itself_is_an_upload(sessions: Sessions, tmp_path: Path) -> None:
    """Gradio runs a handler by any name that its number goes with; the body names files all the same."""
    secret = tmp_path / "secret.png"
    body = json.dumps({"data": [[{"path": str(secret)}]], "fn_index": 3}).encode()
    for path in ("/gradio_api/run/upload", "/gradio_api/api/upload", "/upload"):
        behind = Behind(["answer"])
        assert ask(Guard(behind, sessions), path, ANN, method="POST", body=body)[0] == 403
        assert behind.seen == []


def test_what_is_not_a_list_of_files_below_the_root_is_not_granted(
    sessions: Sessions, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = tmp_path_factory.mktemp("elsewhere") / "other.txt"
    other.write_text("of somebody else")
    for answer in ({"data": [], "duration": 1}, [str(other), 3, None]):
        guard = Guard(Behind(answer), sessions)
        assert (
            ask(guard, "/gradio_api/upload", ANN, method="POST", body=b"x", kind="multipart/form-data; boundary=x")[0]
            == 200
        )
    sessions.get(ANN, "page")
    assert not sessions.may_read(ANN, other)
    sessions.close(ANN, "page")
    assert other.exists()


def test_an_origin_that_is_none_is_refused(sessions: Sessions) -> None:
    assert status(Guard(Behind(), sessions), method="POST", origin="http://[", host="localhost") == 403


def status(guard: Guard, path: str = "/", *, method: str = "GET", **headers: str) -> int:
    """Status of a request of Ann's with some headers; ``_`` stands for ``-``."""
    more = {name.replace("_", "-"): value for name, value in headers.items()}
    return ask(guard, path, ANN, method=method, body=b"null", more=more)[0]


@pytest.mark.parametrize("host", ["localhost", "localhost:7860", "127.0.0.1:7860", "[::1]:7860", "192.168.0.7", ""])
def test_a_page_for_this_computer_alone_is_reached_by_address(sessions: Sessions, host: str) -> None:
    guard = Guard(Behind(), sessions, access=Access(hosts=frozenset()))
    assert status(guard, host=host) == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:7860", "127.0.0.1.evil.example", "localhost.evil.example"]
)
def test_a_name_that_was_made_to_point_here_is_refused(sessions: Sessions, host: str) -> None:
    """DNS rebinding: the browser takes the page for the foreign site's own."""
    behind = Behind()
    assert status(Guard(behind, sessions, access=Access(hosts=frozenset())), host=host) == 403
    assert not behind.seen
    assert status(Guard(behind, sessions, access=Access(hosts=frozenset({"evil.example"}))), host="evil.example") == 200
    assert status(Guard(behind, sessions), host=host) == 200


def test_only_the_pages_own_site_may_send_requests(sessions: Sessions) -> None:
    guard = Guard(Behind(), sessions, access=Access(hosts=frozenset({"page.example"})))
    here = "127.0.0.1:7860"
    for site in ("cross-site", "same-site"):  # a program on another port of this computer is of the same site
        assert status(guard, method="POST", host=here, sec_fetch_site=site) == 403
        assert status(guard, host=here, sec_fetch_site=site) == 200  # a link
        assert status(guard, host=here, sec_fetch_site=site, origin="http://127.0.0.1:3000") == 403  # a script
    for origin in ("http://evil.example", "null", "http://127.0.0.1:3000"):
        assert status(guard, method="POST", host=here, origin=origin) == 403
        assert status(guard, method="OPTIONS", host=here, origin=origin) == 403
    for origin in (f"http://{here}", "https://page.example"):
        assert status(guard, method="POST", host=here, origin=origin) == 200
    behind_a_proxy = {"host": here, "x_forwarded_host": "name.example", "origin": "http://name.example"}
    assert status(guard, method="POST", **behind_a_proxy) == 200
    assert status(guard, method="POST", host=here, sec_fetch_site="same-origin", origin="https://name.example") == 200


def test_without_a_login_only_its_form_is_there(sessions: Sessions, anns: Path) -> None:
    users = {ANN: "ann"}

    def user_of(scope: Any) -> str | None:
        cookie = dict(scope["headers"]).get(b"cookie", b"").decode()
        return users.get(cookie.rpartition("=")[2])

    behind = Behind()
    guard = Guard(behind, sessions, access=Access(user_of=user_of))
    for path in ("/", "/assets/a.js", "/theme.css"):
        assert ask(guard, path, BOB)[0] == 200
    assert (
        ask(guard, "/login", BOB, method="POST", body=b"username=bob", kind="application/x-www-form-urlencoded")[0]
        == 200
    )
    behind.seen.clear()
    for path in ("/config", f"/gradio_api/file={anns}", "/gradio_api/heartbeat/x", "/assets", "//"):
        assert ask(guard, path, BOB)[0] == 401, path
    for path in ("/", "/theme.css", "/gradio_api/upload", "/gradio_api/cancel", "/logout"):
        assert ask(guard, path, BOB, method="POST", body=b"{}")[0] == 401, path
    assert not behind.seen
    assert ask(guard, "/config", ANN)[0] == 200


def test_there_is_no_way_in_by_another_protocol(sessions: Sessions) -> None:
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    behind = Behind()
    asyncio.run(Guard(behind, sessions)({"type": "websocket", "path": "/", "headers": []}, Behind(), send))
    assert [message["type"] for message in sent] == ["websocket.close"]
    assert not behind.seen


def test_an_upload_without_room_is_refused_before_it_comes_in(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path, Quota(session_bytes=1000))
    behind = Behind([])
    guard = Guard(behind, sessions, access=Access(upload_bytes=10**6))
    multipart = "multipart/form-data; boundary=x"
    answer = ask(
        guard, "/gradio_api/upload", ANN, method="POST", body=b"--x", kind=multipart, more={"content-length": "2000"}
    )
    assert answer[0] == 413
    assert b"a visitor" in answer[1]
    assert not behind.seen
    assert (
        ask(
            guard, "/gradio_api/upload", ANN, method="POST", body=b"--x", kind=multipart, more={"content-length": "900"}
        )[0]
        == 200
    )
    assert (
        ask(
            guard, "/gradio_api/upload", ANN, method="POST", body=b"--x", kind=multipart, more={"content-length": "900"}
        )[0]
        == 200
    )

"""The page on its address, over HTTP: files of others, limits, hosts that are asked, and what is left afterwards."""

from __future__ import annotations

import http.client
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from amodal_diffusion.app.completer import PageTask
from amodal_diffusion.app.handlers import wait_for_actions
from amodal_diffusion.app.logins import Logins
from amodal_diffusion.app.materials import Limits
from amodal_diffusion.app.server import Address, Policy, serving
from amodal_diffusion.app.sessions import Quota
from amodal_diffusion.basics import InputError
from amodal_diffusion.cli import main
from tests.app.web import Visitor, error_of, free_port

POLICY = Policy(Limits(megabytes=1, frames=5))
BOUNDARY = "----part"


class Nothing:
    """Completes nothing; these tests look at the server."""

    description = "nothing"
    samples = 1
    methods = ("diffusion",)

    def __call__(self, task: PageTask, on_step: Any) -> None:
        raise AssertionError(f"asked to complete {task}, {on_step}")


@pytest.fixture(scope="module")
def asked() -> Iterator[set[str]]:
    """The hosts that this process asks for, or connects to."""
    hosts: set[str] = set()
    patch = pytest.MonkeyPatch()
    connect, lookup = socket.socket.connect, socket.getaddrinfo

    def noting_connect(self: socket.socket, address: Any) -> None:
        hosts.add(str(address[0]) if isinstance(address, tuple) else "a file")
        connect(self, address)

    def noting_lookup(host: Any, *arguments: Any, **options: Any) -> Any:
        hosts.add(host.decode() if isinstance(host, bytes) else str(host))
        return lookup(host, *arguments, **options)

    patch.setattr(socket.socket, "connect", noting_connect)
    patch.setattr(socket, "getaddrinfo", noting_lookup)
    yield hosts
    patch.undo()


@pytest.fixture(scope="module")
def port(asked: set[str]) -> Iterator[int]:  # noqa: ARG001  # from before the server begins
    chosen = free_port()
    with serving(Nothing(), Address("127.0.0.1", chosen), POLICY) as url:
        assert url == f"http://127.0.0.1:{chosen}/"
        yield chosen


def ask(port: int, method: str, path: str, *, cookie: str = "", body: bytes = b"") -> tuple[int, bytes, str]:
    """Status, body and new cookie."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        headers = {"Cookie": cookie} if cookie else {}
        if body:
            headers["Content-Type"] = f"multipart/form-data; boundary={BOUNDARY}"
        connection.request(method, path, body=body or None, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read(), (answer.getheader("set-cookie") or "").partition(";")[0]


def form(content: bytes) -> bytes:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="files"; filename="clip.png"\r\n'
    return head.encode() + b"Content-Type: image/png\r\n\r\n" + content + f"\r\n--{BOUNDARY}--\r\n".encode()


def test_a_file_that_one_visitor_uploads_is_not_readable_by_another(port: int) -> None:
    ann, bob = (ask(port, "GET", "/")[2] for _ in range(2))
    assert ann != bob
    status, body, _ = ask(port, "POST", "/gradio_api/upload", cookie=ann, body=form(b"hers"))
    assert status == 200
    path = body.decode().strip('[]"')
    assert Path(path).read_bytes() == b"hers"
    assert ask(port, "GET", f"/gradio_api/file={path}", cookie=ann)[:2] == (200, b"hers")
    for cookie in (bob, ""):
        status, body, _ = ask(port, "GET", f"/gradio_api/file={path}", cookie=cookie)
        assert status == 403
        assert b"hers" not in body


def test_an_upload_above_the_limit_is_refused(port: int) -> None:
    cookie = ask(port, "GET", "/")[2]
    status, body, _ = ask(port, "POST", "/gradio_api/upload", cookie=cookie, body=form(bytes(2**20 + 1)))
    assert status == 413
    assert b"maximum allowed size" in body


def test_the_page_needs_nothing_from_elsewhere(port: int, asked: set[str]) -> None:
    status, body, _ = ask(port, "GET", "/")
    assert status == 200
    assert b"Whole objects" in body
    assert not re.search(rb"url\(['\"]?https?:|@import", ask(port, "GET", "/theme.css")[1])
    assert asked <= {"127.0.0.1", "localhost", "::1", "0.0.0.0", "a file", "None"}


def test_a_port_that_is_taken_is_one_line(port: int) -> None:
    with (
        pytest.raises(InputError, match=f"^port: {port} is in use; choose another with --port$"),
        serving(Nothing(), Address("127.0.0.1", port), POLICY),
    ):
        pass


def test_an_open_address_without_a_login_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with serving(Nothing(), Address("0.0.0.0", free_port()), POLICY):
        pass
    assert "everyone who reaches this address can use the page; give --auth-file" in caplog.text
    caplog.clear()
    with serving(Nothing(), Address("0.0.0.0", free_port()), replace(POLICY, logins=Logins({"ann": "x"}))):
        pass
    assert "everyone" not in caplog.text


def test_a_name_that_points_here_does_not_open_the_page(port: int) -> None:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request("GET", "/", headers={"Host": "evil.example"})
        assert connection.getresponse().status == 403


@pytest.mark.slow  # without HTTP: test_sessions.py
def test_idle_pages_are_closed_and_only_so_many_are_open() -> None:
    chosen = free_port()
    quota = Quota(sessions=1, idle_seconds=2)
    with serving(Nothing(), Address("127.0.0.1", chosen), replace(POLICY, quota=quota)) as url:
        ann, bob = Visitor(url), Visitor(url)
        path = Path(ann.upload("clip.png", b"hers"))
        root = path.parents[1]
        ann.call("stop")  # begins her session
        assert "sessions: 1 are open" in error_of(bob.call("stop"))
        refused = bob.http.post("/gradio_api/upload", files={"files": ("clip.png", b"his")})
        assert (refused.status_code, "1 are open" in refused.text) == (413, True)
        for _ in range(600):  # a minute, in which the server looks again and again
            if not path.exists() and not any(entry.is_dir() for entry in root.iterdir()):
                break
            time.sleep(0.1)
        assert ann.file(path).status_code in (403, 404)
        assert not error_of(bob.call("stop"))


def test_gradio_reads_no_postscript(port: int) -> None:
    assert port
    assert "EPS" not in Image.ID
    assert "PNG" in Image.ID


def test_nothing_is_left_of_a_server_that_ended() -> None:
    with serving(Nothing(), Address("127.0.0.1", free_port()), POLICY):
        folder = Path(os.environ["GRADIO_TEMP_DIR"])
        assert folder.stat().st_mode & 0o077 == 0  # nobody else on this computer reads it
    assert not folder.exists()


def test_a_server_that_ends_waits_for_what_it_computes() -> None:
    ended = threading.Event()
    action = threading.Thread(target=ended.wait, name="action", daemon=True)
    action.start()
    threading.Timer(0.1, ended.set).start()
    wait_for_actions(60)
    assert not action.is_alive()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model", "/no/such/model"], "/no/such/model"),
        (["--segmenter", "no-such-folder"], "no-such-folder"),
        (["--port", "70000"], "port: expected 1 to 65535, got 70000"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["app", *arguments]) == 2
    assert said in capsys.readouterr().err

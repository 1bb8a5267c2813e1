"""A page that runs as the real command, and visitors who talk to it over HTTP."""

from __future__ import annotations

import html
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def page(temporary: Path, *options: str, environment: dict[str, str] | None = None) -> Iterator[str]:
    """Start `amodal-diffusion app` as a user does; its URL.

    Args:
        temporary: where the command keeps its files and ``stderr.txt``.
        options: of the command.
        environment: more variables.
    """
    port = str(free_port())
    command = [sys.executable, "-m", "amodal_diffusion", "app", "--port", port, "--device", "cpu", *options]
    variables = {**os.environ, "TMPDIR": str(temporary), **(environment or {})}
    with (
        (temporary / "stderr.txt").open("w") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=variables) as process,
    ):
        try:
            assert process.stdout is not None
            line = process.stdout.readline().strip()
            assert line.endswith(f":{port}/"), (temporary / "stderr.txt").read_text()
            yield line
        finally:
            process.terminate()
            process.wait(60)


class Visitor:
    """A browser with cookies of its own, on one page."""

    def __init__(self, url: str, *, user: str | None = None, password: str = "", page: str = "page") -> None:
        self.http = httpx.Client(base_url=url, timeout=60)
        self.page = page
        self.http.get("/")
        if user is not None:
            self.http.post("/login", data={"username": user, "password": password}).raise_for_status()

    def upload(self, name: str, content: bytes) -> str:
        """Upload a file; where it lies on the server."""
        return str(self.http.post("/gradio_api/upload", files={"files": (name, content)}).raise_for_status().json()[0])

    def file(self, path: str | Path) -> httpx.Response:
        """Ask for a file by its path on the server."""
        return self.http.get(f"/gradio_api/file={path}")

    def call(self, handler: str, *data: Any) -> str:
        """Do what a button or an upload does; what the page is told in the end: the HTML of its message line."""
        handlers = self.http.get("/config").raise_for_status().json()["dependencies"]
        index = next(entry["id"] for entry in handlers if entry["api_name"] == handler)
        event = {"data": data, "fn_index": index, "session_hash": self.page}
        self.http.post("/gradio_api/queue/join", json=event).raise_for_status()
        message = ""
        with self.http.stream("GET", f"/gradio_api/queue/data?session_hash={self.page}") as lines:
            for line in lines.iter_lines():
                told = json.loads(line[5:]) if line.startswith("data:") else {}
                found = [text for text in _texts(told.get("output")) if 'class="amodal-status"' in text]
                message = found[0] if found else message
                if told.get("msg") == "process_completed":
                    assert told["success"], told
                    return message
        raise AssertionError(f"{handler}: no answer")

    def load(self, handler: str, *files: tuple[str, bytes]) -> str:
        """Upload files and hand them to a handler; its error, or nothing."""
        paths = [self.upload(name, content) for name, content in files]
        entries = [{"path": path, "meta": {"_type": "gradio.FileData"}} for path in paths]
        return error_of(self.call(handler, entries))


def error_of(message: str) -> str:
    """The text of a message line that is an error, else nothing."""
    found = re.search(r'data-kind="error"><span role="alert">(.*)</span>', message)
    return html.unescape(found[1]) if found else ""


def _texts(value: object) -> Iterator[str]:
    """All strings in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for entry in value.values() if isinstance(value, dict) else value:
            yield from _texts(entry)

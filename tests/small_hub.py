"""A small hub on this machine: file lists, revisions, redirects and ranges, as huggingface_hub asks for them."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_API = re.compile(r"/api/models/(?P<name>[^/]+/[^/]+)(?:/(?P<what>revision|tree)/(?P<revision>.+))?")
_RESOLVE = re.compile(r"/(?P<name>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)")


@dataclass
class Repository:
    """A repository with its history.

    Attributes:
        license: as its page names it; None for none.
        commits: content of the files by commit and name.
        revisions: commit of each branch and tag.
        gated: whether its files, not its page, need a login.
    """

    license: str | None = None
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    revisions: dict[str, str] = field(default_factory=dict)
    gated: bool = False

    def commit(self, files: Mapping[str, bytes], revision: str = "main") -> str:
        """Add a commit and move a revision to it; the commit."""
        made = hashlib.sha1(f"{len(self.commits)} {revision} {sorted(files)}".encode()).hexdigest()
        self.commits[made] = dict(files)
        self.revisions[revision] = made
        return made

    def find(self, revision: str) -> str | None:
        """The commit of a branch, a tag or a commit."""
        return revision if revision in self.commits else self.revisions.get(revision)


@dataclass
class SmallHub:
    """The hub, and what it was asked for.

    Attributes:
        repositories: by ``owner/name``.
        asked: method, path and range of each request.
        cuts: by the end of a file's name, how often and after how many bytes its connection breaks.
        endpoint: address of the server.
    """

    repositories: dict[str, Repository] = field(default_factory=dict)
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    cuts: dict[str, tuple[int, int]] = field(default_factory=dict)
    endpoint: str = ""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def downloads(self) -> list[str]:
        """Names of the files whose content was asked for, in order, without the address."""
        return [path.partition("?file=")[2] for method, path, _ in self.asked if method == "GET" and "?file=" in path]

    @contextmanager
    def serving(self) -> Iterator[SmallHub]:
        """Serve on a free port of 127.0.0.1 within the context."""
        handler = type("Handler", (_Handler,), {"hub": self})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        self.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def cut(self, path: str, size: int) -> int:
        """How many of a file's bytes are sent before the connection breaks; all of them as a rule."""
        with self._lock:
            for ending, (times, after) in self.cuts.items():
                if path.endswith(ending) and times > 0:
                    self.cuts[ending] = (times - 1, after)
                    return min(after, size)
        return size


class _Handler(BaseHTTPRequestHandler):
    hub: SmallHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Nothing is printed."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = self.path.partition("?")[0]
        self.hub.asked.append((self.command, self.path, self.headers.get("Range")))
        if path.startswith("/blobs/"):
            self._send_blob(path.removeprefix("/blobs/"))
        elif match := _API.fullmatch(path):
            self._send_api(match["name"], match["what"], match["revision"] or "main")
        elif match := _RESOLVE.fullmatch(path):
            self._send_file(match["name"], match["revision"], match["file"])
        else:
            self._refuse(404, "EntryNotFound")

    def _find(self, name: str, revision: str) -> tuple[Repository, str] | None:
        repository = self.hub.repositories.get(name)
        if repository is None:
            self._refuse(401, "RepoNotFound")
            return None
        commit = repository.find(revision)
        if commit is None:
            self._refuse(404, "RevisionNotFound")
            return None
        return repository, commit

    def _send_api(self, name: str, what: str | None, revision: str) -> None:
        found = self._find(name, revision)
        if found is None:
            return
        repository, commit = found
        files = repository.commits[commit]
        if what == "tree":
            self._send_json([_entry(path, content) for path, content in files.items()])
            return
        card = {"license": repository.license} if repository.license else {}
        tags = [f"license:{repository.license}"] if repository.license else []
        siblings = [{"rfilename": path} for path in files]
        self._send_json({"id": name, "sha": commit, "cardData": card, "tags": tags, "siblings": siblings})

    def _send_file(self, name: str, revision: str, file: str) -> None:
        found = self._find(name, revision)
        if found is None:
            return
        repository, commit = found
        if repository.gated:
            self._refuse(401, "GatedRepo")
            return
        content = repository.commits[commit].get(file)
        if content is None:
            self._refuse(404, "EntryNotFound", {"X-Repo-Commit": commit})
            return
        digest = hashlib.sha256(content).hexdigest()
        elsewhere = self.hub.endpoint.replace("127.0.0.1", "localhost")  # as the hub's files lie on other machines
        blob = f"{elsewhere}/blobs/{name}/{commit}/{file}?file={file}"
        linked = {"X-Linked-Size": str(len(content)), "X-Linked-Etag": f'"{digest}"', "Location": blob}
        self._send(302, b"", {"X-Repo-Commit": commit, **linked})

    def _send_blob(self, place: str) -> None:
        owner, name, commit, file = place.split("/", 3)
        content = self.hub.repositories[f"{owner}/{name}"].commits[commit][file]
        first, status, headers = 0, 200, {"Accept-Ranges": "bytes"}
        if wanted := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or ""):
            first, status = int(wanted[1]), 206
            headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
        self._send(status, content[first:], headers, sent=self.hub.cut(file, len(content) - first))

    def _send_json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _refuse(self, status: int, code: str, headers: Mapping[str, str] | None = None) -> None:
        self._send(status, b"{}", {"X-Error-Code": code, "X-Error-Message": code, **(headers or {})})

    def _send(self, status: int, body: bytes, headers: Mapping[str, str], *, sent: int | None = None) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(body[:sent])
        if sent is not None and sent < len(body):
            self.wfile.flush()
            self.close_connection = True  # the client waits for the rest, and sees that nothing comes


def _entry(path: str, content: bytes) -> dict[str, Any]:
    digest = hashlib.sha256(content).hexdigest()
    entry: dict[str, Any] = {"type": "file", "path": path, "size": len(content), "oid": digest[:40]}
    if path.endswith(".safetensors"):
        entry["lfs"] = {"oid": digest, "size": len(content), "pointerSize": 134}
    return entry

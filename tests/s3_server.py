"""An S3 server in a process of its own, and a proxy before it that cuts transfers and answers with errors."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

BUCKET = "footage"
KEYS = {"AWS_ACCESS_KEY_ID": "reader", "AWS_SECRET_ACCESS_KEY": "not-a-secret", "AWS_DEFAULT_REGION": "us-east-1"}
_START = 60.0  # seconds


@dataclass
class Proxy:
    """A TCP proxy whose next connections fail.

    Attributes:
        port: that it listens on.
        cuts: for each of the next connections, the number of bytes of the answer after which it is cut.
        answers: for each of the next requests after that, an HTTP status that is answered instead of asking the server.
        requests: first lines of the requests so far.
    """

    target: int
    port: int = 0
    cuts: list[int] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    @contextmanager
    def running(self) -> Iterator[Proxy]:
        """Serve until the block ends."""
        with socket.create_server(("127.0.0.1", self.port)) as server:
            self.port = server.getsockname()[1]
            thread = threading.Thread(target=self._serve, args=(server,), daemon=True)
            thread.start()
            try:
                yield self
            finally:
                server.shutdown(socket.SHUT_RDWR)
                thread.join()

    def _serve(self, server: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = server.accept()
                threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        with closing(client), suppress(OSError), socket.create_connection(("127.0.0.1", self.target)) as server:
            request = client.recv(1 << 16)
            self.requests.append(request.partition(b"\r\n")[0].decode("latin-1"))
            cut = self.cuts.pop(0) if self.cuts else None
            if cut is None and self.answers:
                client.sendall(_refusal(self.answers.pop(0), body=not request.startswith(b"HEAD")))
                return
            server.sendall(request)
            threading.Thread(target=_pump, args=(client, server), daemon=True).start()
            _pump(server, client, cut)

    def count(self, verb: str) -> int:
        """Number of requests of a verb so far."""
        return sum(line.startswith(f"{verb} ") for line in self.requests)


def _refusal(status: int, *, body: bool) -> bytes:
    code = {403: "AccessDenied", 500: "InternalError", 503: "SlowDown"}[status]
    text = f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()
    head = f"HTTP/1.1 {status} {code}\r\nContent-Type: application/xml\r\nContent-Length: {len(text)}\r\n"
    return f"{head}Connection: close\r\n\r\n".encode() + (text if body else b"")


def _pump(source: socket.socket, target: socket.socket, limit: int | None = None) -> None:
    """Pass bytes on until the source ends or the limit is reached, then cut the connection."""
    passed = 0
    with suppress(OSError):
        while data := source.recv(1 << 16):
            part = data if limit is None else data[: limit - passed]
            target.sendall(part)
            passed += len(part)
            if limit is not None and passed >= limit:
                break
    for end in (target, source):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def free_port() -> int:
    """A port of this machine on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextmanager
def s3_server() -> Iterator[int]:
    """Start the server, and make the bucket.

    Yields:
        its port.
    """
    port = free_port()
    with subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | KEYS,
    ) as process:
        try:
            _wait_until_it_answers(port, process)
            client(port).create_bucket(Bucket=BUCKET)
            yield port
        finally:
            process.terminate()


def _wait_until_it_answers(port: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + _START
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert process.poll() is None, "the S3 server ended"
            assert time.monotonic() < end, "the S3 server does not answer"
            time.sleep(0.05)
        else:
            return


def client(port: int) -> Any:
    """A client of the server that does not go through the package."""
    import boto3

    return boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{port}",
        aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
        region_name=KEYS["AWS_DEFAULT_REGION"],
    )


def environment(port: int) -> dict[str, str]:
    """Environment variables with which s3:// means the server on a port."""
    return {**KEYS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}

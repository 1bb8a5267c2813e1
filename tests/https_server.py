"""An https server with a certificate of its own that redirects, needs a signature, and cuts transfers."""

from __future__ import annotations

import datetime as dt
import re
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

SIGNATURE = "sig=5d1f00ba"
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


@dataclass
class Site:
    """What the server answers.

    Attributes:
        files: content by path.
        redirects: target by path.
        signed: paths that answer only to a URL with the signature.
        cuts: for each of the next requests, the number of bytes after which the transfer is cut.
        statuses: for each of the next requests after that, the status that is answered.
        ranges: whether parts of files are sent.
        chunked: whether the size is not told.
        requests: paths that were asked for so far.
        port: of the server.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    signed: set[str] = field(default_factory=set)
    cuts: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    ranges: bool = True
    chunked: bool = False
    requests: list[str] = field(default_factory=list)
    port: int = 0

    def url(self, path: str) -> str:
        """URL of a path, on a host that the certificate is for."""
        return f"https://localhost:{self.port}{path}"

    @contextmanager
    def running(self, certificate: Path) -> Iterator[Site]:
        """Serve until the block ends.

        Args:
            certificate: PEM file with the certificate and its key.
        """
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"site": self}))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        self.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()


class _Handler(BaseHTTPRequestHandler):
    site: Site

    def log_message(self, *args: object) -> None:
        """Keep the test's output free of requests."""

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        self.site.requests.append(path)
        cut = self.site.cuts.pop(0) if self.site.cuts else None
        if cut is None and self.site.statuses:
            self.send_error(self.site.statuses.pop(0))
        elif path in self.site.redirects:
            self.send_response(302)
            self.send_header("Location", self.site.redirects[path])
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif path in self.site.signed and query != SIGNATURE:
            self.send_error(403)
        elif path not in self.site.files:
            self.send_error(404)
        else:
            self._send(self.site.files[path], cut)

    def _send(self, data: bytes, cut: int | None) -> None:
        asked = _RANGE.fullmatch(self.headers.get("Range", ""))
        if asked and self.site.ranges:
            start, end = int(asked[1]), min(int(asked[2] or len(data)) + 1, len(data))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(data)}")
            data = data[start:end]
        else:
            self.send_response(200)
        if not self.site.chunked:
            self.send_header("Content-Length", str(len(data)))
        self.send_header("ETag", f'"{hash(data)}"')
        self.end_headers()
        self.wfile.write(data if cut is None else data[:cut])
        self.wfile.flush()


def make_certificate(path: Path) -> None:
    """Write a certificate for localhost and its key to one PEM file."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))

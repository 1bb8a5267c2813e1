"""HTTP server of the web page; all files of the page are removed when it stops."""

from __future__ import annotations

import errno
import ipaddress
import json
import logging
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, ModuleType
from typing import TYPE_CHECKING, Any

from PIL import Image

from amodal_diffusion.app.completer import PageCompleter
from amodal_diffusion.app.logins import VARIABLE, Logins
from amodal_diffusion.app.materials import FILE_TYPES, Limits
from amodal_diffusion.app.sessions import Quota, Sessions
from amodal_diffusion.basics import InputError
from amodal_diffusion.io.picture_formats import PILLOW_FORMATS

if TYPE_CHECKING:
    from amodal_diffusion.models.segmenters.protocol import Segmenter

_ASSETS = Path(__file__).with_name("assets")
_LAST_PORT = 65535
_QUEUE = 100  # events that wait
_LOOK_SECONDS = 30.0  # between two looks for idle pages
_TERMINATED = 128 + signal.SIGTERM
_STOP_SECONDS = 10.0  # for actions to stop at their next step

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Address:
    """Address that the page listens on.

    Attributes:
        host: host name or IP address; only this computer can connect to ``127.0.0.1``.
        port: TCP port, 1 to 65535.

    Raises:
        InputError: if the port is out of range.
    """

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether this computer alone can connect."""
        try:
            return self.host == "localhost" or ipaddress.ip_address(self.host.strip("[]")).is_loopback
        except ValueError:  # another name
            return False

    def __post_init__(self) -> None:
        """Check the port."""
        if not 1 <= self.port <= _LAST_PORT:
            raise InputError(f"port: expected 1 to {_LAST_PORT}, got {self.port}")


@dataclass(frozen=True)
class Policy:
    """What visitors may do.

    Attributes:
        limits: largest uploads that the page accepts.
        quota: how much all sessions may hold.
        logins: names and passwords; None lets everyone in who reaches the address.
        hosts: names by which browsers may reach the server, beside addresses and ``localhost``; when None, any unless
            the page serves this computer alone without a login.
    """

    limits: Limits
    quota: Quota = field(default_factory=Quota)
    logins: Logins | None = None
    hosts: frozenset[str] | None = None

    def known_hosts(self, address: Address) -> frozenset[str] | None:
        """Names that are accepted in the header ``Host``; None for all.

        A foreign site may have its name point to this computer, and its script reach the page under that name. Without
        a login nothing else would stop it.

        Args:
            address: where the page listens.
        """
        alone = address.is_loopback and self.logins is None
        return frozenset() if self.hosts is None and alone else self.hosts


@contextmanager
def serving(
    completer: PageCompleter, address: Address, policy: Policy, *, segmenter: Segmenter | None = None
) -> Iterator[str]:
    """Serve the page within a context.

    Args:
        completer: completes one clip at a time.
        address: address to listen on.
        policy: what visitors may do.
        segmenter: network that predicts masks from clicks; None disables clicks.

    Yields:
        URL of the page.

    Raises:
        InputError: if Gradio is not installed or the address cannot be used.
    """
    if not address.is_loopback and policy.logins is None:
        logger.warning(
            "--host %s: everyone who reaches this address can use the page; give --auth-file FILE or set %s",
            address.host,
            VARIABLE,
        )
    with tempfile.TemporaryDirectory(prefix="amodal-diffusion-app-", ignore_cleanup_errors=True) as folder:
        # Gradio reads these variables once, on import.
        os.environ["GRADIO_TEMP_DIR"] = folder
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
        gr = _gradio()
        from starlette.middleware import Middleware

        from amodal_diffusion.app.actions import Actions
        from amodal_diffusion.app.guard import Access, Guard
        from amodal_diffusion.app.handlers import wait_for_actions
        from amodal_diffusion.app.page import build_page

        limits, logins = policy.limits, policy.logins
        sessions = Sessions(Path(folder), policy.quota)
        access = Access(
            user_of=None if logins is None else _user_of,
            hosts=policy.known_hosts(address),
            upload_bytes=limits.megabytes * 2**20,
        )
        actions = Actions(sessions, completer, limits, segmenter=segmenter)
        page = build_page(
            actions,
            sessions,
            model=completer.description,
            methods=completer.methods,
            limits=limits,
        )
        page.queue(max_size=_QUEUE, api_open=False)  # calls that pass the queue by would run at the same time
        with _named_pictures(), _expiring(sessions):
            try:
                _, url, _ = page.launch(
                    server_name=address.host,
                    server_port=address.port,
                    auth=None if logins is None else logins.check,
                    app_kwargs={"middleware": [Middleware(Guard, sessions=sessions, access=access)]},
                    max_file_size=limits.megabytes * 2**20,
                    theme=gr.themes.Default(
                        primary_hue="pink", font=["system-ui", "sans-serif"], font_mono=["monospace"]
                    ),
                    css_paths=_ASSETS / "page.css",
                    head="".join(f"<script>{script}</script>" for script in _scripts()),
                    footer_links=[],
                    share=False,
                    inbrowser=False,
                    quiet=True,
                    prevent_thread_lock=True,
                    ssr_mode=False,
                    run_history=False,
                    enable_monitoring=False,
                    mcp_server=False,
                    pwa=False,
                )
            except OSError as error:
                raise InputError(_unusable(address)) from error
            try:
                yield url
            finally:
                sessions.close_all()
                wait_for_actions(_STOP_SECONDS)
                page.close(verbose=False)


def _unusable(address: Address) -> str:
    """Why the page cannot listen on an address, which Gradio's error does not tell."""
    try:
        socket.create_server((address.host, address.port)).close()
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            return f"host: cannot listen on {address.host} ({error.strerror}); choose another with --host"
    return f"port: {address.port} is in use; choose another with --port"


def _scripts() -> list[str]:
    scripts = [(_ASSETS / name).read_text(encoding="utf-8") for name in ("viewer.js", "easel.js")]
    return [f"const amodalFileTypes = {json.dumps(','.join(FILE_TYPES))};", *scripts]


@contextmanager
def _expiring(sessions: Sessions) -> Iterator[None]:
    """Close idle pages from time to time."""
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(min(sessions.quota.idle_seconds / 4, _LOOK_SECONDS)):
            sessions.expire()

    thread = threading.Thread(target=look, name="expiring", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def _named_pictures() -> Iterator[None]:
    """Let Pillow read no other kinds of pictures than a page needs: Gradio opens what visitors send as a picture.

    Some of the other kinds run programs, such as Ghostscript for PostScript.
    """
    Image.init()
    kinds = list(Image.ID)
    Image.ID[:] = [kind for kind in kinds if kind in PILLOW_FORMATS]
    try:
        yield
    finally:
        Image.ID[:] = kinds


def _user_of(scope: MutableMapping[str, Any]) -> str | None:
    """The user whose token of Gradio's login a connection shows, or None."""
    from starlette.requests import Request

    app, cookies = scope["app"], Request(scope).cookies
    names = (f"access-token-{app.cookie_id}", f"access-token-unsecure-{app.cookie_id}")
    found = (app.tokens.get(cookies[name]) for name in names if name in cookies)
    return next((user for user in found if user is not None), None)


def wait() -> None:
    """Wait for SIGTERM or Ctrl-C; both end the process in a way that removes its temporary files."""
    signal.signal(signal.SIGTERM, _terminate)
    threading.Event().wait()


def _terminate(number: int, frame: FrameType | None) -> None:  # noqa: ARG001  # as signal calls it
    sys.exit(_TERMINATED)


def _gradio() -> ModuleType:
    try:
        import gradio
    except ImportError as error:
        raise InputError("app: Gradio is not installed; pip install 'amodal-diffusion[app]'") from error
    return gradio

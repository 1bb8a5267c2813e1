"""HTTP server of the web page; all files of the page are removed when it stops."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, ModuleType
from typing import TYPE_CHECKING

from amodal_diffusion.app.completer import PageCompleter
from amodal_diffusion.types import InputError

if TYPE_CHECKING:
    from amodal_diffusion.app.materials import Limits
    from amodal_diffusion.models.segmenters.protocol import Segmenter

_ASSETS = Path(__file__).with_name("assets")
_LAST_PORT = 65535
_TERMINATED = 128 + signal.SIGTERM


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

    def __post_init__(self) -> None:
        """Check the port."""
        if not 1 <= self.port <= _LAST_PORT:
            raise InputError(f"port: expected 1 to {_LAST_PORT}, got {self.port}")


@contextmanager
def serving(
    completer: PageCompleter, address: Address, limits: Limits, *, segmenter: Segmenter | None = None
) -> Iterator[str]:
    """Serve the page within a context.

    Args:
        completer: completes one clip at a time.
        address: address to listen on.
        limits: size limits of uploads.
        segmenter: network that predicts masks from clicks; None disables clicks.

    Yields:
        URL of the page.

    Raises:
        InputError: if Gradio is not installed or the address cannot be used.
    """
    with tempfile.TemporaryDirectory(prefix="amodal-diffusion-app-", ignore_cleanup_errors=True) as folder:
        # Gradio reads these variables once, on import.
        os.environ["GRADIO_TEMP_DIR"] = folder
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
        gr = _gradio()
        from starlette.middleware import Middleware

        from amodal_diffusion.app.actions import Actions
        from amodal_diffusion.app.guard import Guard
        from amodal_diffusion.app.page import build_page
        from amodal_diffusion.app.sessions import Sessions

        sessions = Sessions(Path(folder))
        actions = Actions(sessions, completer, limits, segmenter=segmenter)
        page = build_page(actions, sessions, model=completer.description, samples=completer.samples, limits=limits)
        try:
            _, url, _ = page.launch(
                server_name=address.host,
                server_port=address.port,
                app_kwargs={"middleware": [Middleware(Guard, sessions=sessions)]},
                max_file_size=limits.megabytes * 2**20,
                theme=gr.themes.Default(primary_hue="pink", font=["system-ui", "sans-serif"], font_mono=["monospace"]),
                css_paths=_ASSETS / "page.css",
                head=f"<script>{(_ASSETS / 'viewer.js').read_text(encoding='utf-8')}</script>",
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
            raise InputError(f"port: {address.host}:{address.port} cannot be used ({error}); choose another") from error
        try:
            yield url
        finally:
            sessions.close_all()
            page.close(verbose=False)


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

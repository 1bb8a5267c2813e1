"""Sessions: each visitor's files, who may read them, and when they are removed."""

from __future__ import annotations

import hashlib
import secrets
import shutil
import threading
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from amodal_diffusion.app.drawing import Painting
from amodal_diffusion.io.prompts import Point


class StoppedError(Exception):
    """The visitor pressed Stop or closed the page."""


@dataclass(eq=False)
class Session:
    """One page that is open in a browser.

    Attributes:
        visitor: the secret cookie that the browser sends with each request.
        folder: holds the files of this page alone.
        clip: a video or a folder of pictures, in ``folder``; None before one is chosen.
        masks: modal masks, as `read_masks` takes them; None before they are given.
        depth: depth files; None if the clip came without.
        num_frames: frames in the clip; 0 before one is chosen.
        painting: paint on the frames.
        clicks: clicks on the objects and beside them.
        running: whether an action of this page is at work.
        stop: set to end that action before its next step.
    """

    visitor: str
    folder: Path
    clip: Path | None = None
    masks: Path | None = None
    depth: Path | None = None
    num_frames: int = 0
    painting: Painting = field(default_factory=Painting)
    clicks: list[Point] = field(default_factory=list)
    running: bool = False
    stop: threading.Event = field(default_factory=threading.Event)

    def fresh_folder(self, name: str) -> Path:
        """Make a new empty folder below the session's.

        Args:
            name: beginning of its name; a random ending keeps browsers from showing a cached picture.
        """
        folder = self.folder / f"{name}-{secrets.token_hex(4)}"
        folder.mkdir(parents=True)
        return folder

    def check(self) -> None:
        """Raise StoppedError if the work is to end."""
        if self.stop.is_set():
            raise StoppedError


class Sessions:
    """All pages that are open, below one folder."""

    def __init__(self, root: Path) -> None:
        """Start with none.

        Args:
            root: existing folder that only the server can read; the caller removes it.
        """
        self.root = root.resolve()
        self._open: dict[tuple[str, str], Session] = {}
        self._granted: dict[Path, set[str]] = defaultdict(set)
        self._lock = threading.Lock()

    def get(self, visitor: str, page: str) -> Session:
        """Find the session of a page, or begin it.

        Args:
            visitor: the browser's secret.
            page: Gradio's session hash, which differs between one visitor's pages; untrusted.
        """
        with self._lock:
            if (visitor, page) not in self._open:
                folder = self._folder(visitor) / _digest(page)
                folder.mkdir(parents=True, exist_ok=True)
                self._open[visitor, page] = Session(visitor, folder)
            return self._open[visitor, page]

    def close(self, visitor: str, page: str) -> None:
        """Close a page and remove its files; if an action is running, it is stopped and removes them when it ends.

        Args:
            visitor: as for :meth:`get`.
            page: as for :meth:`get`.
        """
        with self._lock:
            session = self._open.pop((visitor, page), None)
            last = not any(other == visitor for other, _ in self._open)
            if session is not None:
                session.stop.set()
        if session is not None and not session.running:
            self.remove(session)
        if last:
            self._revoke(visitor)

    def close_all(self) -> None:
        """Close every page, so that no action keeps the process alive."""
        for visitor, page in list(self._open):
            self.close(visitor, page)

    def finish(self, session: Session) -> None:
        """Mark a session's action as ended, by success or error; remove the files if the page was closed meanwhile."""
        with self._lock:
            session.running = False
            left = session not in self._open.values()
        if left:
            self.remove(session)

    def remove(self, session: Session) -> None:
        """Remove the files of a session."""
        shutil.rmtree(session.folder, ignore_errors=True)
        with self._lock, suppress(OSError):
            session.folder.parent.rmdir()  # unless other pages of the visitor are open

    def grant(self, visitor: str, paths: Iterable[str | Path]) -> None:
        """Let a visitor read files outside the visitor's own folder, such as uploads."""
        with self._lock:
            for path in paths:
                self._granted[Path(path).resolve()].add(visitor)

    def may_read(self, visitor: str, path: str | Path) -> bool:
        """Whether a file lies in the visitor's folder or was granted to the visitor.

        Args:
            visitor: the browser's secret.
            path: absolute; untrusted.
        """
        try:
            resolved = Path(path).resolve()
        except (OSError, ValueError):  # such as a null byte
            return False
        return resolved.is_relative_to(self._folder(visitor)) or visitor in self._granted.get(resolved, ())

    def _revoke(self, visitor: str) -> None:
        """Withdraw a visitor's grants, and remove the files that no other visitor may read."""
        with self._lock:
            for path, visitors in list(self._granted.items()):
                visitors.discard(visitor)
                if not visitors:
                    del self._granted[path]
                    path.unlink(missing_ok=True)
                    if not any(path.parent.iterdir()):
                        path.parent.rmdir()

    def _folder(self, visitor: str) -> Path:
        return self.root / _digest(visitor)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()[:32]

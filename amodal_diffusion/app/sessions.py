"""Sessions of the web page: storage, access control and removal of each visitor's files."""

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
    """State of one page that is open in a browser.

    Attributes:
        visitor: secret that the browser sends with each request.
        folder: folder with the files of this page only.
        clip: video or folder of images in ``folder``; None before one is chosen.
        masks: path of the modal masks, for `read_masks`; None before they are given.
        depth: path of an example's depth; None for other clips.
        num_frames: number of frames of the clip.
        painting: painted frames.
        clicks: clicks on objects, in any frame.
        running: whether a task of the page is running.
        stop: set to stop the running task.
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
        """Create an empty folder with a unique name, so that a browser never shows a cached image.

        Args:
            name: prefix of the folder's name.
        """
        folder = self.folder / f"{name}-{secrets.token_hex(4)}"
        folder.mkdir(parents=True)
        return folder

    def check(self) -> None:
        """Raise StoppedError if the task was asked to stop."""
        if self.stop.is_set():
            raise StoppedError


class Sessions:
    """The sessions of all open pages, whose files are below one folder."""

    def __init__(self, root: Path) -> None:
        """Create an empty registry.

        Args:
            root: existing folder that only the server can read; the caller removes it.
        """
        self.root = root.resolve()
        self._open: dict[tuple[str, str], Session] = {}
        self._granted: dict[Path, set[str]] = defaultdict(set)
        self._lock = threading.Lock()

    def get(self, visitor: str, page: str) -> Session:
        """Return the session of a page; create it on first use.

        Args:
            visitor: the browser's secret.
            page: ID of the page among those of a visitor; the browser chooses it, so it is never used as a path.
        """
        with self._lock:
            if (visitor, page) not in self._open:
                folder = self._folder(visitor) / _digest(page)
                folder.mkdir(parents=True, exist_ok=True)
                self._open[visitor, page] = Session(visitor, folder)
            return self._open[visitor, page]

    def close(self, visitor: str, page: str) -> None:
        """Remove a page's files; if a task is running, stop it and leave the removal to :meth:`finish`.

        Args:
            visitor: the browser's secret.
            page: as for :meth:`get`; an unknown page is ignored.
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
        """Close every page, so that no running task keeps the process alive."""
        for visitor, page in list(self._open):
            self.close(visitor, page)

    def finish(self, session: Session) -> None:
        """Mark a page's task as ended, and remove the page's files if it was closed in the meantime.

        Args:
            session: session of the page.
        """
        with self._lock:
            session.running = False
            closed = session not in self._open.values()
        if closed:
            self.remove(session)

    def remove(self, session: Session) -> None:
        """Remove the files of a session.

        Args:
            session: a session without a running task.
        """
        shutil.rmtree(session.folder, ignore_errors=True)
        with self._lock, suppress(OSError):
            session.folder.parent.rmdir()  # unless other pages of the visitor are open

    def grant(self, visitor: str, paths: Iterable[str | Path]) -> None:
        """Grant a visitor access to files outside their folder; the files are removed with the visitor's last page.

        Args:
            visitor: the browser's secret.
            paths: files, such as uploads.
        """
        with self._lock:
            for path in paths:
                self._granted[Path(path).resolve()].add(visitor)

    def may_read(self, visitor: str, path: str | Path) -> bool:
        """Whether a visitor may read a file: it is in the visitor's folder, or access was granted.

        Args:
            visitor: the browser's secret.
            path: absolute path; symbolic links are followed.
        """
        try:
            resolved = Path(path).resolve()
        except (OSError, ValueError):  # such as a null byte
            return False
        return resolved.is_relative_to(self._folder(visitor)) or visitor in self._granted.get(resolved, ())

    def _revoke(self, visitor: str) -> None:
        """Revoke the access of a visitor who has left, and remove files that nobody else may read."""
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

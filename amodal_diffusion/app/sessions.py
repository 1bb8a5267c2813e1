"""Sessions of the web page: storage, access control, quotas and removal of each visitor's files."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from amodal_diffusion.app.progress import Progress, Steady
from amodal_diffusion.basics import InputError
from amodal_diffusion.io.prompts import Point

MIB = 2**20
_STRAY_SECONDS = 600.0
"""Age at which a file that belongs to nobody, such as an upload that broke off, is removed."""


class StoppedError(Exception):
    """The visitor pressed Stop or closed the page."""


@dataclass(frozen=True)
class Quota:
    """How much all sessions may hold.

    Attributes:
        sessions: pages open at the same time.
        session_bytes: disk space of one visitor's files.
        total_bytes: disk space of all visitors' files.
        idle_seconds: a page without an event for so long is closed.
    """

    sessions: int = 50
    session_bytes: int = 4000 * MIB
    total_bytes: int = 20000 * MIB
    idle_seconds: float = 3600.0


@dataclass(eq=False)
class Session:
    """State of one page that is open in a browser.

    Attributes:
        visitor: secret that the browser sends with each request.
        folder: folder with the files of this page only.
        clip: video or folder of images in ``folder``; None before one is chosen.
        masks: path of the modal masks, for `read_masks`; None before they are given.
        masks_name: another for each change of the masks; empty before they are given.
        depth: path of an example's depth; None for other clips.
        num_frames: number of frames of the clip.
        size: height and width of the clip in pixels.
        pictures: folder of the clip's frames as the browser shows them; None before there is a clip.
        visible: the modal masks likewise, a folder for each object.
        progress: of the work that is going on; None while there is none, or nothing is known of it.
        doing: what the page is at work on, for its visitor.
        serving: the action that the page shows the progress of; empty if there is none.
        uploads: files that are loaded, as the upload boxes ``clip`` and ``masks`` hold them.
        has_results: whether the page shows a completed clip.
        clicks: clicks on objects, in any frame.
        used: when the page last did something, in seconds of the sessions' clock.
        stop: set to stop the running task.
    """

    visitor: str
    folder: Path
    clip: Path | None = None
    masks: Path | None = None
    masks_name: str = ""
    depth: Path | None = None
    num_frames: int = 0
    size: tuple[int, int] = (0, 0)
    pictures: Path | None = None
    visible: dict[str, Path] = field(default_factory=dict)
    progress: Progress | Steady | None = None
    doing: str = ""
    serving: str = ""
    uploads: dict[str, list[Path]] = field(default_factory=dict)
    has_results: bool = False
    clicks: list[Point] = field(default_factory=list)
    used: float = 0.0
    stop: threading.Event = field(default_factory=threading.Event)
    _folders: dict[str, list[Path]] = field(default_factory=dict)
    _running: bool = False
    _closed: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def running(self) -> bool:
        """Whether the page is at work."""
        with self._lock:
            return self._running

    @property
    def closed(self) -> bool:
        """Whether the page was closed."""
        with self._lock:
            return self._closed

    def begin(self) -> None:
        """Mark the page as at work; an earlier Stop is forgotten.

        Raises:
            InputError: if the page is at work already.
            StoppedError: if the page was closed.
        """
        with self._lock:
            if self._closed:
                raise StoppedError
            if self._running:
                raise InputError("this page is at work already; wait, or press Stop")
            self._running = True
            self.stop.clear()

    def end(self) -> bool:
        """Mark the page's work as ended; returns whether the page was closed meanwhile."""
        with self._lock:
            self._running = False
            return self._closed

    def shut(self) -> bool:
        """Refuse further work and stop what is going on; returns whether the page is at work."""
        with self._lock:
            self._closed = True
            self.stop.set()
            return self._running

    def fresh_folder(self, name: str) -> Path:
        """Create an empty folder with a unique name, so that a browser never shows a cached image.

        Args:
            name: prefix of the folder's name.

        Raises:
            StoppedError: if the page was closed.
        """
        with self._lock:  # whoever closes the page removes the folder afterwards
            if self._closed:
                raise StoppedError
            folder = self.folder / f"{name}-{secrets.token_hex(4)}"
            folder.mkdir(parents=True)
            self._folders.setdefault(name, []).append(folder)
        return folder

    @contextmanager
    def replacing(self, name: str) -> Iterator[Path]:
        """Fill a :meth:`fresh_folder`; earlier folders of this name are removed afterwards, this one after an error.

        Args:
            name: as for :meth:`fresh_folder`.
        """
        folder = self.fresh_folder(name)
        try:
            yield folder
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self.keep_newest(name, 1)

    def keep_newest(self, name: str, count: int) -> None:
        """Remove the older folders of :meth:`fresh_folder`.

        Args:
            name: as for :meth:`fresh_folder`.
            count: how many folders of this name stay.
        """
        for folder in self._folders.get(name, [])[:-count]:
            shutil.rmtree(folder, ignore_errors=True)
        self._folders[name] = self._folders.get(name, [])[-count:]

    def check(self) -> None:
        """Raise StoppedError if the task was asked to stop."""
        if self.stop.is_set():
            raise StoppedError


class Sessions:
    """The sessions of all open pages, whose files are below one folder."""

    def __init__(self, root: Path, quota: Quota | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Create an empty registry.

        Args:
            root: existing folder that only the server can read; the caller removes it.
            quota: how much all sessions may hold.
            clock: the time in seconds, from any start.
        """
        self.root = root.resolve()
        self.quota = quota or Quota()
        self._clock = clock
        self._open: dict[tuple[str, str], Session] = {}
        self._granted: dict[Path, set[str]] = defaultdict(set)
        self._uploaded: dict[str, float] = {}  # when each visitor last uploaded
        self._incoming: Counter[str] = Counter()  # bytes of uploads that are under way, by visitor
        self._lock = threading.Lock()

    def get(self, visitor: str, page: str) -> Session:
        """Return the session of a page; create it on first use.

        Args:
            visitor: the browser's secret.
            page: ID of the page among those of a visitor; the browser chooses it, so it is never used as a path.

        Raises:
            InputError: if as many pages are open as may be.
        """
        if (visitor, page) not in self._open:
            self.expire()
        with self._lock:
            session = self._open.get((visitor, page))
            if session is None:
                self._check_count(len(self._open))
                folder = self._folder(visitor) / _digest(page)
                folder.mkdir(parents=True, exist_ok=True)
                session = self._open[visitor, page] = Session(visitor, folder)
            session.used = self._clock()
            return session

    def close(self, visitor: str, page: str) -> None:
        """Remove a page's files; if a task is running, stop it and leave the removal to :meth:`finish`.

        Args:
            visitor: the browser's secret.
            page: as for :meth:`get`; an unknown page is ignored.
        """
        with self._lock:
            session = self._open.pop((visitor, page), None)
            last = not any(other == visitor for other, _ in self._open)
        if session is not None and not session.shut():
            self.remove(session)
        if last:
            self._revoke(visitor)

    def close_all(self) -> None:
        """Close every page, so that no running task keeps the process alive."""
        for visitor, page in list(self._open):
            self.close(visitor, page)

    def expire(self) -> None:
        """Close the pages that were idle for too long; remove uploads without a page, and what broken uploads left."""
        oldest = self._clock() - self.quota.idle_seconds
        with self._lock:
            idle = [key for key, session in self._open.items() if session.used < oldest and not session.running]
            pages = {visitor for visitor, _ in self._open}
            left = [name for name, when in self._uploaded.items() if when < oldest and name not in pages]
        for visitor, page in idle:
            self.close(visitor, page)
        for visitor in left:
            self._revoke(visitor)
        self._remove_strays()

    def finish(self, session: Session) -> None:
        """Mark a page's task as ended, and remove the page's files if it was closed in the meantime.

        Args:
            session: session of the page.
        """
        session.used = self._clock()
        if session.end():
            self.remove(session)

    def remove(self, session: Session) -> None:
        """Remove the files of a session.

        Args:
            session: a session without a running task.
        """
        shutil.rmtree(session.folder, ignore_errors=True)
        with self._lock, suppress(OSError):
            session.folder.parent.rmdir()  # unless other pages of the visitor are open

    def reserve(self, visitor: str, size: int) -> None:
        """Keep room free for an upload while it comes in; :meth:`release` ends it.

        Args:
            visitor: the browser's secret.
            size: most bytes of the upload.

        Raises:
            InputError: if there is no room, or no page may be opened for the upload.
        """
        self.expire()
        usage = self._usage(visitor)
        with self._lock:
            known = {name for name, _ in self._open} | self._uploaded.keys() | self._incoming.keys()
            if visitor not in known:
                self._check_count(len(known))
            self._check_room(visitor, size, usage)
            self._incoming[visitor] += size

    def release(self, visitor: str, size: int) -> None:
        """End what :meth:`reserve` began.

        Args:
            visitor: the browser's secret.
            size: as it was reserved.
        """
        with self._lock:
            self._incoming[visitor] -= size
            if not self._incoming[visitor]:
                del self._incoming[visitor]

    def check_room(self, visitor: str, size: int = 0) -> None:
        """Check that a visitor may write more.

        Args:
            visitor: the browser's secret.
            size: bytes to be written.

        Raises:
            InputError: if the visitor's files, or those of all visitors, take too much room with them.
        """
        usage = self._usage(visitor)
        with self._lock:
            self._check_room(visitor, size, usage)

    def grant(self, visitor: str, paths: Iterable[str | Path]) -> None:
        """Grant a visitor access to files outside their folder; the files are removed with the visitor's last page.

        Args:
            visitor: the browser's secret.
            paths: files below the root, such as uploads; others are left out.
        """
        found = [Path(path).resolve() for path in paths]
        with self._lock:
            self._uploaded[visitor] = self._clock()
            for path in found:
                if path.is_relative_to(self.root):
                    self._granted[path].add(visitor)

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

    def _check_count(self, found: int) -> None:
        if found >= self.quota.sessions:
            raise InputError(
                f"sessions: {found} are open, as many as this page takes; try again later, or start the page with "
                "a larger --max-sessions"
            )

    def _usage(self, visitor: str) -> tuple[int, int]:
        """Bytes of a visitor's files and of all files; measured without the lock, as it takes long."""
        with self._lock:
            granted = [path for path, visitors in self._granted.items() if visitor in visitors]
        return _size_below(self._folder(visitor)) + sum(map(_size, granted)), _size_below(self.root)

    def _check_room(self, visitor: str, size: int, usage: tuple[int, int]) -> None:
        """As :meth:`check_room`, with what :meth:`_usage` found; the caller holds the lock."""
        own = usage[0] + self._incoming[visitor] + size
        if own > self.quota.session_bytes:
            raise InputError(
                f"disk: your files would take {_mib(own)} MiB, this page keeps at most "
                f"{_mib(self.quota.session_bytes)} MiB a visitor; close other pages, give less, or start the page "
                "with a larger --session-quota"
            )
        free = shutil.disk_usage(self.root).free
        everything = usage[1] + sum(self._incoming.values()) + size
        if everything > self.quota.total_bytes or size > free:
            raise InputError(
                "disk: the files of all visitors take all the room that this page has; try again later, or start the "
                "page with a larger --total-quota"
            )

    def _revoke(self, visitor: str) -> None:
        """Revoke the access of a visitor who has left, and remove files that nobody else may read."""
        with self._lock:
            self._uploaded.pop(visitor, None)
            for path, visitors in list(self._granted.items()):
                visitors.discard(visitor)
                if not visitors:
                    del self._granted[path]
                    with suppress(OSError):  # another thread removes it, or other files are in the folder
                        path.unlink(missing_ok=True)
                        path.parent.rmdir()

    def _remove_strays(self) -> None:
        """Remove old files that lie in the root itself, where Gradio receives uploads."""
        now = time.time()
        for path in self.root.iterdir():
            with suppress(OSError):  # another thread removes it, too
                if path.is_file() and now - path.stat().st_mtime > _STRAY_SECONDS:
                    path.unlink()

    def _folder(self, visitor: str) -> Path:
        return self.root / _digest(visitor)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()[:32]


def _size(path: Path) -> int:
    """Bytes of a file; 0 if it is gone."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _size_below(folder: Path) -> int:
    """Bytes of all files below a folder, which may change meanwhile."""
    return sum(_size(Path(parent, name)) for parent, _, names in os.walk(folder) for name in names)


def _mib(size: int) -> int:
    return -(-size // MIB)

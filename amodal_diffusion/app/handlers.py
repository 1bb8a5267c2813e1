"""Event handlers that translate Gradio's values into actions, and the results into updates."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import gradio as gr

from amodal_diffusion.app.actions import FINDING, Actions, View
from amodal_diffusion.app.completer import KEY_GREEN, Choices
from amodal_diffusion.app.drawing import draw_clicks, draw_masks
from amodal_diffusion.app.guard import COOKIE, owner
from amodal_diffusion.app.materials import FILE_TYPES, Example
from amodal_diffusion.app.sessions import Session, Sessions, StoppedError
from amodal_diffusion.app.views import Kind, easel, status
from amodal_diffusion.basics import InputError, one_line
from amodal_diffusion.completion.option_values import read_color, read_filters, read_formats
from amodal_diffusion.config import Preset
from amodal_diffusion.io.images import SUFFIXES
from amodal_diffusion.io.prompts import Point

Update = Any  # new value of a Gradio component
Updates = AsyncIterator[list[Update]]
BESIDE = "not the object"
"""The choice that makes a click a negative point."""
BEGIN = "Load an example or upload a clip to begin."
_TAKEN = "a video, a zip of pictures, or pictures, such as .mp4, .zip, .png"
OF_CHECKPOINT = "checkpoint"
"""The choice of mask filters that leaves them to the checkpoint."""
_ACTION = "action"  # name of the threads of actions
_LOOK_SECONDS = 0.25  # between two looks at a task's progress
_BUSY = "This page is at work already; wait, or press Stop."
_CLOSED = "This page was closed; load it again."


class Handlers:
    """Handlers that take the values of some components of the page and return the new values of others.

    None of them raises: an error is a line of the message, never a badge on another component. The handlers of actions
    yield the new values of the message, the viewer, the files, Complete and Stop, then those of their own components.
    """

    def __init__(self, actions: Actions, sessions: Sessions) -> None:
        """Store the actions and sessions.

        Args:
            actions: actions that the handlers call.
            sessions: sessions of all open pages.
        """
        self._actions, self._sessions = actions, sessions

    def loading(self, example: Example) -> Callable[[gr.Request], Updates]:
        """Return a handler that loads an example, and clears both uploads."""

        def action(session: Session) -> View:
            view = self._actions.load_example(session, example)
            session.uploads = {}
            return view

        async def load(request: gr.Request) -> Updates:
            async for update in self._run(request, f"Loading {example.title}", action, self._fresh, others=6):
                yield [*update[:-2], None, None] if _is_good(update) else update

        return load

    async def load_clip(self, files: list[str] | None, request: gr.Request) -> Updates:
        """Load an uploaded clip; a refused one leaves the box, and an earlier clip stays in it."""

        def action(session: Session) -> View:
            chosen = chosen_files(files, session.uploads.get("clip", ()))
            view = self._actions.load_clip(session, chosen)
            session.uploads = {"clip": chosen}
            return view

        async for update in self._run(request, "Reading the clip", action, self._fresh, 6):
            box = self._box(request, "clip") if _is_last(update) else gr.skip()
            yield [*update[:-2], box, None if _is_good(update) else gr.skip()]

    async def load_masks(self, files: list[str] | None, request: gr.Request) -> Updates:
        """Load uploaded masks; refused ones leave the box, and earlier ones stay in it."""

        def action(session: Session) -> View:
            chosen = chosen_files(files, session.uploads.get("masks", ()))
            view = self._actions.load_masks(session, chosen)
            session.uploads["masks"] = chosen
            return view

        async for update in self._run(request, "Reading the masks", action, others=1):
            yield [*update[:-1], self._box(request, "masks") if _is_last(update) else gr.skip()]

    async def use_painting(self, paint: str, request: gr.Request) -> Updates:
        """Use what was painted as masks; the drawing board sends it with the click."""
        async for update in self._run(
            request,
            FINDING,
            lambda session: self._actions.use_painting(session, paint, lambda _: None),
        ):
            yield update

    async def use_clicks(self, frame: float, request: gr.Request) -> Updates:
        """Segment the clicked objects, and show the masks on the frame to click on."""
        async for update in self._run(
            request,
            FINDING,
            lambda session: self._actions.use_clicks(session, lambda _: None),
            lambda session: self._clicks(session, int(frame)),
            others=2,
        ):
            yield update

    def completing(self, settings: Sequence[str]) -> Callable[..., Updates]:
        """Return a handler that completes the objects.

        Args:
            settings: names that :func:`choices_of` takes; the handler takes their values after the paint, which is
                empty unless it is newer than the masks.
        """

        async def complete(request: gr.Request, paint: str, *values: Any) -> Updates:  # noqa: ANN401  # see choices_of
            chosen = dict(zip(settings, values, strict=True))

            def action(session: Session) -> View:
                choices = choices_of(chosen)
                if paint:
                    self._actions.use_painting(session, paint, lambda _: None)
                return self._actions.complete(session, lambda _: None, choices)

            async for update in self._run(request, "Preparing", action):
                yield update

        return complete

    def show_clicks(self, frame: float, request: gr.Request) -> list[Update]:
        """Show a frame with its clicks."""
        return self._soon(request, lambda session: self._clicks(session, int(frame)))

    def click(
        self, frame: float, object_name: str, side: str, request: gr.Request, place: gr.SelectData
    ) -> list[Update]:
        """Add a click."""

        def add(session: Session) -> list[Update]:
            x, y = place.index
            session.clicks.append(Point(float(x), float(y), int(frame), side != BESIDE, object_name))
            return self._clicks(session, int(frame))

        return self._soon(request, add)

    def undo_click(self, frame: float, request: gr.Request) -> list[Update]:
        """Remove the last click."""

        def undo(session: Session) -> list[Update]:
            del session.clicks[-1:]
            return self._clicks(session, int(frame))

        return self._soon(request, undo)

    def stop(self, request: gr.Request) -> list[Update]:
        """Stop the page's task; the new values of the message and of Stop."""
        try:
            session = self._sessions.get(*_identity(request))
        except (InputError, StoppedError) as error:
            return [status(self._words(error), "error"), gr.skip()]
        if not self._actions.stop(session):
            return [status("Nothing is running."), gr.Button(interactive=False)]
        return [status("Stopping", "work"), gr.Button(interactive=False)]

    def leave(self, request: gr.Request) -> None:
        """Remove the files of a page that was closed."""
        self._sessions.close(*_identity(request))

    async def _run(
        self,
        request: gr.Request,
        doing: str,
        action: Callable[[Session], View],
        fresh: Callable[[Session], list[Update]] | None = None,
        others: int = 0,
    ) -> Updates:
        """Run an action in a thread and show its progress; ``others`` values follow the five of every action."""
        rest = [gr.skip()] * others
        try:
            session = self._sessions.get(*_identity(request))
        except (InputError, StoppedError) as error:
            yield [status(self._words(error), "error"), *[gr.skip()] * 4, *rest]
            return
        if session.serving or session.running:  # a second click does nothing; another action is refused
            line = gr.skip() if session.serving == doing else status(_BUSY, "error")
            yield [line, *[gr.skip()] * 4, *rest]
            return
        session.serving = session.doing = doing  # at once: a second click may come before the thread has begun
        task = _Task(action, session)
        before = [gr.skip(), gr.skip(), gr.Button(interactive=False), gr.Button(interactive=True)]
        shown = ""
        while not task.ended:
            line = _at_work(session, doing)
            if line != shown:
                yield [line, *before, *rest]
                shown, before = line, [gr.skip()] * 4
            await asyncio.wait([task.future], timeout=_LOOK_SECONDS)
        view, failure = task.view, task.error
        buttons = [gr.Button(interactive=session.masks is not None), gr.Button(interactive=False)]
        if view is None:
            kind: Kind = "info" if isinstance(failure, StoppedError) and not session.closed else "error"
            said = _stopped(session) if kind == "info" else self._words(failure)
            yield [status(said, kind), gr.skip(), gr.skip(), *buttons, *rest]
            return
        session.has_results = bool(view.files)
        values = [] if fresh is None else await asyncio.to_thread(fresh, session)
        line = status(view.status, "done", has_result=session.has_results)
        yield [line, view.html, view.files, *buttons, *values, *rest[len(values) :]]

    def _soon(self, request: gr.Request, action: Callable[[Session], list[Update]]) -> list[Update]:
        """Run a short action; the message stays unless there is an error."""
        try:
            return [gr.skip(), *action(self._sessions.get(*_identity(request)))]
        except (InputError, OSError, StoppedError) as error:
            return [status(self._words(error), "error"), gr.skip(), gr.skip()]

    def _box(self, request: gr.Request, name: str) -> list[str] | None:
        """What an upload box holds: the files that are loaded."""
        try:
            uploads = self._sessions.get(*_identity(request)).uploads
        except (InputError, StoppedError):
            return None
        return [str(path) for path in uploads.get(name, ())] or None

    def _words(self, error: BaseException | None) -> str:
        """An error as one line, without the names of the server's folders."""
        if isinstance(error, StoppedError):
            return _CLOSED
        if not isinstance(error, InputError | OSError):
            return "The page failed at this; its log tells why."
        folders = re.escape(str(self._sessions.root)) + r"/(?:[^\s:/]+/)*"
        return re.sub(folders, "", one_line(error))

    def _fresh(self, session: Session) -> list[Update]:
        """New values of the components of step 2 for a new clip: the drawing board, and the parts of the clicks."""
        height, width = session.size
        last = session.num_frames - 1
        if session.pictures is None:
            raise RuntimeError("a clip without pictures")
        board = easel(session.pictures, frames=session.num_frames, height=height, width=width)
        return [board, gr.Slider(maximum=max(last, 1), value=0, interactive=last > 0), *self._clicks(session, 0)]

    def _clicks(self, session: Session, frame: int) -> list[Update]:
        here = [point for point in session.clicks if point.frame == frame]
        rgb = draw_masks(self._actions.frame(session, frame), self._actions.clicked_masks(session, frame))
        picture = self._actions.picture(session, draw_clicks(rgb, here))
        return [picture, _clicked(session)]


class _Task:
    """An action in a thread of its own, so that visitors who wait take no thread from the others."""

    def __init__(self, action: Callable[[Session], View], session: Session) -> None:
        self.view: View | None = None
        self.error: BaseException | None = None
        loop = asyncio.get_running_loop()
        self.future: asyncio.Future[None] = loop.create_future()

        def run() -> None:
            try:
                self.view = action(session)
            except BaseException as error:  # noqa: BLE001  # the page says it
                self.error = error
            session.serving = ""  # here, as a visitor may leave before the updates end
            loop.call_soon_threadsafe(self._end)

        threading.Thread(target=run, name=_ACTION, daemon=True).start()

    def _end(self) -> None:
        if not self.future.done():
            self.future.set_result(None)

    @property
    def ended(self) -> bool:
        """Whether the action is over."""
        return self.future.done()


def choices_of(values: Mapping[str, Any]) -> Choices:
    """The settings of a completion, from the components of the page; a visitor may send other values.

    Args:
        values: ``seed``; ``samples``, 0 for the model's; ``method``; ``preset``, "" for the page's; ``filters``,
            a list, with "checkpoint" for the model's; ``margin`` in percent; ``soft_edge`` and
            ``shrink_mask`` in pixels; ``formats``, a list; and ``color``, a CSS color name or ``#rrggbb``.

    Raises:
        InputError: if a value is out of range or unknown.
    """
    seed = _number(values, "seed", 0, 2**32)
    preset, filters, formats = values["preset"], values["filters"], values["formats"]
    if preset and preset not in get_args(Preset):
        raise InputError(f"preset: expected one of {', '.join(get_args(Preset))}, got {preset}")
    return Choices(
        seed=seed or 0,
        samples=_number(values, "samples", 0, 8) or None,
        method=values["method"],
        preset=preset or None,
        mask_filters=None if filters is None or OF_CHECKPOINT in filters else read_filters(filters),
        margin=(_number(values, "margin", 0, 100) or 0) / 100,
        soft_edge=_number(values, "soft_edge", 0, 64) or 0,
        shrink_mask=_number(values, "shrink_mask", 0, 64) or None,
        formats=read_formats(formats) if formats else (),
        color=read_color(values["color"] or KEY_GREEN),
    )


def _number(values: Mapping[str, Any], name: str, least: int, most: int) -> int | None:
    value = values[name]
    if value is not None and not least <= value <= most:
        raise InputError(f"{name.replace('_', ' ')}: expected {least} to {most}, got {value}")
    return None if value is None else int(value)


def _at_work(session: Session, doing: str) -> str:
    """The message line of a page that is at work."""
    progress = session.progress
    if progress is None:
        return status(session.doing or doing, "work")
    share, left = progress.look()
    return status(session.doing, "work", share=round(share, 2), seconds_left=left)


def _is_last(update: list[Update]) -> bool:
    """Whether an update ends an action."""
    return isinstance(update[0], str) and 'data-kind="work"' not in update[0]


def _is_good(update: list[Update]) -> bool:
    """Whether an update ends an action that did what it should."""
    return isinstance(update[0], str) and 'data-kind="done"' in update[0]


def _stopped(session: Session) -> str:
    return f"Stopped. {'The page shows earlier results' if session.has_results else 'Nothing was completed'}."


def chosen_files(files: list[str] | None, loaded: Sequence[Path]) -> list[Path]:
    """Files to load of those in an upload box, which adds what is chosen to what it holds.

    A new video or zip takes the place of what is loaded, as new files do that of a video or zip; pictures are added
    to pictures.

    Args:
        files: all files in the box.
        loaded: those of them that are loaded.

    Raises:
        InputError: if a file is of no kind that can be read.
    """
    paths = list(dict.fromkeys(map(Path, files or [])))
    wrong = [path.name for path in paths if path.suffix.lower() not in FILE_TYPES]
    if wrong:
        raise InputError(f"upload: expected {_TAKEN}; got {wrong[0]}")
    new = [path for path in paths if path not in loaded]
    return new if new and any(path.suffix.lower() not in SUFFIXES for path in paths) else paths


def _identity(request: gr.Request) -> tuple[str, str]:
    return owner(request.cookies[COOKIE], request.username), str(request.session_hash)


def _clicked(session: Session) -> str:
    if not session.clicks:
        return "No click yet."
    count: dict[str, int] = Counter(point.object_name for point in session.clicks)
    frames = ", ".join(str(frame) for frame in sorted({point.frame for point in session.clicks}))
    objects = ", ".join(f"{number} on object {name}" for name, number in sorted(count.items()))
    return f"Clicks by object: {objects}, in frame {frames}."


def wait_for_actions(seconds: float) -> None:
    """Wait for actions to end: a process that ends while a thread is inside a network is aborted.

    Args:
        seconds: how long to wait for all of them.
    """
    end = time.monotonic() + seconds
    for thread in threading.enumerate():
        if thread.name == _ACTION:
            thread.join(max(end - time.monotonic(), 0))

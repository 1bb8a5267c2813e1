"""Event handlers that translate Gradio's values into actions, and the results into updates."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from amodal_diffusion.app.actions import Actions, View
from amodal_diffusion.app.drawing import draw_clicks, labels_of
from amodal_diffusion.app.guard import COOKIE, owner
from amodal_diffusion.app.materials import Example
from amodal_diffusion.app.sessions import Session, Sessions, StoppedError
from amodal_diffusion.io.prompts import Point
from amodal_diffusion.types import InputError, one_line

Update = Any  # new value of a Gradio component
_PROGRESS = gr.Progress()  # Gradio recognizes it as the default value of a parameter
BESIDE = "not the object"
"""The choice that makes a click a negative point."""


class Handlers:
    """Handlers that take the values of some components of the page and return the new values of others."""

    def __init__(self, actions: Actions, sessions: Sessions) -> None:
        """Store the actions and sessions.

        Args:
            actions: actions that the handlers call.
            sessions: sessions of all open pages.
        """
        self._actions, self._sessions = actions, sessions

    def loading(self, example: Example) -> Callable[[gr.Request], list[Update]]:
        """Return a handler that loads an example."""

        def load(request: gr.Request) -> list[Update]:
            with self._session(request) as session:
                return [*_shown(self._actions.load_example(session, example)), *self._fresh(session), None]

        return load

    def load_clip(self, files: list[str] | None, request: gr.Request) -> list[Update]:
        """Load an uploaded clip."""
        with self._session(request) as session:
            view = self._actions.load_clip(session, [Path(file) for file in files or []])
            return [*_shown(view), *self._fresh(session), None]

    def load_masks(self, files: list[str] | None, request: gr.Request) -> list[Update]:
        """Load uploaded masks."""
        with self._session(request) as session:
            return _shown(self._actions.load_masks(session, [Path(file) for file in files or []]))

    def show_frame(self, frame: float, request: gr.Request) -> list[Update]:
        """Show a frame in the paint editor."""
        with self._session(request) as session:
            return [self._canvas(session, int(frame)), int(frame), _painted(session, int(frame))]

    def paint(self, value: dict[str, Any] | None, frame: float, request: gr.Request) -> Update:
        """Store the paint of the frame in the editor."""
        with self._session(request) as session:
            background = (value or {}).get("background")
            if value is None or background is None or background.shape[:2] != session.size:  # of an earlier clip
                return gr.skip()
            if not 0 <= frame < session.num_frames:
                return gr.skip()
            layers = [np.asarray(layer, np.uint8) for layer in value["layers"]]
            labels = labels_of(layers, height=background.shape[0], width=background.shape[1])
            if labels.any() or frame in session.painting.frames:  # Gradio also reports that a frame was shown
                session.painting.put(int(frame), labels)
            return _painted(session, int(frame))

    def paint_nothing(self, frame: float, request: gr.Request) -> list[Update]:
        """Mark the frame in the editor as showing no object."""
        with self._session(request) as session:
            rgb, _ = self._actions.frame(session, int(frame))
            session.painting.put(int(frame), np.zeros(rgb.shape[:2], np.uint8))
            return [self._canvas(session, int(frame)), _painted(session, int(frame))]

    def clear(self, frame: float, request: gr.Request) -> list[Update]:
        """Clear the frame in the editor."""
        with self._session(request) as session:
            session.painting.clear(int(frame))
            return [self._canvas(session, int(frame)), _painted(session, int(frame))]

    def use_painting(self, request: gr.Request) -> list[Update]:
        """Use the painted frames as masks."""
        with self._session(request) as session:
            return _shown(self._actions.use_painting(session))

    def show_clicks(self, frame: float, request: gr.Request) -> list[Update]:
        """Show a frame with its clicks."""
        with self._session(request) as session:
            return self._clicks(session, int(frame))

    def click(
        self, frame: float, object_name: str, side: str, request: gr.Request, place: gr.SelectData
    ) -> list[Update]:
        """Add a click."""
        with self._session(request) as session:
            x, y = place.index
            session.clicks.append(Point(float(x), float(y), int(frame), side != BESIDE, object_name))
            return self._clicks(session, int(frame))

    def undo_click(self, frame: float, request: gr.Request) -> list[Update]:
        """Remove the last click."""
        with self._session(request) as session:
            del session.clicks[-1:]
            return self._clicks(session, int(frame))

    def use_clicks(self, request: gr.Request, progress: gr.Progress = _PROGRESS) -> list[Update]:
        """Segment the clicked objects."""
        return self._work(request, progress, "Finding", self._actions.use_clicks)

    def complete(
        self,
        seed: float,
        samples: float,
        method: str | None,
        request: gr.Request,
        progress: gr.Progress = _PROGRESS,
    ) -> list[Update]:
        """Complete the objects."""
        action = partial(self._actions.complete, seed=int(seed or 0), samples=int(samples or 1), method=method)
        return self._work(request, progress, "Completing", action)

    def stop(self, request: gr.Request) -> None:
        """Stop the page's task."""
        with self._session(request) as session:
            if not self._actions.stop(session):
                gr.Info("Nothing is running.")

    def leave(self, request: gr.Request) -> None:
        """Remove the files of a page that was closed."""
        self._sessions.close(*_identity(request))

    def _work(self, request: gr.Request, progress: gr.Progress, what: str, action: Callable[..., View]) -> list[Update]:
        """Run a long action and show its progress on the page."""
        progress(0.0, desc="Preparing")
        with self._session(request) as session:
            try:
                return _shown(action(session, on_share=lambda share: progress(share, desc=what)))
            except StoppedError:
                return ["Stopped. The page shows earlier results.", gr.skip(), gr.skip()]

    @contextmanager
    def _session(self, request: gr.Request) -> Iterator[Session]:
        """The page's session. An error becomes one line on the page, without the names of the server's folders."""
        try:
            yield self._sessions.get(*_identity(request))
        except StoppedError as error:
            raise gr.Error("This page was closed; load it again.", print_exception=False) from error
        except (InputError, OSError) as error:
            folders = re.escape(str(self._sessions.root)) + r"/(?:[^\s:/]+/)*"
            raise gr.Error(re.sub(folders, "", one_line(error)), duration=20, print_exception=False) from error

    def _fresh(self, session: Session) -> list[Update]:
        """New values of the components of step 2 for a new clip."""
        last = session.num_frames - 1
        slider = gr.Slider(maximum=max(last, 1), value=0, interactive=last > 0)
        easel = [slider, self._canvas(session, 0), 0, _painted(session, 0)]
        return [*easel, slider, *self._clicks(session, 0)]

    def _clicks(self, session: Session, frame: int) -> list[Update]:
        rgb, _ = self._actions.frame(session, frame)
        here = [point for point in session.clicks if point.frame == frame]
        picture = self._actions.picture(session, draw_clicks(rgb, here))
        return [picture, _clicked(session)]

    def _canvas(self, session: Session, frame: int) -> dict[str, Any]:
        rgb, paint = self._actions.frame(session, frame)
        layers = [] if paint is None else [self._actions.picture(session, paint)]
        return {"background": self._actions.picture(session, rgb), "layers": layers, "composite": None}


def _identity(request: gr.Request) -> tuple[str, str]:
    return owner(request.cookies[COOKIE], request.username), str(request.session_hash)


def _shown(view: View) -> list[Update]:
    return [view.status, view.html, view.files]


def _painted(session: Session, frame: int) -> str:
    frames = session.painting.frames
    if not frames:
        return f"Frame {frame} of {max(session.num_frames - 1, 0)}. No frame is painted."
    done = ", ".join(str(number) for number in frames)
    needed = [number for number in (0, session.num_frames - 1) if number not in frames]
    more = f" Still needed: {', '.join(str(number) for number in sorted(set(needed)))}." if needed else ""
    return f"Frame {frame} of {session.num_frames - 1}. Painted: {done}.{more}"


def _clicked(session: Session) -> str:
    if not session.clicks:
        return "No click yet."
    count: dict[str, int] = Counter(point.object_name for point in session.clicks)
    frames = ", ".join(str(frame) for frame in sorted({point.frame for point in session.clicks}))
    objects = "; ".join(f"object {name}: {number}" for name, number in sorted(count.items()))
    return f"Clicks: {objects}. In frames {frames}."

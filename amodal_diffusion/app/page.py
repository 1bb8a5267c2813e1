"""How the page looks, and which action each part of it calls."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from amodal_diffusion.app.actions import Actions, View
from amodal_diffusion.app.examples import EXAMPLES, Example
from amodal_diffusion.app.guard import COOKIE
from amodal_diffusion.app.materials import Limits
from amodal_diffusion.app.painting import OBJECTS, labels_of
from amodal_diffusion.app.sessions import Session, Sessions, StoppedError
from amodal_diffusion.types import InputError
from amodal_diffusion.video.overlay import COLOURS

Update = Any  # what Gradio takes as the new state of a part

_INTRO = """# Whole objects from partly hidden ones
A clip and what can be seen of an object in it go in; the whole object comes out, in shape and colour, also where
something hides it. Model: **{model}**. Files are kept apart for each visitor and removed when this page is closed.
"""
_PAINT = """Paint what can be **seen** of the object, not what is hidden; several objects: a colour each. Paint at least
the first and the last frame. Frames between two painted ones are filled in by moving and reshaping the outline evenly:
look at them before you complete, and paint those that are wrong."""
_UPLOAD = """White on black, one mask for each frame: a zip of PNG (a palette or several grey values: one object each), a
zip with a folder an object, a mask video, or the PNG files themselves."""
_WAITING = (
    '<p class="amodal-note">The clip appears here: first what can be seen, then the completed object beside it.</p>'
)


@dataclass(frozen=True)
class _Parts:
    """What actions change."""

    status: gr.Markdown
    viewer: gr.HTML
    files: gr.HTML
    slider: gr.Slider
    editor: gr.ImageEditor
    shown: gr.Number
    painted: gr.Markdown
    masks_upload: gr.File
    progress: gr.HTML

    @property
    def view(self) -> list[Any]:
        return [self.status, self.viewer, self.files]

    @property
    def easel(self) -> list[Any]:
        return [self.slider, self.editor, self.shown, self.painted]


def build_page(actions: Actions, sessions: Sessions, *, model: str, limits: Limits) -> gr.Blocks:
    """Lay out the page.

    Args:
        actions: what is done.
        sessions: those that are open.
        model: what completes, in words.
        limits: what the page takes.
    """
    handlers = _Handlers(actions, sessions)
    with gr.Blocks(title="Whole objects from partly hidden ones", analytics_enabled=False, fill_width=True) as page:
        gr.Markdown(_INTRO.format(model=model))
        with gr.Row():
            with gr.Column(scale=5, min_width=380):
                examples, clip_upload = _clip_part(limits)
                slider, editor, shown, painted, use, nothing, forget, masks_upload = _masks_part()
            with gr.Column(scale=6, min_width=380):
                gr.Markdown("### 3 · Complete")
                with gr.Row():
                    complete = gr.Button("Complete", variant="primary", elem_id="complete", scale=3)
                    stop = gr.Button("Stop", variant="stop", elem_id="stop", scale=1)
                    seed = gr.Number(0, label="Seed", precision=0, minimum=0, scale=1, min_width=90)
                status = gr.Markdown("Load an example or upload a clip to begin.", elem_id="status")
                progress = gr.HTML("", elem_id="progress", min_height=0)
                view = gr.HTML(_WAITING, elem_id="viewer", js_on_load=None)
                files = gr.HTML("", elem_id="files", js_on_load=None)
        parts = _Parts(status, view, files, slider, editor, shown, painted, masks_upload, progress)

        listen = partial(_listen, show_progress="minimal")
        for example, button in examples:
            listen(button.click, handlers.loading(example), None, [*parts.view, *parts.easel, masks_upload])
        listen(clip_upload.upload, handlers.load_clip, clip_upload, [*parts.view, *parts.easel, masks_upload])
        listen(masks_upload.upload, handlers.load_masks, masks_upload, parts.view)
        listen(slider.change, handlers.show_frame, slider, [editor, shown, painted], trigger_mode="always_last")
        listen(editor.input, handlers.paint, [editor, shown], painted)
        listen(nothing.click, handlers.paint_nothing, shown, [editor, painted])
        listen(forget.click, handlers.forget, shown, [editor, painted])
        listen(use.click, handlers.use_painting, None, parts.view)
        listen(complete.click, handlers.complete, seed, parts.view, show_progress="full", concurrency_limit=1)
        listen(stop.click, handlers.stop, None, None)
        page.unload(handlers.leave)
    return page


def _clip_part(limits: Limits) -> tuple[list[tuple[Example, gr.Button]], gr.File]:
    gr.Markdown("### 1 · Clip")
    gr.Markdown("Examples, with masks:")
    with gr.Row():
        buttons = [(example, gr.Button(example.title, size="sm", min_width=120)) for example in EXAMPLES]
    gr.Markdown(
        "Or your own: a video, a zip of pictures, or pictures; at most "
        f"{limits.frames} frames and {limits.megabytes} MB."
    )
    upload = gr.File(label="Your clip", file_count="multiple", elem_id="clip-upload", height=130)
    return buttons, upload


def _masks_part() -> tuple[Any, ...]:
    gr.Markdown("### 2 · What can be seen of the object")
    with gr.Tabs():
        with gr.Tab("Paint"):
            gr.Markdown(_PAINT)
            slider = gr.Slider(0, 1, value=0, step=1, label="Frame to paint", interactive=False, elem_id="paint-frame")
            colours = [f"rgb{colour}" for colour in COLOURS[:OBJECTS]]
            editor = gr.ImageEditor(
                label="Paint",
                show_label=False,
                type="numpy",
                image_mode="RGBA",
                format="png",
                sources=(),
                transforms=(),
                layers=False,
                buttons=[],
                brush=gr.Brush(default_size=12, colors=colours, default_color=colours[0], color_mode="fixed"),
                eraser=gr.Eraser(default_size=12),
                elem_id="easel",
                height=420,
            )
            shown = gr.Number(0, visible=False, precision=0)
            painted = gr.Markdown("No frame is painted.", elem_id="painted")
            with gr.Row():
                nothing = gr.Button("Nothing can be seen in this frame", size="sm")
                forget = gr.Button("Take this frame's paint off", size="sm")
            use = gr.Button("Use what is painted", variant="secondary", elem_id="use-painting")
        with gr.Tab("Upload"):
            gr.Markdown(_UPLOAD)
            masks_upload = gr.File(label="Masks", file_count="multiple", elem_id="masks-upload", height=140)
    return slider, editor, shown, painted, use, nothing, forget, masks_upload


class _Handlers:
    """Between Gradio's values and the actions."""

    def __init__(self, actions: Actions, sessions: Sessions) -> None:
        self._actions, self._sessions = actions, sessions

    def loading(self, example: Example) -> Callable[[gr.Request], list[Update]]:
        def load(request: gr.Request) -> list[Update]:
            with self._session(request) as session:
                return [*_shown(self._actions.load_example(session, example)), *self._easel(session), None]

        return load

    def load_clip(self, files: list[str] | None, request: gr.Request) -> list[Update]:
        with self._session(request) as session:
            view = self._actions.load_clip(session, [Path(file) for file in files or []])
            return [*_shown(view), *self._easel(session), None]

    def load_masks(self, files: list[str] | None, request: gr.Request) -> list[Update]:
        with self._session(request) as session:
            return _shown(self._actions.load_masks(session, [Path(file) for file in files or []]))

    def show_frame(self, frame: float, request: gr.Request) -> list[Update]:
        with self._session(request) as session:
            return [self._canvas(session, int(frame)), int(frame), _painted(session, int(frame))]

    def paint(self, value: dict[str, Any] | None, frame: float, request: gr.Request) -> Update:
        with self._session(request) as session:
            background = (value or {}).get("background")
            if value is None or background is None or not 0 <= frame < session.num_frames:
                return gr.skip()
            layers = [np.asarray(layer, np.uint8) for layer in value["layers"]]
            labels = labels_of(layers, height=background.shape[0], width=background.shape[1])
            if labels.any() or frame in session.painting.frames:  # Gradio also reports that a frame was shown
                session.painting.put(int(frame), labels)
            return _painted(session, int(frame))

    def paint_nothing(self, frame: float, request: gr.Request) -> list[Update]:
        with self._session(request) as session:
            rgb, _ = self._actions.frame(session, int(frame))
            session.painting.put(int(frame), np.zeros(rgb.shape[:2], np.uint8))
            return [self._canvas(session, int(frame)), _painted(session, int(frame))]

    def forget(self, frame: float, request: gr.Request) -> list[Update]:
        with self._session(request) as session:
            session.painting.forget(int(frame))
            return [self._canvas(session, int(frame)), _painted(session, int(frame))]

    def use_painting(self, request: gr.Request) -> list[Update]:
        with self._session(request) as session:
            return _shown(self._actions.use_painting(session))

    def complete(self, seed: float, request: gr.Request, progress: gr.Progress = gr.Progress()) -> list[Update]:  # noqa: B008  # how Gradio finds it
        progress(0.0, desc="Preparing")
        with self._session(request) as session:
            try:
                return _shown(
                    self._actions.complete(session, int(seed or 0), lambda share: progress(share, desc="Completing"))
                )
            except StoppedError:
                gr.Info("Stopped.")
                return ["Stopped. Press **Complete** to begin again.", gr.skip(), ""]

    def stop(self, request: gr.Request) -> None:
        with self._session(request) as session:
            if not self._actions.stop(session):
                gr.Info("Nothing is at work.")

    def leave(self, request: gr.Request) -> None:
        self._sessions.close(*_identity(request))

    @contextmanager
    def _session(self, request: gr.Request) -> Iterator[Session]:
        """The page's session; a visitor's mistake becomes one line on the page, without the server's folders."""
        session = self._sessions.get(*_identity(request))
        try:
            yield session
        except InputError as error:
            folders = re.escape(str(self._sessions.root)) + r"/(?:[^\s:/]+/)*"
            raise gr.Error(re.sub(folders, "", str(error)), duration=20, print_exception=False) from error

    def _easel(self, session: Session) -> list[Update]:
        last = session.num_frames - 1
        slider = gr.Slider(maximum=max(last, 1), value=0, interactive=last > 0)
        return [slider, self._canvas(session, 0), 0, _painted(session, 0)]

    def _canvas(self, session: Session, frame: int) -> dict[str, Any]:
        rgb, paint = self._actions.frame(session, frame)
        layers = [] if paint is None else [self._actions.picture(session, paint)]
        return {"background": self._actions.picture(session, rgb), "layers": layers, "composite": None}


def _listen(event: Callable[..., Any], *arguments: Any, **options: Any) -> None:  # noqa: ANN401  # Gradio's own
    event(*arguments, api_visibility="private", **options)


def _identity(request: gr.Request) -> tuple[str, str]:
    return request.cookies[COOKIE], str(request.session_hash)


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

"""Layout of the web page, and the handler of each component."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import gradio as gr
from gradio.components.image_editor import AcceptBlobs

from amodal_diffusion.app.actions import Actions
from amodal_diffusion.app.drawing import OBJECTS
from amodal_diffusion.app.handlers import BESIDE, Handlers
from amodal_diffusion.app.materials import EXAMPLES, FILE_TYPES, Limits
from amodal_diffusion.app.sessions import Sessions
from amodal_diffusion.frames.drawing import COLORS

TITLE = "Whole objects from partly hidden ones"
_INTRO = """# {title}
Give a clip and masks of the visible part of an object. You get the whole object back: its shape and its colors, also
where something hides it. Model: **{model}**. Other visitors cannot see your files; closing this page removes them.
"""
_PAINT = """Paint the **visible** part of the object, not the hidden part. Use one color for each object. Paint at least
the first and the last frame. Frames between two painted ones are interpolated: look at them before you complete, and
paint those that are wrong."""
_UPLOAD = """White on black, one mask for each frame: a zip of PNG (a palette or several gray values: one object each),
a zip with a folder an object, a mask video, or the PNG files themselves."""
_CLICK = """Click on the object, in any frame; it is found in all of them. Where the mask covers too much, choose "not
the object" and click there."""
_NO_SEGMENTER = """Clicks need a segmenter, and none comes with this program: `hf download facebook/sam2.1-hiera-tiny
--local-dir sam2.1-hiera-tiny`, then start the page with `--segmenter sam2.1-hiera-tiny`. Painting and uploading always
work."""
_METHODS = "How amodal masks are predicted; colors are painted by the same model. Samples are of diffusion alone."
_WAITING = (
    '<p class="amodal-note">The clip appears here: first its visible part, then the completed object beside it.</p>'
)

_MOST_PICTURES, _MOST_LAYERS = 16, 8  # that the editor keeps for all visitors, and of one picture


def build_page(
    actions: Actions, sessions: Sessions, *, model: str, samples: int, methods: Sequence[str], limits: Limits
) -> gr.Blocks:
    """Lay out the page.

    Args:
        actions: actions of the buttons.
        sessions: sessions of all open pages.
        model: name of the model and its device.
        samples: predictions of each amodal mask unless the visitor asks for another number.
        methods: of stage 1 that visitors choose from, the default first.
        limits: largest uploads that the page accepts.
    """
    handlers = Handlers(actions, sessions)
    with gr.Blocks(title=TITLE, analytics_enabled=False, fill_width=True) as page:
        gr.Markdown(_INTRO.format(title=TITLE, model=model))
        with gr.Row():
            with gr.Column(scale=5, min_width=380):
                gr.Markdown("### 1 · Clip")
                clip = _ClipPart(limits)
                gr.Markdown("### 2 · Visible part of the object")
                with gr.Tabs():
                    with gr.Tab("Paint"):
                        easel = _PaintPart()
                    with gr.Tab("Upload"):
                        gr.Markdown(_UPLOAD)
                        upload = _upload("Masks", "masks-upload", height=140)
                    with gr.Tab("Click"):
                        clicks = _ClickPart(ready=actions.segmenter is not None)
            with gr.Column(scale=6, min_width=380):
                gr.Markdown("### 3 · Complete")
                results = _ResultsPart(samples, methods)
        changed = [*results.view, *easel.all, *clicks.all, upload]
        for example, button in clip.examples:
            _on(button.click, handlers.loading(example), None, changed)
        _on(clip.upload.upload, handlers.load_clip, clip.upload, changed)
        _on(upload.upload, handlers.load_masks, upload, results.view)
        easel.connect(handlers, results)
        clicks.connect(handlers, results)
        results.connect(handlers)
        page.unload(handlers.leave)
    return page


def _upload(label: str, name: str, *, height: int) -> gr.File:
    """An upload of the kinds of files that are read; a file of another kind is one line, also to other programs."""
    part = gr.File(label=label, file_count="multiple", file_types=[*FILE_TYPES], elem_id=name, height=height)
    check = part.preprocess

    def preprocess(payload: Any) -> Any:  # noqa: ANN401  # Gradio's own
        try:
            return check(payload)
        except gr.Error as error:
            said = "upload: expected a video, a zip of pictures, or pictures; the name of this file ends otherwise"
            raise gr.Error(said, duration=20, print_exception=False) from error

    part.preprocess = preprocess
    return part


def _bound_memory(editor: gr.ImageEditor) -> None:
    """Limit what visitors can make the editor keep in memory: pictures, and the layers of each."""
    accept = editor.accept_blobs

    def accept_blobs(data: AcceptBlobs) -> None:
        index = str(data.data["index"] or "null")
        if index != "null" and not 0 <= int(index) < _MOST_LAYERS:
            raise ValueError("too many layers")
        for oldest in list(editor.blob_storage)[:-_MOST_PICTURES]:
            editor.blob_storage.pop(oldest, None)
        accept(data)

    accept_blobs._is_server_fn = True  # type: ignore[attr-defined]  # by which Gradio knows what visitors may call
    editor.accept_blobs = accept_blobs


class _ClipPart:
    """Examples, and upload of a clip."""

    def __init__(self, limits: Limits) -> None:
        gr.Markdown("Examples, with masks:")
        with gr.Row():
            self.examples = [(example, gr.Button(example.title, size="sm", min_width=120)) for example in EXAMPLES]
        gr.Markdown(
            "Or your own: a video, a zip of pictures, or pictures; at most "
            f"{limits.frames} frames, {limits.seconds} seconds, {limits.pixels / 1e6:g} million pixels a frame and "
            f"{limits.megabytes} MiB."
        )
        self.upload = _upload("Your clip", "clip-upload", height=130)


class _PaintPart:
    """A frame to paint on."""

    def __init__(self) -> None:
        gr.Markdown(_PAINT)
        self.slider = gr.Slider(0, 1, value=0, step=1, label="Frame", interactive=False, elem_id="paint-frame")
        colors = [f"rgb{color}" for color in COLORS[:OBJECTS]]
        self.editor = gr.ImageEditor(
            label="Paint",
            show_label=False,
            type="numpy",
            image_mode="RGBA",
            format="png",
            sources=(),
            transforms=(),
            layers=False,
            buttons=[],
            brush=gr.Brush(default_size=12, colors=colors, default_color=colors[0], color_mode="fixed"),
            eraser=gr.Eraser(default_size=12),
            elem_id="easel",
            height=400,
        )
        _bound_memory(self.editor)
        self.shown = gr.Number(0, visible=False, precision=0)  # the frame in the editor, which lags behind the slider
        self.painted = gr.Markdown("No frame is painted.", elem_id="painted")
        with gr.Row():
            self.nothing = gr.Button("Nothing is visible in this frame", size="sm")
            self.clear = gr.Button("Clear this frame", size="sm")
        self.use = gr.Button("Use what is painted", elem_id="use-painting")
        self.all = [self.slider, self.editor, self.shown, self.painted]

    def connect(self, handlers: Handlers, results: _ResultsPart) -> None:
        canvas = [self.editor, self.shown, self.painted]
        _on(self.slider.change, handlers.show_frame, self.slider, canvas, trigger_mode="always_last")
        _on(self.editor.input, handlers.paint, [self.editor, self.shown], self.painted)
        _on(self.nothing.click, handlers.paint_nothing, self.shown, [self.editor, self.painted])
        _on(self.clear.click, handlers.clear, self.shown, [self.editor, self.painted])
        _on(self.use.click, handlers.use_painting, None, results.view)


class _ClickPart:
    """A frame to click on, or instructions for getting a segmenter."""

    def __init__(self, *, ready: bool) -> None:
        gr.Markdown(_CLICK if ready else _NO_SEGMENTER, elem_id="click-help")
        with gr.Group(visible=ready):
            self.slider = gr.Slider(0, 1, value=0, step=1, label="Frame", interactive=False, elem_id="click-frame")
            self.picture = gr.Image(
                show_label=False, interactive=False, buttons=[], type="filepath", elem_id="click-picture", height=360
            )
            with gr.Row():
                objects = [str(number + 1) for number in range(OBJECTS)]
                self.object = gr.Radio(objects, value="1", label="Object")
                self.side = gr.Radio(["the object", BESIDE], value="the object", label="A click is on")
            self.clicked = gr.Markdown("No click yet.", elem_id="clicked")
            with gr.Row():
                self.undo = gr.Button("Undo the last click", size="sm")
                self.use = gr.Button("Find in all frames", size="sm", elem_id="use-clicks")
        self.all = [self.slider, self.picture, self.clicked]

    def connect(self, handlers: Handlers, results: _ResultsPart) -> None:
        shown = [self.picture, self.clicked]
        _on(self.slider.change, handlers.show_clicks, self.slider, shown, trigger_mode="always_last")
        _on(self.picture.select, handlers.click, [self.slider, self.object, self.side], shown)
        _on(self.undo.click, handlers.undo_click, self.slider, shown)
        _on_networks(self.use.click, handlers.use_clicks, None, results.view)


class _ResultsPart:
    """Buttons to start and stop, images of the results, and downloads."""

    def __init__(self, samples: int, methods: Sequence[str]) -> None:
        with gr.Row():
            self.complete = gr.Button("Complete", variant="primary", elem_id="complete", scale=3)
            self.stop = gr.Button("Stop", variant="stop", elem_id="stop", scale=1)
            self.seed = gr.Number(0, label="Seed", precision=0, minimum=0, scale=1, min_width=90)
            self.samples = gr.Number(
                samples, label="Samples", precision=0, minimum=1, maximum=8, scale=1, min_width=90, elem_id="samples"
            )
        with gr.Accordion("Advanced settings", open=False, visible=len(methods) > 1):
            self.method = gr.Dropdown(
                list(methods), value=methods[0], label="Method", info=_METHODS, elem_id="method", filterable=False
            )
        status = gr.Markdown("Load an example or upload a clip to begin.", elem_id="status")
        viewer = gr.HTML(_WAITING, elem_id="viewer", js_on_load=None)
        files = gr.HTML("", elem_id="files", js_on_load=None)
        self.view = [status, viewer, files]

    def connect(self, handlers: Handlers) -> None:
        _on_networks(self.complete.click, handlers.complete, [self.seed, self.samples, self.method], self.view)
        _on(self.stop.click, handlers.stop, None, None)


def _on(event: Callable[..., Any], *arguments: Any, **options: Any) -> None:  # noqa: ANN401  # Gradio's own
    event(*arguments, api_visibility="private", **{"show_progress": "minimal", **options})


_on_networks = partial(_on, show_progress="full", concurrency_id="networks", concurrency_limit=1)
"""Runs one event at a time across all visitors; Gradio shows the others their position in the queue."""

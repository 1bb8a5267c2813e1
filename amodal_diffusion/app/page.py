"""Layout of the web page, and the handler of each component."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, get_args

import gradio as gr
from gradio.components import Component

from amodal_diffusion.app.actions import Actions
from amodal_diffusion.app.completer import KEY_GREEN
from amodal_diffusion.app.downloads import choices
from amodal_diffusion.app.drawing import OBJECTS
from amodal_diffusion.app.handlers import BEGIN, BESIDE, OF_CHECKPOINT, Handlers
from amodal_diffusion.app.materials import EXAMPLES, Example, Limits, thumbnail
from amodal_diffusion.app.sessions import Sessions
from amodal_diffusion.app.views import status
from amodal_diffusion.config import MASK_FILTERS, Preset
from amodal_diffusion.models.segmenters.classical import ClassicalSegmenter
from amodal_diffusion.models.segmenters.protocol import Segmenter

TITLE = "Whole objects from partly hidden ones"
_INTRO = """# {title}
Give a clip and masks of the visible part of an object. You get the whole object back: its shape and its colors, also
where something hides it. Model: **{model}**. Other visitors cannot see your files; closing this page removes them.
"""
_PAINT = """Paint the **visible** part of the object, not the hidden part. Use one color for each object. {others}
Look at the masks before you complete, and paint frames that are wrong."""
_FOLLOWED = """One frame can be enough: colors and motion tell where the object is in the others. Paint more frames (the
first, the last, every fifth) where the object moves or turns. Where the first and the last frame are painted, frames
between painted ones are interpolated."""
_INTERPOLATED = "Paint at least the first and the last frame. Frames between two painted ones are interpolated."
_UPLOAD = """White on black, one mask for each frame: a zip of PNG (a palette or several gray values: one object each),
a zip with a folder an object, a mask video, or the PNG files themselves."""
_CLICK = """Click on the object, in any frame; it is found in all of them. Where the mask covers too much, choose "not
the object" and click there. Several clicks help: on each part that has a color of its own, and beside the object."""
_BUILT_IN = """The masks come from colors and motion, without a network, and are often wrong: look at them before you
complete. A page that is started with `--segmenter facebook/sam2.1-hiera-tiny` finds better ones."""
_NO_SEGMENTER = """Clicks need a segmenter, and none comes with this program: `hf download facebook/sam2.1-hiera-tiny
--local-dir sam2.1-hiera-tiny`, then start the page with `--segmenter sam2.1-hiera-tiny`. Painting and uploading always
work."""
_METHODS = "How amodal masks are predicted; colors are painted by the same model. Samples are of diffusion alone."
_WAITING = '<p class="amodal-note">The clip appears here, then the completed object.</p>'
_NO_CLIP = '<p class="amodal-note">Load a clip first (step 1).</p>'
_BEHIND = (
    ("green, for a chroma key", KEY_GREEN),
    ("blue, for a chroma key", "#0000ff"),
    *((name, name) for name in ("white", "gray", "black")),
)
_OFFERED = ("prores", "webm", "mp4", "psd", "coco")  # formats that are written unless the visitor says otherwise
_PASS_PAINT = "() => [amodalPaint()]"  # the drawing board's paint at the moment of the click, not the last one sent
_PASS_NEW_PAINT = "(paint, ...settings) => [amodalNewPaint(), ...settings]"  # of no use where the masks are newer


def build_page(
    actions: Actions, sessions: Sessions, *, model: str, methods: Sequence[str], limits: Limits
) -> gr.Blocks:
    """Lay out the page.

    Args:
        actions: actions of the buttons.
        sessions: sessions of all open pages.
        model: name of the model and its device.
        methods: of stage 1 that visitors choose from, the default first.
        limits: largest uploads that the page accepts.
    """
    handlers = Handlers(actions, sessions)
    with gr.Blocks(title=TITLE, analytics_enabled=False, fill_width=True) as page:
        gr.Markdown(_INTRO.format(title=TITLE, model=model))
        message = gr.HTML(status(BEGIN), elem_id="status", js_on_load=None)
        with gr.Row():
            with gr.Column(scale=5, min_width=320):
                gr.Markdown("### 1 · Clip")
                clip = _ClipPart(limits)
                gr.Markdown("### 2 · Visible part of the object")
                with gr.Tabs():
                    with gr.Tab("Paint"):
                        gr.Markdown(_PAINT.format(others=_INTERPOLATED if actions.segmenter is None else _FOLLOWED))
                        board = gr.HTML(_NO_CLIP, elem_id="easel", js_on_load=None)
                        paint = gr.Textbox(visible=False)
                        use_painting = gr.Button("Use what is painted", elem_id="use-painting")
                    with gr.Tab("Upload"):
                        gr.Markdown(_UPLOAD)
                        upload = _upload("Masks", "masks-upload", height=140)
                    with gr.Tab("Click"):
                        clicks = _ClickPart(actions.segmenter)
            with gr.Column(scale=7, min_width=320):
                gr.Markdown("### 3 · Complete")
                results = _ResultsPart(message, methods)
        view = results.view
        for example, button in clip.examples:
            _on(button.click, handlers.loading(example), None, [*view, board, *clicks.all, clip.upload, upload])
        _on(clip.upload.upload, handlers.load_clip, clip.upload, [*view, board, *clicks.all, clip.upload, upload])
        _on(upload.upload, handlers.load_masks, upload, [*view, upload])
        _on(use_painting.click, handlers.use_painting, paint, view, js=_PASS_PAINT)
        clicks.connect(handlers, results)
        results.connect(handlers, paint)
        page.unload(handlers.leave)
    return page


def _upload(label: str, name: str, *, height: int) -> gr.File:
    """An upload; the handlers say what cannot be read, as Gradio's check would be a badge on many components.

    The browser's file dialog offers what can be read alone; `assets/viewer.js` sets its filter.
    """
    return gr.File(label=label, file_count="multiple", elem_id=name, height=height)


class _ClipPart:
    """Examples, and upload of a clip."""

    def __init__(self, limits: Limits) -> None:
        gr.Markdown("Examples, with masks:")
        with gr.Row(elem_classes="amodal-examples"):
            self.examples = [(example, self._button(number, example)) for number, example in enumerate(EXAMPLES)]
        gr.Markdown(
            "Or your own: a video, a zip of pictures, or pictures; at most "
            f"{limits.frames} frames, {limits.seconds} seconds, {limits.pixels / 1e6:g} million pixels a frame and "
            f"{limits.megabytes} MiB."
        )
        self.upload = _upload("Your clip", "clip-upload", height=130)

    @staticmethod
    def _button(number: int, example: Example) -> gr.Button:
        picture = f"<style>#example-{number} {{ background-image: url({thumbnail(example)}) }}</style>"
        gr.HTML(picture, js_on_load=None, visible="hidden")
        return gr.Button(
            example.title, size="sm", min_width=120, elem_id=f"example-{number}", elem_classes="amodal-example"
        )


class _ClickPart:
    """A frame to click on, or instructions for getting a segmenter."""

    def __init__(self, segmenter: Segmenter | None) -> None:
        ready = segmenter is not None
        gr.Markdown(_CLICK if ready else _NO_SEGMENTER, elem_id="click-help")
        gr.Markdown(_BUILT_IN, elem_id="built-in", visible=isinstance(segmenter, ClassicalSegmenter))
        with gr.Column(visible=ready):
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
        shown = [results.message, self.picture, self.clicked]
        _on(self.slider.change, handlers.show_clicks, self.slider, shown, trigger_mode="always_last")
        clicked = [self.slider, self.object, self.side]
        _on(self.picture.select, handlers.click, clicked, shown, trigger_mode="multiple")  # none is lost
        _on(self.undo.click, handlers.undo_click, self.slider, shown)
        found = [*results.view, self.picture, self.clicked]
        _on(self.use.click, handlers.use_clicks, self.slider, found)


class _ResultsPart:
    """Buttons to start and stop, settings, the viewer, and downloads."""

    def __init__(self, message: gr.HTML, methods: Sequence[str]) -> None:
        self.message = message
        with gr.Row():
            self.complete = gr.Button("Complete", variant="primary", elem_id="complete", scale=3, interactive=False)
            self.stop = gr.Button("Stop", variant="stop", elem_id="stop", scale=1, interactive=False)
        with gr.Accordion("Advanced", open=False, elem_id="advanced"):
            self.settings = _settings(methods)
        viewer = gr.HTML(_WAITING, elem_id="viewer", js_on_load=None)
        files = gr.HTML("", elem_id="files", js_on_load=None)
        self.view = [message, viewer, files, self.complete, self.stop]

    def connect(self, handlers: Handlers, paint: gr.Textbox) -> None:
        complete = handlers.completing(list(self.settings))
        _on(self.complete.click, complete, [paint, *self.settings.values()], self.view, js=_PASS_NEW_PAINT)
        _on(self.stop.click, handlers.stop, None, [self.message, self.stop])


def _settings(methods: Sequence[str]) -> dict[str, Component]:
    """Components of the settings, by the names that `choices_of` takes."""
    presets = [("default of the model", ""), *((name, name) for name in get_args(Preset))]
    filters = [("as the model says", OF_CHECKPOINT), *((name, name) for name in MASK_FILTERS)]
    formats = choices()
    with gr.Row():
        seed = gr.Number(0, label="Seed", precision=0, minimum=0, min_width=120)
        samples = gr.Number(  # Gradio makes an empty number 0 as soon as it is shown
            0,
            label="Samples",
            info="Several guesses; more show where the model is unsure. 0: as many as the model says.",
            precision=0,
            minimum=0,
            maximum=8,
            min_width=120,
            elem_id="samples",
        )
    method = gr.Dropdown(
        list(methods),
        value=methods[0],
        label="Method",
        info=_METHODS,
        elem_id="method",
        filterable=False,
        visible=len(methods) > 1,
    )
    preset = gr.Dropdown(
        presets,
        value="",
        label="Preset",
        info="fast: few steps; paper: as published, slow.",
        elem_id="preset",
        filterable=False,
    )
    chosen = gr.CheckboxGroup(
        filters,
        value=[OF_CHECKPOINT],
        label="Mask filters",
        info="Against shape that is not there.",
    )
    margin = gr.Slider(
        0,
        100,
        value=0,
        step=5,
        label="Margin (% of the frame)",
        info="Completes what the frame's border cuts off.",
        elem_id="margin",
    )
    edge = gr.Slider(0, 64, value=0, step=1, label="Soft edge (pixels)", elem_id="soft-edge")
    shrink = gr.Slider(
        0,
        64,
        value=0,
        step=1,
        label="Shrink visible mask (pixels)",
        info="Repaints the rim of the visible part, where colors of what hides the object may have mixed in.",
        elem_id="shrink-mask",
    )
    written = gr.CheckboxGroup(
        formats,
        value=[name for _, name in formats if name in _OFFERED],
        label="Formats",
        elem_id="formats",
        info="PNG pictures are always written. WebM takes longest.",
    )
    color = gr.Dropdown(
        list(_BEHIND),
        value=KEY_GREEN,
        label="Color behind MP4 and GIF",
        info="Choose one, or type a name or #rrggbb.",
        elem_id="color",
        allow_custom_value=True,
    )
    return {
        "seed": seed,
        "samples": samples,
        "method": method,
        "preset": preset,
        "filters": chosen,
        "margin": margin,
        "soft_edge": edge,
        "shrink_mask": shrink,
        "formats": written,
        "color": color,
    }


def _on(event: Callable[..., Any], *arguments: Any, **options: Any) -> None:  # noqa: ANN401  # Gradio's own
    """Bind a handler; the message line alone shows its progress; the actions let one run at a time."""
    event(*arguments, api_visibility="private", show_progress="hidden", concurrency_limit=None, **options)

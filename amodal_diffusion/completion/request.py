"""What `complete` is asked for, and its inputs opened and held against each other before any network is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args

from jsonargparse.typing import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from amodal_diffusion.completion.canvas import Canvas
from amodal_diffusion.completion.layout import Format, check_formats, read_formats
from amodal_diffusion.completion.segmentation import check_prompts, read_prompts
from amodal_diffusion.completion.shots import open_shots, read_cuts
from amodal_diffusion.config import MASK_FILTERS, Attention, Conditioning, Fit, MaskFilter, Preset, Resample, Scheduler
from amodal_diffusion.frames.cuts import say_cuts
from amodal_diffusion.frames.layers import Alpha
from amodal_diffusion.io.depth_files import DepthTrack, fit_depth, open_depth
from amodal_diffusion.io.mask_files import MaskTrack, fit_track, read_masks
from amodal_diffusion.io.prompts import Prompts
from amodal_diffusion.io.result_folder import InputRecord
from amodal_diffusion.io.video_reader import ClipReader
from amodal_diffusion.options import Renamed, option
from amodal_diffusion.types import Cuts, InputError

PACKAGE = "amodal-diffusion"
RENAMED: Renamed = {
    "--expand": "--margin",
    "--solver": "--scheduler",
    "--objects-at-once": "--object-batch",
    "--spans": {"auto": ["--skip-unoccluded"], "all": ["--no-skip-unoccluded"]},
    "--copies": {"on": ["--color-propagation"], "off": ["--no-color-propagation"]},
    "--guards": "--mask-filters",
}
"""Options of version 0.1."""
_OLD_FILTERS = {"behind": "depth", "attached": "components", "growth": "area"}


def read_filters(text: str | Sequence[str]) -> tuple[MaskFilter, ...]:
    """Mask filters of a list, on the command line with commas; ``all`` and ``none`` stand alone, an empty list is none.

    Raises:
        InputError: if one is unknown.
    """
    names = [name.strip() for name in (text.split(",") if isinstance(text, str) else text) if name.strip()]
    if names in (["all"], ["none"]):
        return MASK_FILTERS if names == ["all"] else ()
    names = [_OLD_FILTERS.get(name, name) for name in names]
    wrong = sorted(set(names) - set(MASK_FILTERS))
    if wrong or (isinstance(text, str) and not names):
        expected = ", ".join(MASK_FILTERS)
        raise InputError(
            f"--mask-filters: expected all, none or some of {expected}, got {', '.join(wrong) or 'nothing'}"
        )
    return tuple(name for name in MASK_FILTERS if name in names)


@dataclass(frozen=True)
class Source:
    """Input.

    Attributes:
        clip: a video file, a folder of pictures, or one picture
        masks: visible part of each object: a folder of PNG (0/255: one object; a palette or several gray values: one
            object each), a mask video, a lossless video of labels, a COCO or YouTube-VIS JSON file, or a folder of
            folders of PNG, one per object
        object: complete this object alone
        amodal_masks: amodal masks are known: paint only
        allow_truncated: go on with what decodes of a damaged video
        cuts: hard cuts, which nothing crosses: found by the colors, none, or the first frames of new shots, such as
            24,80
    """

    clip: Path = option(metavar="CLIP", positional=True)
    masks: Path | None = option(None, metavar="MASKS")
    object: str | None = option(None, metavar="ID")
    amodal_masks: Path | None = option(None, metavar="DIR", advanced=True)
    allow_truncated: bool = option(False, advanced=True)
    cuts: Cuts = option("auto", metavar="auto|none|LIST", read=read_cuts, advanced=True)


@dataclass(frozen=True)
class Clicks:
    """Masks from clicks: pixels from the upper left corner, in FRAME (0, the first, if left out).

    Attributes:
        point: a place on the object; ID tells several objects apart (1 if left out)
        negative_point: a place that is not on the object, though it might be taken for it
        box: a box around the visible part
        text: what to find, such as 'person', with a segmenter that reads; every instance is an object
        segmenter: a folder, a hub id such as facebook/sam2.1-hiera-tiny, or the name of a plug-in
    """

    point: Sequence[str] = option((), metavar="[ID:]X,Y@FRAME", several=True)
    negative_point: Sequence[str] = option((), metavar="[ID:]X,Y@FRAME", several=True, advanced=True)
    box: Sequence[str] = option((), metavar="[ID:]X0,Y0,X1,Y1@FRAME", several=True)
    text: Sequence[str] = option((), metavar="TEXT", several=True)
    segmenter: str | None = option(None, metavar="NAME")

    @property
    def prompts(self) -> Prompts | None:
        """The clicks; None where there are none.

        Raises:
            InputError: if one is not written as the help says.
        """
        return read_prompts(self.point, self.negative_point, self.box, self.text)


@dataclass(frozen=True)
class Output:
    """Output.

    Attributes:
        out: folder of the results, whole or absent
        stages: masks: leave the painting out
        formats: with commas: png (RGBA pictures), prores (ProRes 4444 MOV), webm (VP9 with alpha), masks-mp4, davis
            (palette PNG), coco, youtube-vis (JSON); amodal masks as 0/255 PNG are always written
        margin: outpainting: complete what the border cuts off as well, on a canvas with margins of this share of the
            frame's sides
        alpha: premultiplied: into the colors of layers; straight by default
        soft_edge: pixels around objects over which the alpha of layers falls to 0; an object's own pixels stay as they
            are
        audio: carry the clip's sound into the videos
        overwrite: replace earlier results of this program in DIR
        quiet: no progress bars
    """

    out: Path = option(metavar="DIR")
    stages: str = option("all", choices=("masks", "all"))
    formats: tuple[Format, ...] = option(("png",), metavar="LIST", read=read_formats)
    margin: NonNegativeFloat = option(0.0, metavar="SHARE")
    alpha: Alpha = option("straight", choices=get_args(Alpha), advanced=True)
    soft_edge: NonNegativeInt = option(0, metavar="N", advanced=True)
    audio: bool = option(False)
    overwrite: bool = option(False)
    quiet: bool = option(False, short="-q")


@dataclass(frozen=True)
class ModelChoice:
    """Model.

    Attributes:
        model: a bundled name, a folder, or a hub id
        content_model: of stage 2, if another
        device: auto, cpu, cuda, cuda:1, mps
        dtype: auto, float32, float16, bfloat16
        attention: sdpa: torch's fused attention; plain: matrix products; xformers: the extra of that name, on a GPU
    """

    model: str = option("tiny", metavar="NAME")
    content_model: str | None = option(None, metavar="NAME")
    device: str = option("auto", metavar="NAME")
    dtype: str = option("auto", metavar="NAME", advanced=True)
    attention: Attention = option("sdpa", choices=get_args(Attention), advanced=True)


@dataclass(frozen=True)
class DepthChoice:
    """Depth.

    Attributes:
        depth: auto: estimate depth if there is a depth model; none; or a folder of 16-bit PNG or an .npy file [F,H,W],
            nearer is larger
        depth_inverse: the depth is a distance: nearer is smaller
        depth_model: depth network instead of the checkpoint's own
    """

    depth: str = option("auto", metavar="auto|none|PATH")
    depth_inverse: bool = option(False, advanced=True)
    depth_model: str | None = option(None, metavar="NAME")


@dataclass(frozen=True)
class SamplingChoice:
    """Sampling.

    Attributes:
        preset: fast: few steps; default: as the checkpoint says; paper: the paper's inference, 25 Euler steps, guidance
            1.5, no filters; released checkpoints take paper if none is named, others default
        steps: denoising steps
        guidance: weight of classifier-free guidance
        seed: the same seed gives the same result
        samples: predictions of stage 1: the mask is what most of them have; beside it each sample's masks, a video of
            where they differ, and how well they agree
        skip_unoccluded: the networks see only the frames in which an object can be occluded, and some around them
        scheduler: Euler's method, Heun's (two network passes a step), or DPM-Solver++
        height: pixels the network works at
        width: pixels the network works at
        fit: how frames become that size; the checkpoint's own by default
        resample: pil: scale with antialiasing; cv2: without, as the loaders of the reference
        conditioning: released: repeat the reference's inference, for the paper's numbers from the published checkpoints
        mask_filters: against invented shape: all, none, or some of depth, components, area, with commas
        color_propagation: take colors of hidden parts from other frames, as far as they can be relied on
        tta: test-time augmentation of stage 1: mean over 1, 2 or 4 passes
        object_batch: objects of a clip that are completed together, as rows of one network call; each takes the memory
            of its own windows
    """

    preset: Preset | None = option(None, choices=get_args(Preset))
    steps: PositiveInt | None = option(None, metavar="N")
    guidance: PositiveFloat | None = option(None, metavar="G")
    seed: NonNegativeInt = option(0, metavar="S")
    samples: PositiveInt | None = option(None, metavar="K")
    skip_unoccluded: bool | None = option(None)
    scheduler: Scheduler | None = option(None, choices=get_args(Scheduler), advanced=True)
    height: PositiveInt | None = option(None, metavar="H", advanced=True)
    width: PositiveInt | None = option(None, metavar="W", advanced=True)
    fit: Fit | None = option(None, choices=get_args(Fit), advanced=True)
    resample: Resample | None = option(None, choices=get_args(Resample), advanced=True)
    conditioning: Conditioning | None = option(None, choices=get_args(Conditioning), advanced=True)
    mask_filters: tuple[MaskFilter, ...] | None = option(None, metavar="LIST", read=read_filters, advanced=True)
    color_propagation: bool | None = option(None, advanced=True)
    tta: PositiveInt | None = option(None, metavar="N", advanced=True)
    object_batch: PositiveInt = option(1, metavar="N", advanced=True)

    def changes(self) -> dict[str, Any]:
        """Arguments of :meth:`AmodalCompleter.config`, under the names of `SamplingConfig`."""
        values = {name: value for name, value in asdict(self).items() if name not in ("seed", "object_batch")}
        return {"num_inference_steps": values.pop("steps"), "guidance_scale": values.pop("guidance"), **values}


@dataclass(frozen=True)
class CompletionRequest:
    """Everything `amodal-diffusion complete` is asked for; each group is one of its help.

    Attributes:
        source: the clip and its masks.
        output: what is written, and where.
        clicks: instead of masks.
        model: the networks, and where they run.
        depth: where depth comes from.
        sampling: how the networks are sampled.
    """

    source: Source
    output: Output
    clicks: Clicks = Clicks()
    model: ModelChoice = ModelChoice()
    depth: DepthChoice = DepthChoice()
    sampling: SamplingChoice = SamplingChoice()

    @property
    def painted(self) -> bool:
        """Whether stage 2 runs."""
        return self.output.stages == "all"

    def settings(self) -> dict[str, object]:
        """Everything that results depend on but the content of the inputs, as JSON values."""
        left_out = ("clip", "masks", "amodal_masks", "allow_truncated", "out", "overwrite", "quiet", "object_batch")
        groups = (self.source, self.output, self.clicks, self.model, self.depth, self.sampling)
        values = {name: value for group in groups for name, value in asdict(group).items() if name not in left_out}
        return {**values, "version": package_version()}

    def inputs(self) -> dict[str, InputRecord]:
        """The files that results depend on, by argument."""
        paths: dict[str, Path | None] = {
            "clip": self.source.clip,
            "masks": self.source.masks,
            "amodal_masks": self.source.amodal_masks,
            "depth": None if self.depth.depth in ("auto", "none") else Path(self.depth.depth),
            "segmenter": model_folder(self.clicks.segmenter),
            "model": model_folder(self.model.model),
            "content_model": model_folder(self.model.content_model),
            "depth_model": model_folder(self.depth.depth_model),
        }
        return {name: InputRecord.of(path) for name, path in paths.items() if path is not None}


GROUPS: dict[str, type[Any]] = {
    "source": Source,
    "clicks": Clicks,
    "output": Output,
    "model": ModelChoice,
    "depth": DepthChoice,
    "sampling": SamplingChoice,
}
"""The option groups of `complete`, by their field in the request, in the order of its help."""


@dataclass(frozen=True)
class CompletionInputs:
    """Opened inputs that fit each other.

    Attributes:
        clip: the frames.
        tracks: the objects to complete, what can be seen of each; none yet where prompts are to make the masks.
        whole: by object, its whole masks where they are known.
        depth: of the clip, where it was given.
        canvas: that objects are completed on.
        cuts: first frames of new shots.
    """

    clip: ClipReader
    tracks: tuple[MaskTrack, ...]
    whole: dict[str, MaskTrack]
    depth: DepthTrack | None
    canvas: Canvas
    cuts: tuple[int, ...] = ()

    def on_canvas(self) -> CompletionInputs:
        """The same inputs on the canvas."""
        return replace(
            self,
            clip=self.canvas.place_clip(self.clip),
            tracks=tuple(self.canvas.place_masks(track) for track in self.tracks),
            whole={name: self.canvas.place_masks(track) for name, track in self.whole.items()},
            depth=None if self.depth is None else self.canvas.place_depth(self.depth, cuts=self.cuts),
        )


def open_inputs(request: CompletionRequest) -> CompletionInputs:
    """Open all inputs and hold them against each other.

    Args:
        request: names them.

    Raises:
        InputError: if one is missing, damaged, or does not fit the others.
    """
    if request.source.amodal_masks is not None and request.output.stages == "masks":
        raise InputError("--amodal-masks: skips the stage that --stages masks asks for; leave one of them out")
    for folder in (request.source.clip, request.source.masks, request.source.amodal_masks, Path(request.depth.depth)):
        if folder is not None and folder.is_dir() and request.output.out.resolve().is_relative_to(folder.resolve()):
            raise InputError(f"out: {request.output.out}: lies in {folder}, which is input; choose another folder")
    _check_source(request)
    if (request.sampling.samples or 1) > 1 and request.source.amodal_masks is not None:
        raise InputError("--samples: are of the stage that --amodal-masks skips; leave one of them out")
    check_formats(request.output.formats, painted=request.painted, sound=request.output.audio)
    clip, cuts = open_shots(request.source.clip, request.source.cuts, allow_truncated=request.source.allow_truncated)
    if request.source.cuts == "auto":
        say_cuts(cuts)
    canvas = Canvas.around(clip, request.output.margin)
    if request.source.masks is None:
        check_prompts(request.clicks.prompts, request.clicks.segmenter, clip)
        return CompletionInputs(clip, (), {}, _depth(request, clip), canvas, cuts)
    found = read_masks(request.source.masks, allow_truncated=request.source.allow_truncated)
    tracks = tuple(fit_track(track, clip, what="masks") for track in _chosen(found, request.source.object))
    for track in tracks:
        if not any(track.areas):
            raise InputError(
                f"masks: {track.path}: object {track.name} is empty in every one of {track.num_frames} frames; it "
                "must be visible in at least one"
            )
    whole = _whole_masks(request, clip, tracks, canvas)
    return CompletionInputs(clip, tracks, whole, _depth(request, clip), canvas, cuts)


def _check_source(request: CompletionRequest) -> None:
    """Refuse all but one source of masks."""
    if (request.source.masks is None) == (request.clicks.prompts is None):
        found = "neither" if request.source.masks is None else "both"
        raise InputError(
            f"--masks: expected either masks or clicks (--point, --box, --text), got {found}; clicks make the masks"
        )
    if request.source.masks is not None:
        return
    if request.source.amodal_masks is not None:
        raise InputError("--amodal-masks: needs --masks; make them with `amodal-diffusion segment`")
    if request.source.object is not None:
        raise InputError("--object: chooses among --masks; show the object that is wanted alone")


def package_version() -> str:
    """The installed version of this package; ``"unknown"`` where it runs from a bare source tree."""
    try:
        return version(PACKAGE)
    except PackageNotFoundError:
        return "unknown"


def _chosen(tracks: dict[str, MaskTrack], name: str | None) -> list[MaskTrack]:
    if name is None:
        return list(tracks.values())
    if name not in tracks:
        raise InputError(f"--object: no object {name} in the masks; there are {', '.join(tracks)}")
    return [tracks[name]]


def _whole_masks(
    request: CompletionRequest, clip: ClipReader, tracks: tuple[MaskTrack, ...], canvas: Canvas
) -> dict[str, MaskTrack]:
    """Find the whole masks of each object by name; a single track belongs to a single object whatever its name.

    They have the frames' size, or the canvas's, as an earlier run with the same margins writes them.
    """
    if request.source.amodal_masks is None:
        return {}
    what = "amodal-masks"
    found = read_masks(request.source.amodal_masks, allow_truncated=request.source.allow_truncated, what=what)
    if len(found) == len(tracks) == 1:
        found = {tracks[0].name: next(iter(found.values()))}
    missing = [track.name for track in tracks if track.name not in found]
    if missing:
        raise InputError(
            f"{what}: {request.source.amodal_masks}: no masks of object {', '.join(missing)}; there are "
            f"{', '.join(found)}"
        )
    wide = canvas.place_clip(clip)
    chosen = [found[track.name] for track in tracks]
    fitted = (
        fit_track(track, wide if (track.height, track.width) == (wide.height, wide.width) else clip, what=what)
        for track in chosen
    )
    return {track.name: masks for track, masks in zip(tracks, fitted, strict=True)}


def _depth(request: CompletionRequest, clip: ClipReader) -> DepthTrack | None:
    if request.depth.depth == "auto":
        return None
    if request.depth.depth_model is not None:
        raise InputError(
            f"--depth-model: nothing to estimate, as --depth is {request.depth.depth}; leave one of them out"
        )
    if request.depth.depth == "none":
        return None
    return fit_depth(open_depth(request.depth.depth, inverse=request.depth.depth_inverse), clip)


def model_folder(name: str | None) -> Path | None:
    """Where a model's files lie if they are here already: a folder of the user's, or a bundled one.

    Args:
        name: as the user gave it, if at all.
    """
    if name is None:
        return None
    bundled = Path(str(files("amodal_diffusion"))) / "weights" / name
    folder = bundled if Path(name).name == name and bundled.is_dir() else Path(name)
    return folder if folder.is_dir() else None

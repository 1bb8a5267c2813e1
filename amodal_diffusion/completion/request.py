"""Where the files of an object lie in a folder of results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from typing import Literal, get_args

from amodal_diffusion.completion.canvas import Canvas
from amodal_diffusion.completion.segmentation import check_prompts
from amodal_diffusion.frames.layers import Alpha
from amodal_diffusion.io.depth_files import DepthTrack, fit_depth, open_depth
from amodal_diffusion.io.mask_files import MaskTrack, fit_track, read_masks
from amodal_diffusion.io.prompts import Prompts
from amodal_diffusion.io.result_folder import InputRecord
from amodal_diffusion.io.video_reader import ClipReader, open_clip
from amodal_diffusion.io.video_writer import Kind, missing_encoders
from amodal_diffusion.pipelines.postprocessing import Guards
from amodal_diffusion.types import InputError


def step_of(track: MaskTrack) -> str:
    """Name of the step that makes an object's files."""
    return f"object {track.name}"


def record_path(track: MaskTrack) -> str:
    """Areas and seconds of an object, for the summary."""
    return f"objects/{track.name}/object.json"


def mask_path(track: MaskTrack, index: int) -> str:
    """Whole mask of an object in a frame, counted from 0."""
    return f"objects/{track.name}/amodal_masks/{index:05d}.png"


def layer_path(track: MaskTrack, index: int) -> str:
    """Layer of an object in a frame, counted from 0."""
    return f"objects/{track.name}/completed/{index:05d}.png"


def answer_path(track: MaskTrack, answer: int, index: int) -> str:
    """Whole mask of an object in a frame by one of several answers, both counted from 0; folders count from 1."""
    return f"objects/{track.name}/answers/{answer + 1}/{index:05d}.png"


def uncertainty_path(track: MaskTrack) -> str:
    """Video of where the answers differ."""
    return f"objects/{track.name}/uncertainty.mp4"


Format = Literal["png", "prores", "webm", "masks-mp4", "davis", "coco", "youtube-vis"]
FORMATS: tuple[Format, ...] = get_args(Format)
VIDEOS: dict[Format, tuple[Kind, str]] = {
    "prores": ("prores", "completed.mov"),
    "webm": ("webm", "completed.webm"),
    "masks-mp4": ("mp4", "amodal_masks.mp4"),
}
"""Of each object: the kind of video, and its name in the object's folder."""
ANNOTATIONS: dict[Format, str] = {"coco": "coco.json", "youtube-vis": "youtube_vis.json"}
"""Of all objects: the file's name."""
LAYERS: tuple[Format, ...] = ("png", "prores", "webm")


def read_formats(text: str) -> tuple[Format, ...]:
    """Formats of a list with commas, in the order of `FORMATS`.

    Raises:
        InputError: if one is unknown.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    wrong = sorted(set(names) - set(FORMATS))
    if wrong or not names:
        raise InputError(f"--formats: expected some of {','.join(FORMATS)}, got {','.join(wrong) or 'none'}")
    return tuple(name for name in FORMATS if name in names)


def check_formats(formats: Sequence[Format], *, painted: bool, sound: bool) -> None:
    """Refuse formats that cannot be written, before there is anything to write.

    Args:
        formats: to be written.
        painted: there are layers.
        sound: sound is carried into videos.

    Raises:
        InputError: if FFmpeg lacks an encoder, or a format holds layers and there are none.
    """
    for name in formats:
        if name in VIDEOS and name in LAYERS and not painted:
            raise InputError(f"--formats: {name} holds layers, which --stages masks leaves out; leave one of them out")
    wanted: dict[str, Kind] = {"overlay.mp4": "mp4", **{name: VIDEOS[name][0] for name in formats if name in VIDEOS}}
    for file, kind in wanted.items():
        if missing := missing_encoders(kind, sound=sound):
            raise InputError(
                f"--formats: {file} needs FFmpeg's {' and '.join(missing)}, which this build of PyAV has not; leave it "
                "out, or install PyAV's own wheel (pip install --force-reinstall av)"
            )


PACKAGE = "amodal-diffusion"


@dataclass(frozen=True)
class CompletionRequest:
    """The arguments of `amodal-diffusion complete`; see its help.

    Attributes:
        clip: a video file, a folder of pictures, or one picture.
        out: folder of the results.
        masks: of what can be seen; None where prompts are to make them.
        prompts: clicks, boxes or texts for the segmenter.
        segmenter: a folder, a hub id, or a plug-in's name.
        object_name: complete this object alone.
        stages: ``"masks"`` leaves the painting out.
        amodal_masks: whole masks, to paint only.
        expand: margins of the canvas that objects are completed on, as a share of the frame's sides.
        model: a bundled name, a folder, or a hub id.
        content_model: for the painting, if another.
        conditioning: ``"released"`` repeats the reference's inference.
        device: ``"auto"`` or torch's name.
        dtype: ``"auto"`` or torch's name.
        depth: ``"auto"``, ``"none"`` or a path.
        depth_inverse: the depth is a distance.
        depth_model: instead of the checkpoint's own.
        preset: how to sample, by name; None is the default.
        steps: denoising steps; the preset's when None, as the following.
        guidance: weight of guidance.
        solver: what follows the network from noise to a clip.
        height: pixels the model works at.
        width: pixels the model works at.
        seed: the same seed, the same result.
        formats: of the results, see :mod:`amodal_diffusion.completion.request`.
        alpha: of layers: ``"straight"``, or ``"premultiplied"`` into their colours.
        soft_edge: pixels around objects over which the alpha of layers falls to 0; 0 for none.
        audio: the clip's sound is carried into videos.
        guards: against invented shape; the default of :class:`AmodalCompleter` when None.
        copies: whether hidden colours are copied from other frames; likewise.
        samples: answers of stage 1, each from noise of its own.
        spans: ``"auto"`` leaves frames alone that hide nothing of an object, ``"all"`` none; None is auto, and all with
            ``conditioning="released"``.
        objects_at_once: objects of the clip that are completed at the same time; results do not depend on it on a CPU.
        overwrite: replace earlier results of this program.
        allow_truncated: go on with what decodes of a damaged video.
        quiet: no progress bars.
    """

    clip: Path
    out: Path
    masks: Path | None = None
    prompts: Prompts | None = None
    segmenter: str | None = None
    object_name: str | None = None
    stages: Literal["masks", "all"] = "all"
    amodal_masks: Path | None = None
    expand: float = 0.0
    model: str = "tiny"
    content_model: str | None = None
    conditioning: Literal["corrected", "released"] = "corrected"
    device: str = "auto"
    dtype: str = "auto"
    depth: str = "auto"
    depth_inverse: bool = False
    depth_model: str | None = None
    preset: Literal["fast", "default", "paper"] | None = None
    steps: int | None = None
    guidance: float | None = None
    solver: Literal["euler", "heun", "dpmpp"] | None = None
    height: int | None = None
    width: int | None = None
    seed: int = 0
    formats: tuple[Format, ...] = ("png",)
    alpha: Alpha = "straight"
    soft_edge: int = 0
    audio: bool = False
    guards: tuple[str, ...] | None = None
    copies: Literal["on", "off"] | None = None
    samples: int = 1
    spans: Literal["auto", "all"] | None = None
    objects_at_once: int = 1
    overwrite: bool = False
    allow_truncated: bool = False
    quiet: bool = False

    def settings(self) -> dict[str, object]:
        """Everything that results depend on but the content of the inputs, as JSON values."""
        names = (
            "clip", "masks", "out", "amodal_masks", "objects_at_once", "overwrite", "allow_truncated", "quiet",
        )  # fmt: skip
        values: dict[str, object] = {name: value for name, value in asdict(self).items() if name not in names}
        return {**values, "version": package_version()}

    def inputs(self) -> dict[str, InputRecord]:
        """The files that results depend on, by argument."""
        paths: dict[str, Path | None] = {
            "clip": self.clip,
            "masks": self.masks,
            "amodal_masks": self.amodal_masks,
            "depth": None if self.depth in ("auto", "none") else Path(self.depth),
            "segmenter": model_folder(self.segmenter),
            "model": model_folder(self.model),
            "content_model": model_folder(self.content_model),
            "depth_model": model_folder(self.depth_model),
        }
        return {name: InputRecord.of(path) for name, path in paths.items() if path is not None}


@dataclass(frozen=True)
class CompletionInputs:
    """Opened inputs that fit each other.

    Attributes:
        clip: the frames.
        tracks: the objects to complete, what can be seen of each; none yet where prompts are to make the masks.
        whole: by object, its whole masks where they are known.
        depth: of the clip, where it was given.
        canvas: that objects are completed on.
    """

    clip: ClipReader
    tracks: tuple[MaskTrack, ...]
    whole: dict[str, MaskTrack]
    depth: DepthTrack | None
    canvas: Canvas

    def on_canvas(self) -> CompletionInputs:
        """The same inputs on the canvas."""
        return replace(
            self,
            clip=self.canvas.place_clip(self.clip),
            tracks=tuple(self.canvas.place_masks(track) for track in self.tracks),
            whole={name: self.canvas.place_masks(track) for name, track in self.whole.items()},
            depth=None if self.depth is None else self.canvas.place_depth(self.depth),
        )


def open_inputs(request: CompletionRequest) -> CompletionInputs:
    """Open all inputs and hold them against each other.

    Args:
        request: names them.

    Raises:
        InputError: if one is missing, damaged, or does not fit the others.
    """
    if request.amodal_masks is not None and request.stages == "masks":
        raise InputError("--amodal-masks: skips the stage that --stages masks asks for; leave one of them out")
    for folder in (request.clip, request.masks, request.amodal_masks, Path(request.depth)):
        if folder is not None and folder.is_dir() and request.out.resolve().is_relative_to(folder.resolve()):
            raise InputError(f"out: {request.out}: lies in {folder}, which is input; choose another folder")
    _check_source(request)
    if request.guards is not None:
        Guards.of(request.guards)
    if request.samples > 1 and request.amodal_masks is not None:
        raise InputError("--samples: are of the stage that --amodal-masks skips; leave one of them out")
    check_formats(request.formats, painted=request.stages == "all", sound=request.audio)
    clip = open_clip(request.clip, allow_truncated=request.allow_truncated)
    canvas = Canvas.around(clip, request.expand)
    if request.masks is None:
        check_prompts(request.prompts, request.segmenter, clip)
        return CompletionInputs(clip, (), {}, _depth(request, clip), canvas)
    found = read_masks(request.masks, allow_truncated=request.allow_truncated)
    tracks = tuple(fit_track(track, clip, what="masks") for track in _chosen(found, request.object_name))
    for track in tracks:
        if not any(track.areas):
            raise InputError(
                f"masks: {track.path}: object {track.name} is empty in every one of {track.num_frames} frames; it "
                "must be visible in at least one"
            )
    return CompletionInputs(clip, tracks, _whole_masks(request, clip, tracks, canvas), _depth(request, clip), canvas)


def _check_source(request: CompletionRequest) -> None:
    """Refuse all but one source of masks."""
    if (request.masks is None) == (request.prompts is None):
        found = "neither" if request.masks is None else "both"
        raise InputError(
            f"--masks: expected either masks or clicks (--point, --box, --text), got {found}; clicks make the masks"
        )
    if request.masks is not None:
        return
    if request.amodal_masks is not None:
        raise InputError("--amodal-masks: needs --masks; make them with `amodal-diffusion segment`")
    if request.object_name is not None:
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
    if request.amodal_masks is None:
        return {}
    what = "amodal-masks"
    found = read_masks(request.amodal_masks, allow_truncated=request.allow_truncated, what=what)
    if len(found) == len(tracks) == 1:
        found = {tracks[0].name: next(iter(found.values()))}
    missing = [track.name for track in tracks if track.name not in found]
    if missing:
        raise InputError(
            f"{what}: {request.amodal_masks}: no masks of object {', '.join(missing)}; there are {', '.join(found)}"
        )
    wide = canvas.place_clip(clip)
    chosen = [found[track.name] for track in tracks]
    fitted = (
        fit_track(track, wide if (track.height, track.width) == (wide.height, wide.width) else clip, what=what)
        for track in chosen
    )
    return {track.name: masks for track, masks in zip(tracks, fitted, strict=True)}


def _depth(request: CompletionRequest, clip: ClipReader) -> DepthTrack | None:
    if request.depth == "auto":
        return None
    if request.depth_model is not None:
        raise InputError(f"--depth-model: nothing to estimate, as --depth is {request.depth}; leave one of them out")
    if request.depth == "none":
        return None
    return fit_depth(open_depth(request.depth, inverse=request.depth_inverse), clip)


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

"""Paths of the files of a result, and the formats in which they are written."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Literal, get_args

from PIL import ImageColor

from amodal_diffusion.io.mask_files import MaskTrack
from amodal_diffusion.io.video_writer import Kind, missing_encoders
from amodal_diffusion.types import InputError


def step_of(track: MaskTrack) -> str:
    """Name of the step that writes an object's files."""
    return f"object {track.name}"


def record_path(track: MaskTrack) -> str:
    """Record of an object: its areas, statistics and times."""
    return f"objects/{track.name}/object.json"


def mask_path(track: MaskTrack, index: int) -> str:
    """Amodal mask of an object in a frame, counted from 0."""
    return f"objects/{track.name}/amodal_masks/{index:05d}.png"


def layer_path(track: MaskTrack, index: int) -> str:
    """Layer of an object in a frame, counted from 0."""
    return f"objects/{track.name}/completed/{index:05d}.png"


def sample_path(track: MaskTrack, sample: int, index: int) -> str:
    """Amodal mask of one sample in a frame, both counted from 0; the folders are numbered from 1."""
    return f"objects/{track.name}/answers/{sample + 1}/{index:05d}.png"


def score_path(track: MaskTrack, index: int) -> str:
    """Score of stage 1 for an object in a frame, counted from 0."""
    return f"objects/{track.name}/{SCORES}/{index:05d}.png"


def uncertainty_path(track: MaskTrack) -> str:
    """Video that shows where the samples differ."""
    return f"objects/{track.name}/uncertainty.mp4"


def layered_path(name: Format, index: int) -> str:
    """Layered picture of a frame, counted from 0, in PSD or OpenRaster."""
    return f"layered/{index:05d}.{name}"


SUMMARY, SCORES = "summary.json", "scores"
OVERLAY, SHEET = "overlay.mp4", "contact_sheet.png"
Format = Literal[
    "png", "prores", "webm", "mp4", "gif", "psd", "ora", "masks-mp4", "davis", "coco", "youtube-vis", "scores"
]
FORMATS: tuple[Format, ...] = get_args(Format)
VIDEOS: dict[Format, tuple[Kind, str]] = {
    "prores": ("prores", "completed.mov"),
    "webm": ("webm", "completed.webm"),
    "mp4": ("mp4", "completed.mp4"),
    "masks-mp4": ("mp4", "amodal_masks.mp4"),
}
"""Formats of one video per object: the kind of video, and the file's name in the object's folder."""
ANNOTATIONS: dict[Format, str] = {"coco": "coco.json", "youtube-vis": "youtube_vis.json"}
"""Formats of one file for all objects: the file's name."""
GIF = "completed.gif"
LAYERED: tuple[Format, ...] = ("psd", "ora")
"""Formats of one file for a frame, with all objects."""
_PAINTED: tuple[Format, ...] = ("prores", "webm", "mp4", "gif", *LAYERED)  # formats of layers, which need stage 2
_OTHER_NAMES: dict[str, Format] = {
    **dict.fromkeys(("mov", "prores4444", "prores-4444", "quicktime", "alpha-mov", "qt"), "prores"),
    **dict.fromkeys(("jpg", "jpeg", "tif", "tiff", "webp", "exr", "bmp", "rgba", "images", "pictures"), "png"),
    **dict.fromkeys(("apng", "animation"), "gif"),
    **dict.fromkeys(("photoshop", "psb", "adobe"), "psd"),
    **dict.fromkeys(("openraster", "krita", "kra", "gimp", "xcf"), "ora"),
    **dict.fromkeys(("vp9", "mkv"), "webm"),
    **dict.fromkeys(("h264", "h.264", "m4v", "avi", "video"), "mp4"),
    **dict.fromkeys(("masks", "mask", "mask-mp4"), "masks-mp4"),
    **dict.fromkeys(("json", "rle"), "coco"),
    **dict.fromkeys(("ytvis", "ytvos", "youtube"), "youtube-vis"),
}
"""Names that users try, and the format that serves them."""


def read_formats(text: str | Sequence[str]) -> tuple[Format, ...]:
    """Parse a list of formats, with commas between them; returns them in the order of `FORMATS`.

    Raises:
        InputError: if a format is unknown (names the one that is meant, or the nearest), or none is given.
    """
    given = text.split(",") if isinstance(text, str) else text
    names = [name.strip().lower().removeprefix(".") for name in given if name.strip()]
    wrong = sorted(set(names) - set(FORMATS))
    if wrong:
        meant = _OTHER_NAMES.get(wrong[0]) or difflib.get_close_matches(wrong[0], FORMATS, n=1, cutoff=0.0)[0]
        raise InputError(
            f"--formats: expected some of {','.join(FORMATS)}, got {','.join(wrong)}; did you mean {meant}?"
        )
    if not names:
        raise InputError(f"--formats: expected some of {','.join(FORMATS)}, got none")
    return tuple(name for name in FORMATS if name in names)


LayerFrames = Literal["auto", "all"] | tuple[int, ...]
"""Frames of which layered pictures are written; ``auto`` is the one in which most is hidden."""


def read_layer_frames(text: str | Sequence[int]) -> LayerFrames:
    """Parse ``auto``, ``all``, or frame numbers with commas between them, counted from 0.

    Raises:
        InputError: if it is something else.
    """
    if text == "auto":
        return "auto"
    if text == "all":
        return "all"
    numbers = [number.strip() for number in (text.split(",") if isinstance(text, str) else map(str, text))]
    if not numbers or not all(number.isascii() and number.isdecimal() for number in numbers):
        raise InputError(f"--layer-frames: expected auto, all, or frames such as 1,5,9, got {text}")
    return tuple(sorted({int(number) for number in numbers}))


def read_color(text: str) -> str:
    """Check a color, which Pillow reads later.

    Raises:
        InputError: if it is neither a CSS color name nor ``#rrggbb``.
    """
    name = str(text).strip()
    try:
        ImageColor.getrgb(name)
    except ValueError:
        raise InputError(f"--over-color: expected a CSS color name or #rrggbb, got {text}") from None
    return name


def check_formats(formats: Sequence[Format], *, painted: bool, sound: bool) -> None:
    """Refuse formats that cannot be written, before the work begins.

    Args:
        formats: formats that are asked for.
        painted: whether stage 2 runs, so that there are RGBA layers.
        sound: whether videos carry the clip's sound.

    Raises:
        InputError: if FFmpeg lacks an encoder, or a format needs RGBA layers and there are none.
    """
    for name in formats:
        if name in _PAINTED and not painted:
            raise InputError(f"--formats: {name} holds layers, which --stages masks leaves out; leave one of them out")
    wanted: dict[str, Kind] = {OVERLAY: "mp4", **{name: VIDEOS[name][0] for name in formats if name in VIDEOS}}
    for file, kind in wanted.items():
        if missing := missing_encoders(kind, sound=sound):
            raise InputError(
                f"--formats: {file} needs FFmpeg's {' and '.join(missing)}, which this build of PyAV lacks; leave it "
                "out, or install PyAV's own wheel (pip install --force-reinstall av)"
            )

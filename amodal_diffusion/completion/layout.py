"""Paths of the files of a result, and the formats in which they are written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

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


SUMMARY, SCORES = "summary.json", "scores"
Format = Literal["png", "prores", "webm", "masks-mp4", "davis", "coco", "youtube-vis", "scores"]
FORMATS: tuple[Format, ...] = get_args(Format)
VIDEOS: dict[Format, tuple[Kind, str]] = {
    "prores": ("prores", "completed.mov"),
    "webm": ("webm", "completed.webm"),
    "masks-mp4": ("mp4", "amodal_masks.mp4"),
}
"""Formats of one video per object: the kind of video, and the file's name in the object's folder."""
ANNOTATIONS: dict[Format, str] = {"coco": "coco.json", "youtube-vis": "youtube_vis.json"}
"""Formats of one file for all objects: the file's name."""
LAYERS: tuple[Format, ...] = ("png", "prores", "webm")


def read_formats(text: str | Sequence[str]) -> tuple[Format, ...]:
    """Parse a list of formats, with commas between them; returns them in the order of `FORMATS`.

    Raises:
        InputError: if a format is unknown, or none is given.
    """
    names = [name.strip() for name in (text.split(",") if isinstance(text, str) else text) if name.strip()]
    wrong = sorted(set(names) - set(FORMATS))
    if wrong or not names:
        raise InputError(f"--formats: expected some of {','.join(FORMATS)}, got {','.join(wrong) or 'none'}")
    return tuple(name for name in FORMATS if name in names)


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
        if name in VIDEOS and name in LAYERS and not painted:
            raise InputError(f"--formats: {name} holds layers, which --stages masks leaves out; leave one of them out")
    wanted: dict[str, Kind] = {"overlay.mp4": "mp4", **{name: VIDEOS[name][0] for name in formats if name in VIDEOS}}
    for file, kind in wanted.items():
        if missing := missing_encoders(kind, sound=sound):
            raise InputError(
                f"--formats: {file} needs FFmpeg's {' and '.join(missing)}, which this build of PyAV lacks; leave it "
                "out, or install PyAV's own wheel (pip install --force-reinstall av)"
            )

"""The formats that `complete` writes results in: names, where they lie, and whether they can be written here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from amodal_diffusion.types import InputError
from amodal_diffusion.video.encoding import Kind, missing_encoders

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

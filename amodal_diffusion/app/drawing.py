"""Masks from a visitor's input: segmentation from clicks, and painted frames."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from amodal_diffusion.basics import InputError
from amodal_diffusion.frames.cuts import shots_of
from amodal_diffusion.frames.drawing import COLORS
from amodal_diffusion.frames.masks import encode_rle, fill_between
from amodal_diffusion.io.images import decode_png, write_mask_png
from amodal_diffusion.io.mask_files import MaskTrack
from amodal_diffusion.io.prompts import MaskPrompt, Point, Prompts
from amodal_diffusion.io.video_reader import ClipReader
from amodal_diffusion.models.segmenters.protocol import Segmenter, checked_masks
from amodal_diffusion.types import BoolArray, UInt8Array


def draw_clicks(rgb: UInt8Array, points: Sequence[Point]) -> UInt8Array:
    """Draw clicks on a frame in the color of their object: a disc for a positive point, a cross for a negative one.

    Args:
        rgb: the frame, uint8 ``[H, W, 3]``.
        points: clicks in this frame; objects are named by numbers from 1 on.

    Returns:
        uint8 ``[H, W, 3]``.
    """
    picture = Image.fromarray(rgb)
    pen = ImageDraw.Draw(picture)
    radius = max(3, min(rgb.shape[:2]) // 60)
    for point in points:
        color = COLORS[(int(point.object_name) - 1) % len(COLORS)]
        x, y = point.x, point.y
        box = (x - radius, y - radius, x + radius, y + radius)
        if point.inside:
            pen.ellipse(box, fill=color, outline=(0, 0, 0), width=max(1, radius // 3))
        else:
            for line in (box, (box[0], box[3], box[2], box[1])):
                pen.line(line, fill=(0, 0, 0), width=radius)
                pen.line(line, fill=color, width=max(1, radius // 2))
    return np.array(picture)


def draw_masks(rgb: UInt8Array, masks: Mapping[str, BoolArray]) -> UInt8Array:
    """Tint a frame where objects are, each in the color of its clicks.

    Args:
        rgb: the frame, uint8 ``[H, W, 3]``.
        masks: bool ``[H, W]`` by name of the object, a number from 1 on.

    Returns:
        uint8 ``[H, W, 3]``.
    """
    picture = rgb.copy()
    for name, mask in masks.items():
        color = np.array(COLORS[(int(name) - 1) % len(COLORS)], np.uint16)
        picture[mask] = (picture[mask] + color) // 2
    return picture


def write_clicked(
    clip: ClipReader, points: Sequence[Point], segmenter: Segmenter, folder: Path, on_share: Callable[[float], None]
) -> None:
    """Segment the clicked objects in all frames, and write a folder of masks for each.

    Args:
        clip: the frames.
        points: clicks, in any frame.
        segmenter: network that predicts the masks.
        folder: existing empty folder.
        on_share: called with the share of masks written, from 0 to 1; an exception that it raises stops the work.

    Raises:
        InputError: if there is no click, or a click selects nothing.
    """
    _write_prompted(clip, Prompts(points=tuple(points)), segmenter, folder, on_share)


def write_followed(
    clip: ClipReader,
    painting: Painting,
    segmenter: Segmenter,
    folder: Path,
    on_share: Callable[[float], None],
    *,
    cuts: Sequence[int] = (),
) -> None:
    """Follow what is painted in some frames through all frames of its shots, and write a folder of masks an object.

    Args:
        clip: the frames.
        painting: masks of some frames, which are written as they are.
        segmenter: predicts the masks of the other frames.
        folder: existing empty folder.
        on_share: as for :func:`write_clicked`.
        cuts: first frames of the shots after the first one. A shot without painted frames shows no object.

    Raises:
        InputError: if nothing is painted.
    """
    _write_prompted(clip, painting.prompts(), segmenter, folder, on_share)
    for first, end in shots_of(clip.num_frames, cuts):
        in_shot = [frame for frame in painting.frames if first <= frame < end]
        for frame in in_shot or range(first, end):
            for label in painting.objects:
                write_mask_png(folder / str(label) / f"{frame:05d}.png", painting.mask(frame, label))


def write_corrected(painting: Painting, tracks: Mapping[str, MaskTrack], folder: Path) -> None:
    """Write masks with the painted frames in place of their own, a folder an object.

    Args:
        painting: the frames that differ; their labels are those of :func:`labels_of_objects`.
        tracks: masks of each object.
        folder: existing empty folder.
    """
    labels = labels_of_objects(tracks)
    names = {label: name for name, label in labels.items()}
    num_frames = max(track.num_frames for track in tracks.values())
    for label in sorted({*names, *painting.objects}):
        name = names.get(label, str(label) if {*labels} <= _NUMBERS else f"object-{label}")
        (folder / name).mkdir()
        masks = iter(tracks[name]) if name in tracks else None
        for frame in range(num_frames):
            given = painting.mask(frame, label) if masks is None else next(masks)
            write_mask_png(
                folder / name / f"{frame:05d}.png", painting.mask(frame, label) if frame in painting.frames else given
            )


def shrunken_frames(areas: Sequence[int], shown: Sequence[int]) -> list[int]:
    """Frames in which a mask is much smaller than in the nearest frame that a visitor showed the object in.

    Args:
        areas: pixels of the mask in each frame.
        shown: frames that were painted or clicked.
    """
    known = [frame for frame in shown if areas[frame]]
    if not known:
        return []
    nearest = (min(known, key=lambda frame: abs(frame - index)) for index in range(len(areas)))
    return [
        index
        for index, frame in enumerate(nearest)
        if index not in shown and areas[index] < _MUCH_SMALLER * areas[frame]
    ]


def frame_ranges(frames: Sequence[int]) -> str:
    """Words for frames: ``frame 3``, or ``frames 8 to 24, 30``.

    Args:
        frames: sorted indices, at least one.
    """
    ranges: list[list[int]] = []
    for frame in frames:
        if ranges and frame == ranges[-1][-1] + 1:
            ranges[-1] = [ranges[-1][0], frame]
        else:
            ranges.append([frame])
    words = ", ".join(" to ".join(map(str, ends)) for ends in ranges)
    return f"frame{'s' if len(frames) > 1 else ''} {words}"


def labels_of_objects(names: Iterable[str]) -> dict[str, int]:
    """Label of each object: its name where all are names of painted objects, else its place, from 1.

    Args:
        names: names of the objects, in order.
    """
    found = list(names)
    return {name: int(name) if {*found} <= _NUMBERS else place for place, name in enumerate(found, 1)}


def _write_prompted(
    clip: ClipReader, prompts: Prompts, segmenter: Segmenter, folder: Path, on_share: Callable[[float], None]
) -> None:
    empty = np.zeros((clip.height, clip.width), np.bool_)
    for name in prompts.objects:
        (folder / name).mkdir()
        for frame in range(clip.num_frames):  # the segmenter leaves out frames in which an object is not visible
            write_mask_png(folder / name / f"{frame:05d}.png", empty)
    total = max(1, len(prompts.objects) * clip.num_frames)
    masks = checked_masks(segmenter, clip, prompts, num_frames=clip.num_frames, height=clip.height, width=clip.width)
    for number, entry in enumerate(masks):
        on_share(number / total)
        write_mask_png(folder / entry.object_name / f"{entry.frame:05d}.png", entry.mask)


OBJECTS = 5
"""Largest number of objects that can be painted, each in its overlay color."""
_NUMBERS = {str(number + 1) for number in range(OBJECTS)}  # names of painted objects
_MUCH_SMALLER = 0.25  # share of the area of a mask that was shown
_DATA_URL = "data:image/png;base64,"
_CLEAR = 128  # alpha threshold; lower values are the soft edge of a stroke


class Painting:
    """Label maps of the painted frames: uint8 ``[H, W]``, 0 for the background, 1 to `OBJECTS` for an object.

    Attributes:
        masks: name of the masks that frames without paint showed while others were painted; empty if they were blank.
    """

    def __init__(self) -> None:
        """Start without painted frames."""
        self._labels: dict[int, UInt8Array] = {}
        self.masks = ""

    @property
    def frames(self) -> list[int]:
        """Sorted indices of the painted frames, including those marked as showing no object."""
        return sorted(self._labels)

    @property
    def objects(self) -> list[int]:
        """Sorted labels of the painted objects."""
        return sorted({int(label) for labels in self._labels.values() for label in np.unique(labels) if label})

    def put(self, frame: int, labels: UInt8Array) -> None:
        """Set the labels of a frame.

        Args:
            frame: index of the frame, from 0.
            labels: uint8 ``[H, W]``; all 0 marks the frame as showing no object.
        """
        self._labels[frame] = labels

    def mask(self, frame: int, label: int) -> BoolArray:
        """Mask of an object in a frame, bool ``[H, W]``; empty where the frame is not painted."""
        labels = self._labels.get(frame)
        return next(iter(self._labels.values())) < 0 if labels is None else labels == label

    def has_ends(self, num_frames: int, cuts: Sequence[int] = ()) -> bool:
        """Whether the first and the last frame are painted of each shot that is painted at all.

        Args:
            num_frames: number of frames of the clip.
            cuts: as for :meth:`labels`.
        """
        shots = [(first, end) for first, end in shots_of(num_frames, cuts) if {*range(first, end)} & {*self.frames}]
        return all({first, end - 1} <= self._labels.keys() for first, end in shots)

    def prompts(self) -> Prompts:
        """The painted masks, for a segmenter that follows them.

        Raises:
            InputError: if nothing is painted.
        """
        self._check()
        return Prompts(
            masks=tuple(
                MaskPrompt(encode_rle(self.mask(frame, label)), frame, str(label))
                for frame in self.frames
                for label in self.objects
                if self.mask(frame, label).any()
            )
        )

    def labels(self, num_frames: int, cuts: Sequence[int] = ()) -> list[UInt8Array]:
        """Label maps of all frames; frames between painted ones of a shot are interpolated.

        Args:
            num_frames: number of frames of the clip.
            cuts: first frames of the shots after the first one. A shot without painted frames shows no object.

        Raises:
            InputError: if nothing is painted, or the first or last frame of a shot is not.
        """
        self._check()
        empty = np.zeros_like(next(iter(self._labels.values())))
        filled: list[UInt8Array] = [empty.copy() for _ in range(num_frames)]
        for first, end in shots_of(num_frames, cuts):
            painted = {frame: labels for frame, labels in self._labels.items() if first <= frame < end}
            if not painted:
                continue
            _check_ends(painted, first, end - 1, what="shot" if cuts else "clip")
            for label in self.objects:
                masks = fill_between({frame: labels == label for frame, labels in painted.items()})
                for frame, mask in masks.items():
                    filled[frame][mask] = label
        return filled

    def _check(self) -> None:
        if not self.objects:
            raise InputError("masks: nothing is painted yet; paint the visible part of the object")

    def write(self, folder: Path, num_frames: int, cuts: Sequence[int] = ()) -> None:
        """Write the label maps of all frames as palette PNG files.

        Args:
            folder: existing folder.
            num_frames: number of frames of the clip.
            cuts: as for :meth:`labels`.

        Raises:
            InputError: if nothing is painted, or the first or last frame of a shot is not.
        """
        for frame, labels in enumerate(self.labels(num_frames, cuts)):
            picture = Image.fromarray(labels)
            picture.putpalette(_palette().tobytes())
            picture.save(folder / f"{frame:05d}.png")


def read_painting(text: str, *, num_frames: int, height: int, width: int) -> Painting:
    """Read what the drawing board sends: JSON that maps a frame to a PNG of its paint as a data URL, and ``masks``.

    Args:
        text: of a visitor, so anything may come; ``""`` instead of a PNG marks a frame as showing no object.
        num_frames: number of frames of the clip.
        height: height of a frame in pixels.
        width: width of a frame in pixels.

    Raises:
        InputError: if it is anything else, or a PNG is larger than the board or the frame.
    """
    try:
        sent = json.loads(text or "{}")
        painting = Painting()
        painting.masks = str(sent.pop("masks", ""))
        for key, url in sent.items():
            frame = int(key)
            if not 0 <= frame < num_frames:
                raise ValueError(f"no frame {frame}")
            labels = np.zeros((height, width), np.uint8)
            if url:
                labels = labels_of([_decode(url, height, width)], height=height, width=width)
            painting.put(frame, labels)
    except (ValueError, AttributeError, TypeError, OSError, RecursionError) as error:
        raise InputError("masks: this page cannot read the paint; load the page again") from error
    return painting


def _decode(url: str, height: int, width: int) -> UInt8Array:
    """RGBA of a data URL, uint8 ``[h, w, 4]``; ValueError unless it is a PNG of at most the frame's size."""
    if not url.startswith(_DATA_URL):
        raise ValueError("no PNG")
    return decode_png(base64.b64decode(url[len(_DATA_URL) :], validate=True), height=height, width=width)


def _check_ends(painted: Mapping[int, UInt8Array], first: int, last: int, *, what: str) -> None:
    missing = sorted({first, last} - painted.keys())
    if missing:
        raise InputError(
            f"masks: frame {' and '.join(map(str, missing))} is not painted; paint the first and the last frame of the "
            f"{what}, or mark them as showing nothing; frames between painted ones are filled in"
        )


def labels_of(layers: Sequence[UInt8Array], *, height: int, width: int) -> UInt8Array:
    """Label each painted pixel with the object whose color is nearest.

    Args:
        layers: paint, RGBA uint8 ``[h, w, 4]``, resized to the frame; later layers cover earlier ones.
        height: height of the frame in pixels.
        width: width of the frame in pixels.

    Returns:
        label map, uint8 ``[height, width]``, 0 where nothing is painted.
    """
    labels = np.zeros((height, width), np.uint8)
    colors = np.array(COLORS[:OBJECTS], np.int32)
    for paint in layers:
        layer = np.asarray(Image.fromarray(paint).resize((width, height), Image.Resampling.NEAREST))
        painted: BoolArray = layer[..., 3] >= _CLEAR
        distances = ((layer[painted][:, None, :3].astype(np.int32) - colors) ** 2).sum(axis=-1)  # [N, OBJECTS]
        labels[painted] = distances.argmin(axis=-1) + 1
    return labels


def _palette() -> UInt8Array:
    """RGB of each label, uint8 ``[256, 3]``; black for 0 and labels above `OBJECTS`."""
    palette = np.zeros((256, 3), np.uint8)
    palette[1 : OBJECTS + 1] = COLORS[:OBJECTS]
    return palette

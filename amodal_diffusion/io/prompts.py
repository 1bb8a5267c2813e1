"""Segmentation prompts: points, boxes, brush strokes, painted masks and texts that select objects in a clip."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from amodal_diffusion.basics import InputError
from amodal_diffusion.frames.masks import Rle, check_rle, rle_area
from amodal_diffusion.io.images import natural_key
from amodal_diffusion.io.mask_pictures import SINGLE

_NAME = re.compile(r"[0-9A-Za-z][\w-]*")  # names become folders


@dataclass(frozen=True)
class Point:
    """A point prompt.

    Attributes:
        x: horizontal position in pixels, at least 0 and below the frame's width.
        y: vertical position in pixels, at least 0 and below the frame's height.
        frame: index of the frame, the first is 0.
        inside: True for a positive point on the object, False for a negative point outside it.
        object_name: the object's ID.
    """

    x: float
    y: float
    frame: int = 0
    inside: bool = True
    object_name: str = SINGLE


@dataclass(frozen=True)
class Box:
    """A box prompt around an object's visible part; at most one for each object and frame.

    Attributes:
        left: left edge in pixels, at least 0.
        top: upper edge in pixels, at least 0.
        right: right edge in pixels, above ``left``, at most the frame's width.
        bottom: lower edge in pixels, above ``top``, at most the frame's height.
        frame: index of the frame, the first is 0.
        object_name: the object's ID.
    """

    left: float
    top: float
    right: float
    bottom: float
    frame: int = 0
    object_name: str = SINGLE


@dataclass(frozen=True)
class Stroke:
    """A brush stroke: some pixels of the object, or some outside it.

    Attributes:
        mask: the painted pixels, run-length encoded at the frame's size (`frames.masks.encode_rle`); not empty.
        frame: index of the frame, the first is 0.
        inside: True for a stroke on the object, False for a stroke outside it.
        object_name: the object's ID.
    """

    mask: Rle
    frame: int = 0
    inside: bool = True
    object_name: str = SINGLE


@dataclass(frozen=True)
class MaskPrompt:
    """The complete visible mask of an object in one frame, painted or corrected by hand; at most one for each.

    Attributes:
        mask: run-length encoded at the frame's size (`frames.masks.encode_rle`); not empty.
        frame: index of the frame, the first is 0.
        object_name: the object's ID.
    """

    mask: Rle
    frame: int = 0
    object_name: str = SINGLE


@dataclass(frozen=True)
class Shown:
    """Prompts of one object in one frame: at least a box, a mask, or a positive point or stroke.

    Attributes:
        points: positive and negative points.
        box: the box, or None.
        strokes: positive and negative brush strokes.
        mask: the complete visible mask, or None; it outweighs all other prompts.
    """

    points: tuple[Point, ...]
    box: Box | None
    strokes: tuple[Stroke, ...] = ()
    mask: MaskPrompt | None = None

    @property
    def _marks(self) -> tuple[Point | Stroke, ...]:
        return (*self.points, *self.strokes)

    @property
    def is_positive(self) -> bool:
        """Whether the prompts show where the object is, not only where it is not."""
        return self.box is not None or self.mask is not None or any(entry.inside for entry in self._marks)


@dataclass(frozen=True)
class Prompts:
    """Prompts of all objects in a clip: either points, boxes, strokes and masks, or texts.

    Attributes:
        points: point prompts.
        boxes: box prompts.
        texts: concepts to find, such as ``"person"``; each instance becomes an object.
        strokes: brush strokes.
        masks: complete masks of single frames.
    """

    points: tuple[Point, ...] = ()
    boxes: tuple[Box, ...] = ()
    texts: tuple[str, ...] = ()
    strokes: tuple[Stroke, ...] = ()
    masks: tuple[MaskPrompt, ...] = ()

    @property
    def objects(self) -> tuple[str, ...]:
        """Names of the objects that prompts show, in natural order; text prompts have no object names."""
        return tuple(sorted({entry.object_name for entry in self._entries}, key=natural_key))

    @property
    def _entries(self) -> tuple[Point | Box | Stroke | MaskPrompt, ...]:
        return (*self.points, *self.boxes, *self.strokes, *self.masks)

    def shown(self, object_name: str) -> Mapping[int, Shown]:
        """Prompts of one object by frame index, in frame order.

        Args:
            object_name: the object's ID.
        """
        points = [point for point in self.points if point.object_name == object_name]
        strokes = [stroke for stroke in self.strokes if stroke.object_name == object_name]
        boxes = {box.frame: box for box in self.boxes if box.object_name == object_name}
        masks = {mask.frame: mask for mask in self.masks if mask.object_name == object_name}
        frames = sorted({entry.frame for entry in self._entries if entry.object_name == object_name})
        return {
            frame: Shown(
                tuple(point for point in points if point.frame == frame),
                boxes.get(frame),
                tuple(stroke for stroke in strokes if stroke.frame == frame),
                masks.get(frame),
            )
            for frame in frames
        }

    def check(self, *, num_frames: int, height: int, width: int) -> None:
        """Validate the prompts for a clip.

        Args:
            num_frames: number of frames of the clip.
            height: height of a frame in pixels.
            width: width of a frame in pixels.

        Raises:
            InputError: if there is no prompt, a prompt is outside the clip, an object has two boxes or only negative
                points in a frame, or texts are combined with points or boxes.
        """
        if not (self._entries or self.texts):
            raise InputError("prompt: no point, box or text is given; give at least one")
        if self.texts and self._entries:
            raise InputError("text: cannot be combined with points and boxes; leave one of them out")
        if not all(text.strip() for text in self.texts):
            raise InputError("text: empty; give what to find, such as 'person'")
        for entry in self._entries:
            _check_entry(entry, num_frames, height, width)
        for name in self.objects:
            self._check_object(name)

    def _check_object(self, name: str) -> None:
        for kind, plural, entries in (("box", "boxes", self.boxes), ("mask", "masks", self.masks)):
            frames = [entry.frame for entry in entries if entry.object_name == name]
            twice = sorted({frame for frame in frames if frames.count(frame) > 1})
            if twice:
                raise InputError(
                    f"{kind}: object {name} has {frames.count(twice[0])} {plural} in frame {twice[0]}, expected one; "
                    "give other objects their own names (ID:...)"
                )
        for frame, shown in self.shown(name).items():
            if not shown.is_positive:
                raise InputError(
                    f"negative-point: object {name} has no point and no box in frame {frame}; add a point on the "
                    "object or a box in that frame"
                )


def _check_entry(entry: Point | Box | Stroke | MaskPrompt, num_frames: int, height: int, width: int) -> None:
    if isinstance(entry, (Stroke, MaskPrompt)):
        kind = "stroke" if isinstance(entry, Stroke) else "mask"
        what = f"{kind} of object {entry.object_name} in frame {entry.frame}"
        check_rle(entry.mask)
        area, size = rle_area(entry.mask), " x ".join(map(str, entry.mask["size"]))
        if entry.mask["size"] != [height, width] or not area:
            raise InputError(f"{what}: expected at least one pixel in {height} x {width}, got {area} in {size}")
        within = True
    elif isinstance(entry, Point):
        what = f"{'point' if entry.inside else 'negative-point'}: {entry.x:g},{entry.y:g}@{entry.frame}"
        within = 0 <= entry.x < width and 0 <= entry.y < height
    else:
        what = f"box: {entry.left:g},{entry.top:g},{entry.right:g},{entry.bottom:g}@{entry.frame}"
        within = 0 <= entry.left < entry.right <= width and 0 <= entry.top < entry.bottom <= height
    if not _NAME.fullmatch(entry.object_name):
        raise InputError(
            f"{what}: object {entry.object_name!r}: expected a name of letters, digits, - and _, as it becomes a folder"
        )
    if not 0 <= entry.frame < num_frames:
        raise InputError(f"{what}: no such frame; the clip has {num_frames}, numbered 0 to {num_frames - 1}")
    if not within:
        place = "a place in" if isinstance(entry, Point) else "left < right and top < bottom in"
        raise InputError(f"{what}: expected {place} the frame of {width}x{height} pixels")

"""What a user shows of the objects in a clip, for a segmenter: points, boxes and texts, checked against the clip."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from amodal_diffusion.io.images import natural_key
from amodal_diffusion.io.mask_pictures import SINGLE
from amodal_diffusion.types import InputError

_NAME = re.compile(r"[0-9A-Za-z][\w-]*")  # names become folders


@dataclass(frozen=True)
class Point:
    """A click.

    Attributes:
        x: pixels from the frame's left edge, from 0 to below its width.
        y: pixels from the frame's upper edge, from 0 to below its height.
        frame: index of the frame, the first is 0.
        inside: whether the object is there; False for what was taken for it and is not.
        object_name: the object's ID.
    """

    x: float
    y: float
    frame: int = 0
    inside: bool = True
    object_name: str = SINGLE


@dataclass(frozen=True)
class Box:
    """A bounding box of an object's visible part; at most one for each object and frame.

    Attributes:
        left: pixels from the frame's left edge.
        top: pixels from the frame's upper edge.
        right: above ``left``, at most the frame's width.
        bottom: above ``top``, at most the frame's height.
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
class Shown:
    """All that is shown of one object in one frame: a box, a point inside, or both, and points beside it.

    Attributes:
        points: on the object and beside it.
        box: around it, if given.
    """

    points: tuple[Point, ...]
    box: Box | None


@dataclass(frozen=True)
class Prompts:
    """All that is shown of all objects: points and boxes, or texts that name what to find.

    Attributes:
        points: clicks.
        boxes: boxes.
        texts: what to find, such as ``"person"``; every instance is an object.
    """

    points: tuple[Point, ...] = ()
    boxes: tuple[Box, ...] = ()
    texts: tuple[str, ...] = ()

    @property
    def objects(self) -> tuple[str, ...]:
        """Names of the objects that points and boxes show, in natural order; those of texts are not known before."""
        return tuple(sorted({entry.object_name for entry in self._entries}, key=natural_key))

    @property
    def _entries(self) -> tuple[Point | Box, ...]:
        return (*self.points, *self.boxes)

    def shown(self, object_name: str) -> Mapping[int, Shown]:
        """What is shown of one object, by frame, in the order of the frames.

        Args:
            object_name: the object's ID.
        """
        points = [point for point in self.points if point.object_name == object_name]
        boxes = {box.frame: box for box in self.boxes if box.object_name == object_name}
        frames = sorted({point.frame for point in points} | boxes.keys())
        return {
            frame: Shown(tuple(point for point in points if point.frame == frame), boxes.get(frame)) for frame in frames
        }

    def check(self, *, num_frames: int, height: int, width: int) -> None:
        """Hold the prompts against the clip that they are for.

        Args:
            num_frames: of the clip.
            height: of its frames, pixels.
            width: of its frames, pixels.

        Raises:
            InputError: if nothing is shown, a place or a frame is outside the clip, or something contradicts itself.
        """
        if not (self.points or self.boxes or self.texts):
            raise InputError("prompt: nothing is shown of any object; give a point on it, a box around it, or a text")
        if self.texts and (self.points or self.boxes):
            raise InputError("text: cannot be combined with points and boxes; leave one of them out")
        if not all(text.strip() for text in self.texts):
            raise InputError("text: empty; say what to find, such as 'person'")
        for entry in self._entries:
            _check_entry(entry, num_frames, height, width)
        for name in self.objects:
            self._check_object(name)

    def _check_object(self, name: str) -> None:
        boxes = [box.frame for box in self.boxes if box.object_name == name]
        twice = sorted({frame for frame in boxes if boxes.count(frame) > 1})
        if twice:
            raise InputError(
                f"box: object {name} has {boxes.count(twice[0])} boxes in frame {twice[0]}, expected one; give other "
                "objects their own names (ID:...)"
            )
        for frame, shown in self.shown(name).items():
            if shown.box is None and not any(point.inside for point in shown.points):
                raise InputError(
                    f"negative-point: object {name} has no point and no box in frame {frame}; show there, too, where "
                    "it is"
                )


def _check_entry(entry: Point | Box, num_frames: int, height: int, width: int) -> None:
    if isinstance(entry, Point):
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

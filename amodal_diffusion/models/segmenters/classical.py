"""A segmenter without weights: superpixels, color votes and a random walker, carried through the clip by optical flow.

In each frame that prompts show an object in, its region grows from the seeds. From there, frame by frame, the flow
carries the mask on, superpixels of earlier frames vote by color and place for those of the next frame, and a random
walker draws the border. The result is the same bytes each time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
from PIL import Image
from scipy import ndimage

from amodal_diffusion.basics import InputError
from amodal_diffusion.frames.masks import decode_rle
from amodal_diffusion.io.prompts import Prompts, Shown
from amodal_diffusion.models.segmenters.protocol import ObjectMask
from amodal_diffusion.models.segmenters.superpixels import (
    Superpixels,
    Values,
    closeness,
    flow_between,
    to_pixels,
)
from amodal_diffusion.types import BoolArray, FloatArray, UInt8Array

_HELD = 32  # frames held while a clip is gone through backwards
_COLOR = 7.0  # Lab difference of one standard deviation, within a frame
_SAME = 3.0  # Lab difference of one standard deviation, between frames
_NEAR, _WIDE = 0.03, 0.12  # of place, in longest sides: between neighboring frames, and to a frame with prompts
_CLICK, _ABOUT = 0.05, 0.3  # of place around a click: at the start, and of the object
_ROUNDS = 5
_SHARPER = 0.04  # contrast that the border of the larger of two regions must have more
_GROWN, _CARRIED = 1.0, 15.0  # trust in votes, against links between neighbors: with prompts alone, and after a frame
_SHARPEN, _SHARPEN_CARRIED = 3.0, 8.0  # slope of a probability about 0.5
_MOVED = 0.05  # weight of the carried mask itself; the rest is votes
_TOUCHED = 0.2  # share of a superpixel that makes a stroke a seed
_PART = 0.1  # of the largest part's area; smaller parts of a box or a carried mask are dropped
_REACH = 0.05  # longest sides that a mask may move beyond what the flow says
_GATE = 100.0  # slope at the end of the reach
_LEAST = 2e-4  # share of the frame; less is nothing
_FOUND = 0.1  # share of the area shown by prompts that a lost object must have to be found again


@dataclass
class _Believed:
    """Where an object is in one frame: probability of each superpixel."""

    view: Superpixels
    inside: Values

    @property
    def pixels(self) -> FloatArray:
        """Probability of each pixel at working size, float32 ``[h, w]``."""
        return self.inside[self.view.labels].astype(np.float32)

    @property
    def area(self) -> float:
        """Pixels at working size."""
        return float(self.view.areas @ (self.inside > 0.5))


class ClassicalSegmenter:
    """Follows objects from points, boxes, strokes and painted masks, by color and motion alone.

    A clip is gone through forwards from each object's first prompt, then, where there are frames before it or between
    two prompts, backwards. Between two frames with prompts both ways are blended.
    """

    def segment(self, frames: Iterable[UInt8Array], prompts: Prompts) -> Iterator[ObjectMask]:
        """Segment a clip, as `Segmenter` says.

        Args:
            frames: uint8 ``[H, W, 3]``, RGB; gone through once, and again for each 32 frames on the way back.
            prompts: points, boxes, strokes and painted masks.

        Raises:
            InputError: if there are texts among the prompts.
        """
        if prompts.texts:
            raise InputError(
                "text: the segmenter without weights knows points and boxes alone; give those, or a SAM 3 model "
                "(--segmenter facebook/sam3)"
            )
        tracks = [_Track(name, dict(prompts.shown(name))) for name in prompts.objects]
        return self._segment(frames, tracks)

    def _segment(self, frames: Iterable[UInt8Array], tracks: list[_Track]) -> Iterator[ObjectMask]:
        first, last = min(track.first for track in tracks), max(track.last for track in tracks)
        forwards = ((index, rgb) for index, rgb in enumerate(frames) if index >= first)
        for index, rgb in _steps(forwards, [(track, track.first, None) for track in tracks]):
            for track in tracks:
                if track.first < index < track.last and index not in track.shown:
                    track.hold(index)
                elif index >= track.first:
                    yield ObjectMask(track.name, index, to_pixels(track.pixels, rgb))
        backwards = [track for track in tracks if track.last > track.first or track.first > 0]
        if not backwards:
            return
        for index, rgb in _steps(_reversed(frames, last), [(track, None, track.last) for track in backwards]):
            for track in backwards:
                if index < track.last and index not in track.shown:
                    yield ObjectMask(track.name, index, to_pixels(track.blended(index), rgb))


def _steps(
    frames: Iterable[tuple[int, UInt8Array]], tracks: list[tuple[_Track, int | None, int | None]]
) -> Iterator[tuple[int, UInt8Array]]:
    """Let tracks see frames in order, each from its start on.

    Args:
        frames: numbered frames, in either order.
        tracks: each with the first frame that it sees, or the last.
    """
    before: Superpixels | None = None
    for index, rgb in frames:
        view = Superpixels.of(rgb)
        seeing = [
            track for track, start, end in tracks if (start is None or index >= start) and (end is None or index <= end)
        ]
        flow = None if before is None or not seeing else flow_between(before, view)
        shown = {track.name: track.seeds(index, view, rgb.shape[:2]) for track in seeing if index in track.shown}
        for track in seeing:
            others = [seeds for name, seeds in shown.items() if name != track.name]
            track.see(index, view, flow, shown.get(track.name), others)
        _separate([track for track in seeing if track.now is not None])
        yield index, rgb
        before = view


def _reversed(frames: Iterable[UInt8Array], last: int) -> Iterator[tuple[int, UInt8Array]]:
    """Frames up to one, last first, each with its number."""
    stop = last + 1
    while stop > 0:
        start = max(0, stop - _HELD)
        held = list(islice(frames, start, stop))
        for index in range(stop - 1, start - 1, -1):
            yield index, held.pop()
        stop = start


def _separate(tracks: list[_Track]) -> None:
    """Leave each superpixel to the object that is surest of it; to the first of equal ones."""
    if len(tracks) < 2:
        return
    inside = np.stack([track.believed.inside for track in tracks])
    surest = inside.argmax(axis=0)
    for number, track in enumerate(tracks):
        track.believed.inside = np.where(surest == number, inside[number], np.minimum(inside[number], 0.4))


@dataclass
class _Seeds:
    """What prompts say about the superpixels of a frame.

    Attributes:
        known: 1 in the object, 0 outside, NaN unknown, ``[n]``.
        places: centers of the positive points and strokes, ``[k, 2]``.
        box: share of each superpixel inside the box, ``[n]``; None without a box.
        painted: share of each superpixel inside a painted mask, ``[n]``; None without one.
        exact: the painted mask at working size, float32 ``[h, w]``; None without one.
    """

    known: Values
    places: Values
    box: Values | None = None
    painted: Values | None = None
    exact: FloatArray | None = None


@dataclass
class _Track:
    """One object on its way through the clip, forwards or backwards."""

    name: str
    shown: dict[int, Shown]
    now: _Believed | None = None
    here: _Believed | None = None  # the last frame that shows it
    exact: FloatArray | None = None
    anchors: dict[int, _Believed] = field(default_factory=dict)
    painted: dict[int, FloatArray] = field(default_factory=dict)
    held: dict[int, UInt8Array] = field(default_factory=dict)
    carried: FloatArray | None = None  # where it would be now, if something hides it

    @property
    def first(self) -> int:
        return min(self.shown)

    @property
    def last(self) -> int:
        return max(self.shown)

    @property
    def believed(self) -> _Believed:
        if self.now is None:
            raise RuntimeError(f"object {self.name}: has seen no frame")
        return self.now

    @property
    def pixels(self) -> FloatArray:
        return self.exact if self.exact is not None else self.believed.pixels

    def hold(self, index: int) -> None:
        """Keep the probability of a frame until the way back reaches it."""
        self.held[index] = np.rint(255 * self.pixels).astype(np.uint8)

    def blended(self, index: int) -> FloatArray:
        """The probability of the way back, blended with that of the way there between two frames with prompts."""
        there = self.held.pop(index, None)
        if there is None:
            return self.pixels
        before = max(frame for frame in self.shown if frame < index)
        after = min(frame for frame in self.shown if frame > index)
        share = np.float32((index - before) / (after - before))
        return (1 - share) * there.astype(np.float32) / 255 + share * self.pixels

    def seeds(self, index: int, view: Superpixels, size: tuple[int, ...]) -> _Seeds:
        """Bring the prompts of a frame to its superpixels."""
        shown, height, width = self.shown[index], *size[:2]
        found = _Seeds(np.full(len(view.areas), np.nan), np.zeros((0, 2)))
        if shown.box is not None:
            rows, columns = np.mgrid[:height, :width]
            box = (rows >= shown.box.top - 0.5) & (rows < shown.box.bottom) & (columns >= shown.box.left - 0.5)
            found.box = view.mean(_shrunk(box & (columns < shown.box.right), view))
            found.known[found.box < 0.5] = 0
        strokes = [(view.mean(_shrunk(decode_rle(stroke.mask), view)), stroke.inside) for stroke in shown.strokes]
        for share, inside in sorted(strokes, key=lambda stroke: stroke[1], reverse=True):
            found.known[share > min(_TOUCHED, share.max() / 2)] = inside
        for point in sorted(shown.points, key=lambda point: point.inside, reverse=True):
            found.known[view.at(point.x, point.y, size=(height, width))] = point.inside
        found.places = view.centers[found.known == 1]
        if shown.mask is not None:
            found.exact = _shrunk(decode_rle(shown.mask.mask), view)
            found.painted = view.mean(found.exact)
        return found

    def see(
        self, index: int, view: Superpixels, flow: FloatArray | None, seeds: _Seeds | None, others: list[_Seeds]
    ) -> None:
        """Find the object in the next frame."""
        self.exact = None
        if index in self.anchors:  # on the way back
            self.now, self.exact = self.anchors[index], self.painted.get(index)
        elif seeds is not None and seeds.painted is not None and seeds.exact is not None:
            self.now, self.exact = _Believed(view, seeds.painted), seeds.exact
            self.painted[index] = seeds.exact
        elif seeds is not None and (self.here is None or flow is None):
            for other in others:
                seeds.known[(other.known == 1) & np.isnan(seeds.known)] = 0
            self.now = _Believed(view, _grow(view, seeds))
        else:
            self.now = _Believed(view, self._carry(view, flow, seeds))
        if seeds is not None:
            self.anchors[index] = self.now
        if self.now.area > 0:
            self.here, self.carried = self.now, self.now.pixels

    def _carry(self, view: Superpixels, flow: FloatArray | None, seeds: _Seeds | None) -> Values:
        """Probability of each superpixel by what is known of the frame before and of the frames with prompts."""
        if self.here is None or self.carried is None or flow is None:
            return np.zeros(len(view.areas))
        lost = self.now is not None and self.now.area == 0
        grid = np.mgrid[: view.labels.shape[0], : view.labels.shape[1]].astype(np.float32)
        self.carried = ndimage.map_coordinates(self.carried, grid + flow, order=1, mode="nearest", output=np.float32)
        moved = view.mean(self.carried)
        longest = max(view.labels.shape)
        blurred = ndimage.gaussian_filter(self.carried, _REACH * longest * (2 if lost else 1))
        gate = np.minimum(1.0, _GATE * view.mean(blurred))
        back = view.centers + np.stack([view.mean(part) for part in flow], axis=1) / longest
        votes = [] if lost else [_vote(view, back, self.here, _NEAR)]
        weight = self.carried / max(1e-6, float(self.carried.sum()))
        center = np.array([(weight * line).sum() for line in grid]) / longest
        for anchor in self.anchors.values():
            mass = anchor.inside * anchor.view.areas
            shift = mass @ anchor.view.centers / max(1e-6, mass.sum()) - center
            votes.append(_vote(view, view.centers + shift, anchor, _WIDE))
        voted = np.mean(votes, axis=0)
        prior = gate * (voted if lost else _MOVED * moved + (1 - _MOVED) * voted)
        known = np.full(len(view.areas), np.nan) if seeds is None else seeds.known.copy()
        known[(gate < 0.05) & np.isnan(known)] = 0
        inside = _sharpened(view.walk(prior, known, trust=_CARRIED), _SHARPEN_CARRIED)
        inside = _large_parts(view, inside, known)
        area = float(view.areas @ (inside > 0.5))
        least = _LEAST * view.labels.size
        if lost:
            least = max(least, _FOUND * min(anchor.area for anchor in self.anchors.values()))
        return inside if area >= least or (known == 1).any() else np.zeros_like(inside)


def _vote(view: Superpixels, places: Values, known: _Believed, near: float) -> Values:
    """Votes of a known frame's superpixels on those of another, by color and place, ``[n]`` in [0, 1]."""
    ours = np.concatenate([view.colors / _SAME, places / near], axis=1)
    theirs = np.concatenate([known.view.colors / _SAME, known.view.centers / near], axis=1)
    close = closeness(ours, theirs) * known.view.areas
    return np.asarray((close @ known.inside + 1e-9) / (close.sum(axis=1) + 1e-6))


def _grow(view: Superpixels, seeds: _Seeds) -> Values:
    """Grow an object from prompts alone; of two extents the larger only if its border is sharper."""
    if seeds.box is None:
        starts = np.flatnonzero(seeds.known == 1).tolist()
        away = ((view.centers[:, None] - seeds.places) ** 2).sum(axis=-1).min(axis=1)
        start = np.exp(-view.distances(starts) / 3 - away / (2 * _CLICK**2))
        about = np.exp(-away / (2 * _ABOUT**2))
    else:
        mass = seeds.box * view.areas
        center = mass @ view.centers / mass.sum()
        spread = np.sqrt(mass @ (view.centers - center) ** 2 / mass.sum()) + 1e-6
        start = seeds.box * np.exp(-(((view.centers - center) / spread) ** 2).sum(axis=1) / 4)
        about = seeds.box
    features = np.concatenate([view.colors / _COLOR, view.centers], axis=1)
    close = closeness(features, features)
    small, large = (_rounds(view, close, (start, about, seeds.known), strict) for strict in (2.0, 1.0))
    sharper = view.contrast(large > 0.5) > view.contrast(small > 0.5) + _SHARPER
    return large if sharper else small


def _rounds(view: Superpixels, close: Values, start: tuple[Values, Values, Values], strict: float) -> Values:
    """Colors of the region, region of the colors, a few times; ``strict`` is the weight of the background."""
    inside, about, known = start
    inside = np.where(np.isnan(known), inside, known)
    for _ in range(_ROUNDS):
        mine, rest = inside * view.areas, (1 - inside) * view.areas
        ours, theirs = close @ mine / (mine.sum() + 1e-9), close @ rest / (rest.sum() + 1e-9)
        prior = np.clip(ours / (ours + strict * theirs + 1e-9) * about, 0.02, 0.98)
        walked = view.walk(prior, known, trust=_GROWN)
        inside = _large_parts(view, _sharpened(walked, _SHARPEN), known, seeded=True)
    return inside


def _sharpened(inside: Values, slope: float) -> Values:
    return np.clip((inside - 0.5) * slope + 0.5, 0, 1)


def _large_parts(view: Superpixels, inside: Values, known: Values, *, seeded: bool = False) -> Values:
    """Drop parts without a seed that are small, or (``seeded``) all of them if there are seeds."""
    chosen = inside > 0.5
    if not chosen.any():
        return inside
    parts = view.components(chosen)
    areas = np.bincount(parts[chosen], view.areas[chosen], parts.max() + 1)
    kept = areas >= _PART * areas.max()
    seeds = parts[(known == 1) & chosen]
    if seeded and len(seeds):
        kept[:] = False
    kept[seeds] = True
    return np.where(chosen & ~kept[parts], np.minimum(inside, 0.3), inside)


def _shrunk(mask: BoolArray, view: Superpixels) -> FloatArray:
    """A mask at working size, float32 ``[h, w]`` in [0, 1]."""
    picture = Image.fromarray(mask.astype(np.float32))
    return np.asarray(picture.resize(view.labels.shape[::-1], Image.Resampling.BOX))

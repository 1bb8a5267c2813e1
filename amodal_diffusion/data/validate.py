"""Check of a data set in the SAIL-VOS sequence layout: all problems, and a histogram of occluded shares."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from amodal_diffusion.basics import InputError
from amodal_diffusion.data.index import stream_entries
from amodal_diffusion.data.records import COMPLETE, TrackRecord, frame_values, parse_field, parse_mask
from amodal_diffusion.data.sailvos import find_frame
from amodal_diffusion.frames.masks import Rle, check_rle, merge_rle, rle_area
from amodal_diffusion.io.pictures import read_rgb

BINS = 10
_SHOWN = 5  # most values listed in a line
_BAR = 40  # characters of the longest bar of the histogram
_MASKS = ("visible_mask", "segmentation")

Kind = Literal["file", "record", "run lengths", "mask size", "modal outside amodal", "empty track", "frame"]


@dataclass(frozen=True)
class Problem:
    """One problem of a data set.

    Attributes:
        kind: category for the summary.
        text: one line that names the location and the problem.
    """

    kind: Kind
    text: str


@dataclass
class DatasetReport:
    """Counts of a check; complete when the iteration has ended.

    Attributes:
        tracks: number of tracks.
        frames: number of frames, summed over tracks.
        hidden_frames: number of frames with an amodal but no modal pixel, which is not a problem.
        files: number of distinct frame files.
        complete: number of tracks that are more than 95 % visible.
        histogram: number of tracks by occluded share, in equal bins from 0 to 1.
        problems: number of problems of each kind.
    """

    tracks: int = 0
    frames: int = 0
    hidden_frames: int = 0
    files: int = 0
    complete: int = 0
    histogram: list[int] = field(default_factory=lambda: [0] * BINS)
    problems: Counter[Kind] = field(default_factory=Counter)

    def summary(self) -> str:
        """Counts, a histogram of occluded shares, and the number of problems, as lines for a terminal."""
        counted = (
            f"{self.tracks} tracks, {self.frames} object frames ({self.hidden_frames} fully hidden), "
            f"{self.files} files, {self.complete} tracks of which more than 95 % is visible"
        )
        lines = [
            counted,
            "hidden share of the object, averaged over the frames that contain it:",
        ]
        most = max(1, *self.histogram)
        for place, number in enumerate(self.histogram):
            bar = "#" * round(_BAR * number / most)
            lines.append(f"  {place / BINS:.1f} to {(place + 1) / BINS:.1f} {number:7d} {bar}".rstrip())
        if self.problems:
            counts = ", ".join(f"{kind} {number}" for kind, number in self.problems.most_common())
            return "\n".join([*lines, f"problems: {sum(self.problems.values())} ({counts})"])
        return "\n".join([*lines, "no problems found"])


class DatasetCheck:
    """Check of a data set; iterate over it to get each problem when it is found.

    Each frame file is read once, even if several tracks share it. Memory holds one track and the size of each file.

    Args:
        annotations: annotation file.
        images: root of the frames; None skips the frames.
        workers: number of threads that read frames.
        on_track: called after each track.

    Attributes:
        report: counts so far.
    """

    def __init__(
        self,
        annotations: Path,
        images: Path | None,
        *,
        workers: int = 4,
        on_track: Callable[[], object] = lambda: None,
    ) -> None:
        self.annotations = annotations
        self.images = images
        self.workers = workers
        self.on_track = on_track
        self.report = DatasetReport()
        self._sizes: dict[str, tuple[int, int] | None] = {}

    def __iter__(self) -> Iterator[Problem]:
        """Read the annotation file and the frames, and yield each problem.

        Raises:
            InputError: if the file cannot be read at all, or does not hold a list.
        """
        with ThreadPoolExecutor(self.workers) as pool:
            for problem in self._problems(pool):
                self.report.problems[problem.kind] += 1
                yield problem

    def _problems(self, pool: ThreadPoolExecutor) -> Iterator[Problem]:
        entries = stream_entries(self.annotations)
        while True:
            try:
                entry = next(entries)
            except StopIteration:
                break
            except InputError as error:
                if not self.report.tracks:
                    raise
                yield Problem("file", f"{error}; tracks after track {self.report.tracks - 1} cannot be read")
                break
            where = f"track {self.report.tracks}"
            self.report.tracks += 1
            if isinstance(entry, Mapping):
                yield from self._track(entry, where, pool)
            else:
                yield Problem("record", f"{where}: expected an object, got {type(entry).__name__}")
            self.on_track()
        if not self.report.tracks:
            yield Problem("file", f"{self.annotations}: no track in it")

    def _track(self, entry: Mapping[str, Any], where: str, pool: ThreadPoolExecutor) -> Iterator[Problem]:
        fields: dict[str, Any] = {}
        for key in TrackRecord.__dataclass_fields__:
            try:
                fields[key] = (frame_values if key in _MASKS else parse_field)(entry, key, where=where)
            except InputError as error:
                yield Problem("record", str(error))
        if "obj_id" in fields and "image_file_names" in fields:
            where = f"{where} (object {fields['obj_id']}, {fields['image_file_names'][0]})"
        (modal, damaged), (amodal, damaged_too) = (_checked(fields.get(key, ()), f"{where}: {key}") for key in _MASKS)
        yield from (*damaged, *damaged_too)
        sizes = {(rle["size"][0], rle["size"][1]) for rle in (*modal, *amodal) if rle is not None}
        if len(sizes) > 1:
            yield Problem("mask size", f"{where}: masks of several sizes [H, W]: {_listed(map(list, sorted(sizes)))}")
        elif modal and len(modal) == len(amodal):
            yield from self._masks(modal, amodal, where)
        if self.images is not None:
            yield from self._frames(self.images, fields.get("image_file_names", ()), sizes, where, pool)

    def _masks(self, modal: Sequence[Rle | None], amodal: Sequence[Rle | None], where: str) -> Iterator[Problem]:
        """Compare the masks of a track, all of one size; None stands for a damaged mask."""
        report = self.report
        outside, shares, seen = [], [], 0
        for frame, (visible, whole) in enumerate(zip(modal, amodal, strict=True)):
            if visible is None or whole is None:
                continue
            all_of_it, part = rle_area(merge_rle(visible, whole)), rle_area(visible)
            if all_of_it > rle_area(whole):
                outside.append(frame)
            if all_of_it:
                shares.append(1 - part / all_of_it)
            seen += part
            report.frames += 1
            report.hidden_frames += bool(all_of_it and not part)
        if outside:
            text = f"{where}: visible pixels outside the amodal mask in frame {_listed(outside)}"
            yield Problem("modal outside amodal", text)
        if None in (*modal, *amodal):
            return
        if not seen:
            what = "never visible" if shares else "no object"
            yield Problem("empty track", f"{where}: {what} in its {len(modal)} frames")
        if shares:
            hidden = sum(shares) / len(shares)
            report.histogram[min(int(hidden * BINS), BINS - 1)] += 1
            report.complete += 1 - hidden > COMPLETE

    def _frames(
        self, images: Path, names: Sequence[str], sizes: set[tuple[int, int]], where: str, pool: ThreadPoolExecutor
    ) -> Iterator[Problem]:
        """Read the frames that no earlier track had, and compare all frame sizes with the mask size."""
        new = [name for name in dict.fromkeys(names) if name not in self._sizes]
        for name, found in zip(new, pool.map(lambda name: _read_size(images, name), new), strict=True):
            self.report.files += 1
            self._sizes[name] = None if isinstance(found, str) else found
            if isinstance(found, str):
                yield Problem("frame", f"{where}: {found}")
        known = {name: self._sizes[name] for name in names}
        others = [f"{name} {list(size)}" for name, size in known.items() if size is not None and size not in sizes]
        if others and len(sizes) == 1:
            yield Problem("frame", f"{where}: masks of [H, W] {list(*sizes)}, but frames of {_listed(others)}")


def _checked(masks: Sequence[object], where: str) -> tuple[list[Rle | None], list[Problem]]:
    """The masks, with None for damaged ones, and the problems of the damaged ones."""
    sound: list[Rle | None] = []
    problems = []
    for frame, value in enumerate(masks):
        try:
            rle = parse_mask(value)
            check_rle(rle)
        except InputError as error:
            problems.append(Problem("run lengths", f"{where}: frame {frame}: {error}"))
            sound.append(None)
        else:
            sound.append(rle)
    return sound, problems


def _read_size(images: Path, name: str) -> tuple[int, int] | str:
    """Height and width of a frame, or the reason that it cannot be read."""
    path = find_frame(images, name)
    if path is None:
        return f"{images / name}: no such file, and none of the same name in another format"
    try:
        height, width = read_rgb(path).shape[:2]
    except InputError as error:
        return str(error)
    return height, width


def _listed(values: Iterable[object]) -> str:
    """The first few values and the number of the remaining ones."""
    texts = [str(value) for value in values]
    more = f" and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return ", ".join(texts[:_SHOWN]) + more

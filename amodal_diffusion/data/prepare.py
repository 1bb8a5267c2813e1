"""Cut long tracks into the clips of an annotation file, and set those apart that are never hidden."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from amodal_diffusion.data.folder_source import LongTrack
from amodal_diffusion.data.records import COMPLETE, Box, TrackRecord, open_records
from amodal_diffusion.frames.masks import Rle, check_rle, encode_rle, merge_rle, rle_area, rle_box
from amodal_diffusion.types import InputError


@dataclass(frozen=True)
class ClipSettings:
    """Which clips are cut out of a track.

    Attributes:
        frames: F of a clip.
        stride: frames from the start of a clip to that of the next, after `fps`; F by default.
        fps: frames a second that are kept; all by default.
        source_fps: frames a second of the source; needed with `fps`.
        min_size: the largest box of the whole object in the clip has at least so many pixels on its shorter side.
        min_present: the object is inside the frame in at least this share of the frames.
        occlusion: least and largest hidden share of the object, mean over the frames that it is in.

    Raises:
        InputError: if a value is out of range.
    """

    frames: int = 25
    stride: int | None = None
    fps: float | None = None
    source_fps: float | None = None
    min_size: int = 0
    min_present: float = 0.5
    occlusion: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        """Check once."""
        for name in ("frames", "stride"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name}: expected at least 1 frame, got {value}")
        if not 0.0 <= self.min_present <= 1.0:
            raise InputError(f"min_present: expected a share from 0 to 1, got {self.min_present}")
        if not 0.0 <= self.occlusion[0] <= self.occlusion[1] <= 1.0:
            raise InputError(f"occlusion: expected two shares, 0 <= least <= largest <= 1, got {self.occlusion}")
        if self.fps is not None and (self.source_fps is None or not 0 < self.fps <= self.source_fps):
            raise InputError(f"fps: expected above 0 and at most source_fps, got {self.fps} of {self.source_fps}")

    def positions(self, length: int) -> list[int]:
        """Which frames of a video are kept."""
        if self.fps is None or self.source_fps is None:
            return list(range(length))
        step = self.source_fps / self.fps
        kept = (round(number * step) for number in range(length))
        return [position for position in kept if position < length]


@dataclass
class PrepareReport:
    """What became of the tracks.

    Attributes:
        tracks: long tracks that were read.
        clips: clips that were written.
        complete: clips of complete objects that were written.
        dropped: clips, or tracks without any, that were not written, by reason.
        outside: frames whose visible part was not all inside the whole object; it was added to that.
    """

    tracks: int = 0
    clips: int = 0
    complete: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    outside: int = 0


def prepare(tracks: Iterable[LongTrack], settings: ClipSettings, *, annotations: Path, complete: Path) -> PrepareReport:
    """Write the annotation file of all clips inside the range of occlusion, and that of complete objects.

    Args:
        tracks: read one by one.
        settings: which clips.
        annotations: file of the clips.
        complete: file of the clips of which more than 95 % is visible, whatever the range of occlusion.

    Raises:
        InputError: if a mask is damaged; names the track.
    """
    report = PrepareReport()
    with open_records(annotations) as write, open_records(complete) as write_complete:
        for track in tracks:
            report.tracks += 1
            for clip in _clips(track, settings, report):
                hidden = _hidden_share(clip)
                if 1 - hidden > COMPLETE:
                    write_complete(_record(track, clip))
                    report.complete += 1
                if settings.occlusion[0] <= hidden <= settings.occlusion[1]:
                    write(_record(track, clip))
                    report.clips += 1
                else:
                    report.dropped["outside the range of occlusion"] += 1
    return report


@dataclass(frozen=True)
class _Frame:
    """A frame of a clip: its place in the video, masks and what is counted of them."""

    position: int
    modal: Rle
    amodal: Rle
    box: Box
    seen: int
    whole: int


def _clips(track: LongTrack, settings: ClipSettings, report: PrepareReport) -> Iterator[Sequence[_Frame]]:
    """Clips that show enough of the object, whatever is hidden of it."""
    positions = settings.positions(len(track.image_ids))
    if len(positions) < settings.frames:
        report.dropped[f"shorter than {settings.frames} frames"] += 1
        return
    nothing = encode_rle(np.zeros(track.size, dtype=np.bool_))
    frames = [_frame(track, position, nothing, report) for position in positions]
    for start in range(0, len(frames) - settings.frames + 1, settings.stride or settings.frames):
        clip = frames[start : start + settings.frames]
        reason = _why_not(clip, settings)
        if reason is None:
            yield clip
        else:
            report.dropped[reason] += 1


def _why_not(clip: Sequence[_Frame], settings: ClipSettings) -> str | None:
    if not any(frame.seen for frame in clip):
        return "never visible"
    if sum(frame.whole > 0 for frame in clip) < settings.min_present * len(clip):
        return "too seldom inside the frame"
    if max(min(frame.box[2], frame.box[3]) for frame in clip) < settings.min_size:
        return "too small"
    return None


def _frame(track: LongTrack, position: int, nothing: Rle, report: PrepareReport) -> _Frame:
    """Count what a frame shows; masks stay coded, as a long video's would not fit into memory."""
    modal, amodal = track.modal[position] or nothing, track.amodal[position] or nothing
    try:
        for rle in (modal, amodal):
            check_rle(rle)
    except InputError as error:
        raise InputError(f"{track.name}: frame {position}: {error}") from error
    whole = merge_rle(modal, amodal)
    area = rle_area(whole)
    report.outside += area > rle_area(amodal)
    return _Frame(position, modal, whole, rle_box(whole), rle_area(modal), area)


def _hidden_share(clip: Sequence[_Frame]) -> float:
    """As `video.masks.hidden_share`, from the counts; the object is in at least one frame."""
    shares = [1 - frame.seen / frame.whole for frame in clip if frame.whole]
    return sum(shares) / len(shares)


def _record(track: LongTrack, clip: Sequence[_Frame]) -> TrackRecord:
    return TrackRecord(
        segmentation=tuple(frame.amodal for frame in clip),
        visible_mask=tuple(frame.modal for frame in clip),
        bbox=tuple(frame.box for frame in clip),
        image_ids=tuple(track.image_ids[frame.position] for frame in clip),
        obj_id=track.obj_id,
        category_id=track.category_id,
        image_file_names=tuple(track.image_file_names[frame.position] for frame in clip),
    )

"""Cut the objects of whole videos into clips, and write annotation files of all clips and of complete objects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from amodal_diffusion.basics import InputError
from amodal_diffusion.data.folder_source import FolderNames, VideoObject, folder_objects
from amodal_diffusion.data.json_source import JsonKeys, json_objects
from amodal_diffusion.data.records import COMPLETE, Box, TrackRecord, open_records
from amodal_diffusion.frames.masks import Rle, check_rle, encode_rle, merge_rle, rle_area, rle_box


@dataclass(frozen=True)
class ClipSettings:
    """Which clips are cut from a video.

    Attributes:
        frames: number of frames F of a clip.
        stride: frames between the starts of consecutive clips, counted after `fps`; F by default.
        fps: frames per second to keep; all by default.
        source_fps: frames per second of the source; needed with `fps`.
        min_size: smallest shorter side, in pixels, of the object's largest amodal box in the clip.
        min_present: smallest share of the clip's frames in which the object is inside the frame, 0 to 1.
        occlusion: smallest and largest occluded share of the object, averaged over frames that contain it, 0 to 1.

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
        """Validate the fields."""
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
        """Indices of the frames to keep from a video of ``length`` frames."""
        if self.fps is None or self.source_fps is None:
            return list(range(length))
        step = self.source_fps / self.fps
        kept = (round(number * step) for number in range(length))
        return [position for position in kept if position < length]


@dataclass
class PrepareReport:
    """Counts of a preparation.

    Attributes:
        tracks: number of objects that were read.
        clips: number of clips that were written.
        complete: number of clips of complete objects that were written.
        dropped: number of clips, or of objects without a clip, that were not written, by reason.
        outside: number of frames with visible pixels outside the amodal mask, which were added to it.
    """

    tracks: int = 0
    clips: int = 0
    complete: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    outside: int = 0

    def reasons(self) -> str:
        """Counts of dropped clips by reason, most frequent first."""
        return ", ".join(f"{number} {reason}" for reason, number in self.dropped.most_common())

    def summary(self, annotations: Path, complete: Path) -> str:
        """Counts as lines for a terminal.

        Args:
            annotations: file of all clips.
            complete: file of the clips of complete objects.
        """
        lines = [
            f"{annotations}: {self.clips} clips of {self.tracks} tracks",
            f"{complete}: {self.complete} clips of which more than 95 % is visible",
        ]
        if self.dropped:
            lines.append(f"left out: {self.reasons()}")
        if self.outside:
            lines.append(f"in {self.outside} frames, visible pixels outside the amodal mask were added to it")
        return "\n".join(lines)


def source_objects(
    source: Path,
    *,
    images: str | None = None,
    modal: str | None = None,
    amodal: str | None = None,
    object: str | None = None,  # noqa: A002 - name of the option, as in error messages
) -> Iterator[VideoObject]:
    """Read the objects of a folder of clips, or of a COCO-like or YouTube-VIS-like JSON file.

    Args:
        source: folder or JSON file.
        images: subfolder of frames in a clip; not for JSON.
        modal: subfolder of modal masks in a clip, or JSON key of a modal mask.
        amodal: subfolder of amodal masks in a clip, or JSON key of an amodal mask.
        object: JSON key of an object's number; not for folders.

    Raises:
        InputError: if an option does not fit the source, or the source has another layout.
    """
    if source.is_dir():
        _refuse("object", object, "folder")
        given = {"images": images, "modal": modal, "amodal": amodal}
        return folder_objects(source, FolderNames(**{name: text for name, text in given.items() if text is not None}))
    _refuse("images", images, "JSON file")
    return json_objects(source, JsonKeys(modal=modal, amodal=amodal, object=object))


def _refuse(name: str, value: str | None, kind: str) -> None:
    if value is not None:
        raise InputError(f"{name}: expected none for a {kind}, got {value}")


def prepare(
    objects: Iterable[VideoObject], settings: ClipSettings, *, annotations: Path, complete: Path
) -> PrepareReport:
    """Write the annotation files of all clips in the occlusion range and of all clips of complete objects.

    Args:
        objects: read one at a time.
        settings: which clips to write.
        annotations: file of the clips in the occlusion range.
        complete: file of the clips that are more than 95 % visible, whatever the occlusion range.

    Raises:
        InputError: if a mask is damaged; the message names the object.
    """
    report = PrepareReport()
    with open_records(annotations) as write, open_records(complete) as write_complete:
        for video_object in objects:
            report.tracks += 1
            for clip in _clips(video_object, settings, report):
                hidden = _hidden_share(clip)
                if 1 - hidden > COMPLETE:
                    write_complete(_record(video_object, clip))
                    report.complete += 1
                if settings.occlusion[0] <= hidden <= settings.occlusion[1]:
                    write(_record(video_object, clip))
                    report.clips += 1
                else:
                    report.dropped["outside the range of occlusion"] += 1
    return report


@dataclass(frozen=True)
class _Frame:
    """A frame of a clip: its index in the video, its masks, amodal box, and modal and amodal area in pixels."""

    position: int
    modal: Rle
    amodal: Rle
    box: Box
    seen: int
    whole: int


def _clips(video_object: VideoObject, settings: ClipSettings, report: PrepareReport) -> Iterator[Sequence[_Frame]]:
    """Clips that show enough of the object, regardless of its occlusion."""
    positions = settings.positions(len(video_object.image_ids))
    if len(positions) < settings.frames:
        report.dropped[f"shorter than {settings.frames} frames"] += 1
        return
    nothing = encode_rle(np.zeros(video_object.size, dtype=np.bool_))
    frames = [_frame(video_object, position, nothing, report) for position in positions]
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
        return "inside the image in too few frames"
    if max(min(frame.box[2], frame.box[3]) for frame in clip) < settings.min_size:
        return "too small"
    return None


def _frame(video_object: VideoObject, position: int, nothing: Rle, report: PrepareReport) -> _Frame:
    """Measure a frame; masks stay encoded because those of a long video would not fit into memory."""
    modal, amodal = video_object.modal[position] or nothing, video_object.amodal[position] or nothing
    try:
        for rle in (modal, amodal):
            check_rle(rle)
    except InputError as error:
        raise InputError(f"{video_object.name}: frame {position}: {error}") from error
    whole = merge_rle(modal, amodal)
    area = rle_area(whole)
    report.outside += area > rle_area(amodal)
    return _Frame(position, modal, whole, rle_box(whole), rle_area(modal), area)


def _hidden_share(clip: Sequence[_Frame]) -> float:
    """`frames.masks.hidden_share` from areas; the object is in at least one frame."""
    shares = [1 - frame.seen / frame.whole for frame in clip if frame.whole]
    return sum(shares) / len(shares)


def _record(video_object: VideoObject, clip: Sequence[_Frame]) -> TrackRecord:
    return TrackRecord(
        segmentation=tuple(frame.amodal for frame in clip),
        visible_mask=tuple(frame.modal for frame in clip),
        bbox=tuple(frame.box for frame in clip),
        image_ids=tuple(video_object.image_ids[frame.position] for frame in clip),
        obj_id=video_object.obj_id,
        category_id=video_object.category_id,
        image_file_names=tuple(video_object.image_file_names[frame.position] for frame in clip),
    )

"""The annotation file of a video of SA-V: masks of every fourth frame."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from amodal_diffusion.basics import InputError
from amodal_diffusion.frames.masks import encode_rle
from amodal_diffusion.io.annotations import read_annotated_masks
from amodal_diffusion.io.mask_files import fit_track, read_masks
from amodal_diffusion.io.video_reader import open_clip
from tests.media import Bool, encode, moving_disc

HEIGHT, WIDTH, FRAMES = 24, 40, 11
RGB, DISC = moving_disc(FRAMES, HEIGHT, WIDTH)
EMPTY = np.zeros_like(DISC)


def sav(*objects: Bool, step: int = 4, **changes: Any) -> dict[str, Any]:
    """The keys of facebookresearch/sam2's sav_dataset/README.md, whose numbers are floats where theirs are.

    Args:
        objects: masks of every frame of the video.
        step: frames between those with masks.
        changes: of the keys.
    """
    frames = len(objects[0])
    annotated = [[encode_rle(masks[frame]) for masks in objects] for frame in range(0, frames, step)]
    number = len(objects)
    return {
        "video_id": "sav_000001",
        "video_duration": frames / 24,
        "video_frame_count": float(frames),
        "video_height": float(HEIGHT),
        "video_width": float(WIDTH),
        "video_resolution": float(HEIGHT * WIDTH),
        "video_environment": "Indoor",
        "video_split": "train",
        "masklet": annotated,
        "masklet_id": list(range(number)),
        "masklet_size_rel": [0.1] * number,
        "masklet_size_abs": [96.0] * number,
        "masklet_size_bucket": ["small"] * number,
        "masklet_visibility_changes": [0] * number,
        "masklet_first_appeared_frame": [0.0] * number,
        "masklet_frame_count": [len(annotated)] * number,
        "masklet_edited_frame_count": [1] * number,
        "masklet_type": ["manual"] * number,
        "masklet_stability_score": [None] * number,
        "masklet_num": number,
    } | changes


def saved(folder: Path, content: object) -> Path:
    (folder / "sav_000001_manual.json").write_text(json.dumps(content))
    return folder / "sav_000001_manual.json"


def test_masklets_are_read_with_the_numbers_of_their_frames(tmp_path: Path) -> None:
    path = saved(tmp_path, sav(DISC, EMPTY))
    read = read_annotated_masks(path, what="masks", single="1")
    assert (read.height, read.width, read.names) == (HEIGHT, WIDTH, (0, 4, 8))
    disc, empty = read_masks(path).values()
    assert (disc.name, empty.name) == ("0", "1")
    np.testing.assert_array_equal(np.stack(list(disc)), DISC[::4])
    assert disc.names == (0, 4, 8)
    assert empty.areas == (0, 0, 0)


@pytest.mark.parametrize(
    ("step", "frames", "numbers"), [(1, 3, (0, 1, 2)), (2, 11, (0, 2, 4, 6, 8, 10)), (4, 9, (0, 4, 8))]
)
def test_the_distance_of_frames_follows_from_their_counts(
    tmp_path: Path, step: int, frames: int, numbers: tuple[int, ...]
) -> None:
    assert read_masks(saved(tmp_path, sav(DISC[:frames], step=step)))["0"].names == numbers


def test_they_fit_the_video_at_its_own_rate(tmp_path: Path) -> None:
    track = read_masks(saved(tmp_path, sav(DISC)))["0"]
    clip = open_clip(encode(tmp_path / "sav_000001.mp4", RGB, fps=24))
    assert fit_track(track, clip, what="masks").positions == (0, 4, 8)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (sav(DISC, masklet_id=[0, 1]), r"masklet: 0: expected 2 masks, one for each masklet_id"),
        (sav(DISC, EMPTY, masklet_id=[3, 3]), "masklet_id: expected a different number for each object"),
        (sav(DISC, video_frame_count=2.0), "masklet: 3 masks of each object for video_frame_count 2"),
        (sav(DISC, video_height=23.0), r"annotation 0, masklet 0: expected run lengths of size \[23, 40\]"),
        (sav(DISC, video_width=None), "video_width: expected a whole number from 1, got None"),
        (sav(DISC, masklet=[]), "masklet: 0 masks of each"),
        (sav(DISC, masklet=None), "expected a COCO or YouTube-VIS file with annotations"),
    ],
)
def test_what_is_refused(tmp_path: Path, content: object, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        read_masks(saved(tmp_path, content))

"""Own clips as folders: which are found, which masks belong to which object, and what does not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from amodal_diffusion.basics import InputError
from amodal_diffusion.data.folder_source import FolderNames, folder_objects
from amodal_diffusion.frames.masks import decode_rle
from amodal_diffusion.types import BoolArray
from tests.media import moving_disc, write_frames, write_masks

RGB, WHOLE = moving_disc(frames=12, height=24, width=32)
MODAL = WHOLE.copy()
MODAL[:, :, 16:] = False
MODAL[3] = False


def _clip(folder: Path, *, modal: dict[str, BoolArray], amodal: dict[str, BoolArray]) -> None:
    write_frames(folder / "images", RGB)
    for kind, masks in (("modal", modal), ("amodal", amodal)):
        for name, mask in masks.items():
            write_masks(folder / kind / name, mask)


def test_objects_of_all_clips_are_found_with_frames_and_masks_in_step(tmp_path: Path) -> None:
    _clip(tmp_path / "set/b", modal={"car": MODAL, "cat": WHOLE}, amodal={"car": WHOLE, "cat": WHOLE})
    _clip(tmp_path / "a", modal={"": MODAL}, amodal={"": WHOLE})  # one object: no folder of its own
    tracks = list(folder_objects(tmp_path, FolderNames()))
    assert [(track.obj_id, track.image_file_names[10]) for track in tracks] == [
        (1, "a/images/frame10.png"),
        (1, "set/b/images/frame10.png"),
        (2, "set/b/images/frame10.png"),
    ]
    assert [track.image_ids for track in tracks] == [range(12), range(12, 24), range(12, 24)]
    for track, modal in zip(tracks, (MODAL, MODAL, WHOLE), strict=True):
        assert track.size == (24, 32)
        for frame in range(12):
            amodal, visible = track.amodal[frame], track.modal[frame]
            assert amodal is not None
            np.testing.assert_array_equal(decode_rle(amodal), WHOLE[frame])
            assert (visible is None) == (not modal[frame].any())
            if visible is not None:
                np.testing.assert_array_equal(decode_rle(visible), modal[frame])


def test_one_clip_and_other_names_and_labels(tmp_path: Path) -> None:
    write_frames(tmp_path / "rgb", RGB)
    write_masks(tmp_path / "visible", np.where(MODAL, 7, np.where(WHOLE & ~MODAL, 9, 0)).astype(np.uint8), mode="P")
    for label in ("7", "9"):
        write_masks(tmp_path / "whole" / label, WHOLE)
    tracks = list(folder_objects(tmp_path, FolderNames("rgb", "visible", "whole")))
    assert [track.obj_id for track in tracks] == [1, 2]
    assert [track.modal[3] is None for track in tracks] == [True, False]


def test_what_does_not_belong_together_is_named(tmp_path: Path) -> None:
    def refused(folder: Path, message: str) -> None:
        with pytest.raises(InputError, match=message):
            list(folder_objects(folder, FolderNames()))

    refused(tmp_path / "none", "no such folder")
    tmp_path.joinpath("empty/images").mkdir(parents=True)
    refused(tmp_path / "empty", "no pictures in this folder")
    tmp_path.joinpath("other/frames").mkdir(parents=True)
    refused(tmp_path / "other", "no clip here; expected folders that hold a folder images")
    _clip(tmp_path / "alone", modal={"1": MODAL}, amodal={"1": WHOLE, "2": WHOLE})
    refused(tmp_path / "alone", "got 2 only in amodal; add its masks to modal")
    _clip(tmp_path / "short", modal={"1": MODAL[:5]}, amodal={"1": WHOLE})
    refused(tmp_path / "short", "5 masks for 12 frames")
    _clip(tmp_path / "size", modal={"1": MODAL[:, :, :30]}, amodal={"1": WHOLE})
    refused(tmp_path / "size", "masks of 30x24 pixels, .* has 32x24")
    _clip(tmp_path / "without", modal={}, amodal={"1": WHOLE})
    refused(tmp_path / "without", "modal: .*no such file or folder")

"""TAO-Amodal's tracks: the frame grows, and everything moves with it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from amodal_diffusion.basics import InputError
from amodal_diffusion.evaluation.benchmarks.base import BoxTarget
from amodal_diffusion.evaluation.benchmarks.tao_amodal import open_tao_amodal
from amodal_diffusion.metrics import box_iou, boxes_of
from tests.evaluation import samples

DOWN, RIGHT = samples.HEIGHT // 4, samples.WIDTH // 4
INSIDE = (slice(None), slice(DOWN, -DOWN), slice(RIGHT, -RIGHT))


def test_each_side_grows_by_a_quarter_and_boxes_move_along(tmp_path: Path) -> None:
    benchmark = open_tao_amodal(samples.write_tao(tmp_path), depth=tmp_path / "depth")
    items = samples.objects()
    assert len(benchmark) == len(items)
    for index, item in enumerate(items):
        track = benchmark.track(index)
        assert isinstance(track, BoxTarget)
        assert track.identity == benchmark.identity(index) == f"tao-amodal/7/{item.track_id}/00000"
        clip = track.clip
        assert clip.modal_mask.shape == (samples.FRAMES, samples.HEIGHT + 2 * DOWN, samples.WIDTH + 2 * RIGHT)
        np.testing.assert_array_equal(clip.modal_mask[INSIDE], item.modal)
        assert clip.modal_mask.sum() == item.modal.sum()
        np.testing.assert_array_equal(clip.rgb[INSIDE], samples.frames())
        assert (clip.rgb[:, :DOWN, :RIGHT] == samples.frames()[:, :1, :1]).all()
        assert (clip.rgb[:, DOWN:-DOWN, -RIGHT:] == samples.frames()[:, :, -1:]).all()
        whole = np.zeros_like(clip.modal_mask)
        whole[INSIDE] = item.amodal
        there = item.amodal.any(axis=(1, 2))
        assert track.amodal_boxes.dtype == np.float64
        assert (box_iou(boxes_of(whole), track.amodal_boxes)[there] == 1).all()


def test_depth_is_from_0_to_1_and_1_outside(tmp_path: Path) -> None:
    data = samples.write_tao(tmp_path)
    assert open_tao_amodal(data).track(0).depth is None
    depth = open_tao_amodal(data, depth=tmp_path / "depth").track(0).depth
    assert depth is not None
    assert depth.dtype == np.float32
    near = samples.nearness()
    np.testing.assert_allclose(depth[INSIDE], (near - near.min()) / (near.max() - near.min()), atol=1e-6)
    outside = np.ones(depth.shape, dtype=np.bool_)
    outside[INSIDE] = False
    assert (depth[outside] == 1).all()


def test_a_box_may_leave_the_frame(tmp_path: Path) -> None:
    data = samples.write_tao(tmp_path)
    entries = json.loads(data.read_text())
    entries[0]["amodal_bboxes"][0] = [-5, 3, 60, 40.5]
    data.write_text(json.dumps(entries))
    track = open_tao_amodal(data).track(0)
    assert isinstance(track, BoxTarget)
    assert track.amodal_boxes[0].tolist() == [-5 + RIGHT, 3 + DOWN, 60, 40.5]


def test_a_damaged_record_is_named_when_it_is_read(tmp_path: Path) -> None:
    data = samples.write_tao(tmp_path)
    entries = json.loads(data.read_text())
    entries[0]["rles"][1] = entries[0]["rles"][1][:-2]
    del entries[1]["track_id"]
    data.write_text(json.dumps(entries))
    benchmark = open_tao_amodal(data)
    assert benchmark.identity(1) == "tao-amodal/track 1"
    with pytest.raises(InputError, match=r"expected runs that fill 32 x 48"):
        benchmark.track(0)
    with pytest.raises(InputError, match=r"tao\.json: track 1: .*no track_id"):
        benchmark.track(1)

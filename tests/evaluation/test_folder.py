"""Own clips as a benchmark: the folders that `scenes --masks` writes, and what is optional in them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from amodal_diffusion.basics import InputError
from amodal_diffusion.cli import main
from amodal_diffusion.evaluation.benchmarks.base import MaskTarget
from amodal_diffusion.evaluation.benchmarks.folder import open_folder
from tests.evaluation import samples
from tests.media import write_masks


def test_what_the_command_scenes_writes_is_read(tmp_path: Path) -> None:
    size = ("--frames", "2", "--height", "32", "--width", "48")
    assert main(["scenes", str(tmp_path / "out"), "--count", "2", *size, "--masks", "-q"]) == 0
    benchmark = open_folder(tmp_path / "out")
    clips = {benchmark.identity(index).split("/")[1] for index in range(len(benchmark))}
    assert len(clips) == 2
    track = benchmark.track(0)
    assert isinstance(track, MaskTarget)
    assert not (track.clip.modal_mask & ~track.amodal_mask).any()
    assert track.depth is not None
    assert track.amodal_rgb is not None
    visible = track.clip.modal_mask
    np.testing.assert_array_equal(track.amodal_rgb[visible], track.clip.rgb[visible])


def test_depth_and_whole_objects_may_be_missing(tmp_path: Path) -> None:
    data = samples.write_folder(tmp_path)
    shutil.rmtree(data / "set/clip/depth")
    shutil.rmtree(data / "set/clip/objects")
    track = open_folder(data).track(0)
    assert isinstance(track, MaskTarget)
    assert (track.depth, track.amodal_rgb) == (None, None)
    np.save(data / "set/clip/depth.npy", samples.nearness())
    np.testing.assert_array_equal(open_folder(data).track(0).depth, samples.nearness())


def test_an_object_that_is_never_visible_is_no_track(tmp_path: Path) -> None:
    data = samples.write_folder(tmp_path)
    item = samples.objects()[0]
    write_masks(data / f"set/clip/modal/thing{item.track_id}", item.modal & ~item.modal)
    benchmark = open_folder(data)
    assert len(benchmark) == len(samples.objects()) - 1
    assert f"folder/set/clip/thing{item.track_id}" not in map(benchmark.identity, range(len(benchmark)))


def test_the_clip_itself_may_be_the_data(tmp_path: Path) -> None:
    benchmark = open_folder(samples.write_folder(tmp_path) / "set/clip")
    assert benchmark.identity(0) == f"folder/thing{samples.objects()[0].track_id}"


def test_what_does_not_belong_together_is_named(tmp_path: Path) -> None:
    data = samples.write_folder(tmp_path)
    shutil.rmtree(data / "set/clip/depth")
    np.save(data / "set/clip/depth.npy", samples.nearness()[1:])
    with pytest.raises(InputError, match=r"expected depth \[F, H, W\] of \[4, 32, 48\] .* got \[3, 32"):
        open_folder(data).track(0)
    (data / "set/clip/depth.npy").unlink()
    (data / "set/clip/objects/thing1/00000.png").unlink()
    with pytest.raises(InputError, match=r"thing1: 3 pictures for 4 frames; give one a frame"):
        open_folder(data).track(0)
    (data / "set/clip/modal/thing1/00000.png").unlink()
    with pytest.raises(InputError, match="3 masks for 4 frames"):
        open_folder(data)

"""Annotation files of SAIL-VOS sequences: the truth as it stands, frames wherever their ending went."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from amodal_diffusion.basics import InputError
from amodal_diffusion.evaluation.benchmarks.base import MaskTarget
from amodal_diffusion.evaluation.benchmarks.sailvos import open_sailvos
from amodal_diffusion.frames.masks import encode_rle
from tests.evaluation import samples


def test_frames_are_found_under_another_ending_and_root(tmp_path: Path) -> None:
    data = samples.write_sailvos(tmp_path)
    data.write_text(data.read_text().replace(".png", ".bmp"))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "clip").rename(tmp_path / "elsewhere/clip")
    benchmark = open_sailvos(data, images=tmp_path / "elsewhere", index_folder=tmp_path / "indices")
    np.testing.assert_array_equal(benchmark.track(0).clip.rgb, samples.frames())
    assert benchmark.inputs == {"data": data, "images": tmp_path / "elsewhere"}
    assert (tmp_path / "indices").is_dir()
    assert not data.with_name("annotations.json.index").exists()


def test_the_truth_is_not_mended(tmp_path: Path) -> None:
    data = samples.write_sailvos(tmp_path)
    entries = json.loads(data.read_text())
    small = np.zeros((samples.HEIGHT, samples.WIDTH), dtype=np.bool_)
    small[3:5, 4:9] = True
    entries[0]["segmentation"][2] = encode_rle(small)
    data.write_text(json.dumps(entries))
    track = open_sailvos(data).track(0)
    assert isinstance(track, MaskTarget)
    np.testing.assert_array_equal(track.amodal_mask[2], small)
    np.testing.assert_array_equal(track.clip.modal_mask, samples.objects()[0].modal)


def test_a_damaged_record_is_named_when_it_is_read(tmp_path: Path) -> None:
    data = samples.write_sailvos(tmp_path)
    entries = json.loads(data.read_text())
    entries[0]["visible_mask"][1]["counts"] = "x"
    entries[1] = None
    data.write_text(json.dumps(entries))
    benchmark = open_sailvos(data)
    with pytest.raises(InputError, match=r"expected runs that fill 32 x 48"):
        benchmark.track(0)
    with pytest.raises(InputError, match=r"annotations\.json: track 1: expected an object"):
        benchmark.track(1)


def test_a_frame_of_another_size_is_named(tmp_path: Path) -> None:
    data = samples.write_sailvos(tmp_path)
    Image.new("RGB", (10, 8)).save(tmp_path / "clip/00001.png")
    with pytest.raises(InputError, match=r"00001\.png: 10x8 pixels for masks of 48x32"):
        open_sailvos(data).track(0)

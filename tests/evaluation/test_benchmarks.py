"""Benchmarks by name: what each takes, and what it refuses."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from amodal_diffusion.basics import InputError
from amodal_diffusion.evaluation.benchmarks import registry
from amodal_diffusion.evaluation.benchmarks.base import FileBenchmark, MaskTarget
from amodal_diffusion.evaluation.benchmarks.registry import open_benchmark
from amodal_diffusion.synthetic.composites.made import made_cutouts
from amodal_diffusion.types import VideoClip
from tests.documents import ROOT
from tests.evaluation import samples
from tests.factories import tiny_cutouts_folder


def test_scenes_are_the_fixed_split_unless_another_is_named() -> None:
    benchmark = open_benchmark("scenes")
    assert (benchmark.name, len(benchmark)) == ("scenes/test-v1", 200)
    benchmark = open_benchmark("scenes", split="validation", limit=3)
    assert (benchmark.name, len(benchmark)) == ("scenes/validation", 3)


def test_composites_of_the_validation_split_come_from_a_folder_of_cut_outs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("amodal_diffusion.data.composites.made_cutouts", lambda split, _: made_cutouts(split, 1))
    folder = tiny_cutouts_folder(tmp_path)
    benchmark = open_benchmark("scenes", split="composites-validation", data=folder, limit=2)
    assert (benchmark.name, len(benchmark)) == ("scenes/composites-validation", 2)
    assert benchmark.inputs == {"data": folder}
    track = benchmark.track(1)
    assert isinstance(track, MaskTarget)
    assert track.identity == benchmark.identity(1) == "scenes/composite-validation-000001"
    assert track.clip.rgb.shape == (25, 128, 256, 3)
    assert track.depth is not None
    assert track.amodal_rgb is not None
    assert not (track.clip.modal_mask & ~track.amodal_mask).any()


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("lvis", {}, "benchmark: expected one of scenes"),
        (
            "scenes",
            {"split": "test"},
            "split: expected one of train, validation, test-v1, .*, test-v2, got test",
        ),
        ("scenes", {"data": Path("here")}, "data: expected none for the benchmark scenes, got here"),
        ("scenes", {"split": "composites-validation"}, "cutouts: expected a folder of cut-outs for composites-valid"),
        ("scenes", {"split": "test-v2"}, r"for test-v2 with \d+ of @lobehub/fluent-emoji-3d 1\.1\.0, .*, got none"),
        ("scenes", {"split": "test-v2", "data": Path("empty")}, "empty: test-v2 needs pictures that are missing here"),
        (
            "scenes",
            {"split": "test-v2", "data": Path("empty"), "limit": 201},
            "limit: expected 1 to 200 clips, got 201",
        ),
        ("scenes", {"limit": 0}, "limit: expected 1 to 200"),
        ("scenes", {"depth": Path("here")}, "depth: expected none for the benchmark scenes, got here; leave it out"),
        ("sailvos", {}, "data: expected the file or folder of the benchmark sailvos, got none"),
        ("sailvos", {"data": Path("none.json")}, r"data: none\.json: no such file or folder"),
        ("sailvos", {"data": Path("text"), "images": Path("none")}, "images: none: no such file or folder"),
        ("sailvos", {"data": Path("empty"), "split": "test"}, "split: expected none for the benchmark sailvos"),
        ("sailvos", {"data": Path("empty")}, "cannot be read"),
        ("coco-amodal", {"data": Path("text")}, "text: expected JSON that is an object"),
        ("tao-amodal", {"data": Path("text"), "limit": 0}, "limit: expected at least 1 track, got 0"),
        ("tao-amodal", {"data": Path("text")}, "text: expected JSON that is a list of tracks"),
        ("movi", {"data": Path("empty"), "images": Path("empty")}, "images: expected none for the benchmark movi"),
        ("movi", {"data": Path("empty")}, "empty: no clip here"),
        ("fishbowl", {"data": Path("empty")}, "empty: no video here"),
        ("folder", {"data": Path("empty"), "depth": Path("empty")}, "depth: expected none for the benchmark folder"),
        ("folder", {"data": Path("text")}, "text: no such folder"),
    ],
)
def test_a_wrong_argument_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, arguments: dict[str, object], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("text").write_text("no JSON", encoding="utf-8")
    with pytest.raises(InputError, match=message):
        open_benchmark(name, **arguments)  # type: ignore[arg-type]


def test_the_benchmark_of_the_guide_fits_the_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guide = (ROOT / "docs/evaluation.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", guide, flags=re.DOTALL | re.MULTILINE)
    names = {"Path": Path, "np": np, "FileBenchmark": FileBenchmark, "MaskTarget": MaskTarget, "VideoClip": VideoClip}
    exec(compile(code, "docs/evaluation.md", "exec"), names)
    monkeypatch.setitem(registry.FILE_BENCHMARKS, "npz", (names["open_npz"], ()))
    monkeypatch.setattr(registry, "BENCHMARKS", (*registry.BENCHMARKS, "npz"))
    (item, *_) = samples.objects()
    np.savez(
        tmp_path / "clip.npz", rgb=samples.frames(), modal=item.modal, amodal=item.amodal, depth=samples.nearness()
    )
    benchmark = open_benchmark("npz", data=tmp_path)
    track = benchmark.track(0)
    assert isinstance(track, MaskTarget)
    assert (len(benchmark), track.identity) == (1, "npz/clip")
    np.testing.assert_array_equal(track.amodal_mask, item.amodal)

"""The bundled weights of the other methods: small, with a card, and of use on scenes that they never saw."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from amodal_diffusion.evaluation.benchmarks.scenes import ScenesBenchmark
from amodal_diffusion.io.atomic import find_damage
from amodal_diffusion.metrics import score_track
from amodal_diffusion.pipelines.c2f_seg import C2FSegmenter
from amodal_diffusion.pipelines.s_amodal import SAModalSegmenter
from amodal_diffusion.pipelines.sameo import SameoSegmenter
from amodal_diffusion.types import AmodalSegmenter

MEGABYTES = 10
WEIGHTS = Path(str(files("amodal_diffusion") / "weights"))
LOAD: dict[str, Callable[[Path], AmodalSegmenter]] = {
    "c2f-seg": C2FSegmenter.from_folder,
    "s-amodal": SAModalSegmenter.from_folder,
    "sameo": SameoSegmenter.from_folder,
}


def test_the_weights_are_small_whole_and_have_a_card() -> None:
    folders = [WEIGHTS / name for name in LOAD]
    assert sum(path.stat().st_size for folder in folders for path in folder.rglob("*")) <= MEGABYTES * 1_000_000
    for folder in folders:
        assert (folder / "README.md").is_file()
        assert find_damage(folder) is None


@pytest.mark.parametrize("name", LOAD)
def test_they_find_more_than_the_visible_part(name: str) -> None:
    segmenter = LOAD[name](WEIGHTS / name)
    tracks = [ScenesBenchmark("validation").track(index) for index in range(2)]
    found = [segmenter(track.clip).mask for track in tracks]
    scores = [
        score_track(mask, track.clip.modal_mask, track.amodal_mask).miou_occ
        for mask, track in zip(found, tracks, strict=True)
    ]
    assert np.nanmean(scores) > 0.05  # that of the modal mask is 0
    assert all((mask >= track.clip.modal_mask).all() for mask, track in zip(found, tracks, strict=True))

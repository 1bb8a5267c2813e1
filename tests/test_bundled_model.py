"""The bundled model: it fits its size, loads by name, and completes what it never saw better than no completion."""

from __future__ import annotations

import json

import numpy as np

from amodal_diffusion import AmodalCompleter
from amodal_diffusion.evaluation.benchmarks.scenes import ScenesBenchmark
from amodal_diffusion.io.atomic import DIGESTS, find_damage
from amodal_diffusion.metrics import score_track
from amodal_diffusion.models.hub import bundled_models

MEGABYTES = 60


def test_the_weights_are_small_and_have_a_card() -> None:
    folder = bundled_models()["tiny"]
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= MEGABYTES * 1_000_000
    assert (folder / "README.md").is_file()
    assert {path.suffix for path in folder.rglob("*") if path.is_file()} == {".md", ".json", ".safetensors"}
    assert find_damage(folder) is None
    digests = json.loads((folder / DIGESTS).read_text())
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert digests.keys() == {name for name in files if not name.endswith(".md")} - {DIGESTS}


def test_both_stages_run_offline_at_their_defaults_and_find_hidden_parts() -> None:
    completer = AmodalCompleter.from_pretrained("tiny", device="cpu")
    track = ScenesBenchmark("validation").track(0)
    result = completer(track.clip, depth=track.depth, seed=track.seed())
    assert score_track(result.amodal_mask, track.clip.modal_mask, track.amodal_mask).miou_occ > 0.2
    assert result.rgba is not None
    visible = track.clip.modal_mask
    assert np.array_equal(result.rgba[..., :3][visible], track.clip.rgb[visible])

"""What is sampled when nothing is asked for, and what is refused before any work."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from amodal_diffusion.models.checkpoint import SETTINGS_FILE, UNTOLD_PRESETS, SamplingDefaults, apply_preset
from amodal_diffusion.models.hub import StageComponents
from amodal_diffusion.models.saving import convert
from amodal_diffusion.pipelines.amodal_segmentation import AmodalSegmentationPipeline
from amodal_diffusion.pipelines.completer import AmodalCompleter
from amodal_diffusion.types import InputError, Stage
from tests.factories import SAMPLING, tiny_completer_folder, tiny_components

STAGE: Stage = "amodal_segmentation"


def chosen(folder: Path, conditioning: str) -> SamplingDefaults:
    loaded = AmodalCompleter.from_pretrained(folder, stages=(STAGE,), conditioning=conditioning, device="cpu")  # type: ignore[arg-type]
    return loaded.sampling()[STAGE]


@pytest.fixture
def untold(tmp_path: Path) -> Path:
    """A folder without `checkpoint.json`, as the released ones are."""
    folder = tiny_completer_folder(tmp_path / "model") / STAGE
    (folder / SETTINGS_FILE).unlink()
    return folder


def test_a_checkpoint_that_says_nothing_is_sampled_as_the_paper_does_with_released(
    untold: Path, tmp_path: Path
) -> None:
    convert(untold, tmp_path / "converted", stage=STAGE)
    for folder in (untold, tmp_path / "converted"):
        assert chosen(folder, "released") == SamplingDefaults()
        assert chosen(folder, "corrected") == apply_preset("default", SamplingDefaults(), UNTOLD_PRESETS)


def test_what_a_checkpoint_says_holds_with_released(untold: Path, tmp_path: Path) -> None:
    own = tiny_completer_folder(tmp_path / "own")
    assert chosen(own, "released") == chosen(own, "corrected") == SAMPLING
    convert(untold, tmp_path / "converted", stage=STAGE)
    path = tmp_path / "converted" / STAGE / SETTINGS_FILE
    values = json.loads(path.read_text())
    values["sampling"] |= {"num_inference_steps": 10, "guidance_scale": 1.2, "decode_chunk_size": 4}
    path.write_text(json.dumps(values))
    told = SamplingDefaults(num_inference_steps=10, guidance_scale=1.2, decode_chunk_size=4)
    assert chosen(tmp_path / "converted", "released") == told


def test_a_solver_that_does_not_fit_is_refused_before_any_work() -> None:
    parts = tiny_components()
    scheduler = type(parts.scheduler).from_config(parts.scheduler.config, use_karras_sigmas=False)
    odd: StageComponents = replace(parts, scheduler=scheduler, settings=replace(parts.settings, presets=UNTOLD_PRESETS))
    completer = AmodalCompleter(AmodalSegmentationPipeline.from_components(odd), None)
    with pytest.raises(InputError, match=r"^solver: expected euler, .* give --solver euler, or --preset paper$"):
        completer.sampling()
    assert completer.sampling(preset="paper")[STAGE].num_inference_steps == 25
    assert completer.sampling(solver="euler")[STAGE].solver == "euler"

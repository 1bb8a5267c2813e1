"""Figures and the picture of validation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from amodal_diffusion.basics import STAGES, InputError, Stage
from amodal_diffusion.config import BeyondPaper
from amodal_diffusion.data.samples import AmodalSample, SceneDataset
from amodal_diffusion.metrics import score_track, summarise
from amodal_diffusion.pipelines.amodal_segmentation import AmodalSegmentationPipeline
from amodal_diffusion.pipelines.completer import AmodalCompleter
from amodal_diffusion.pipelines.denoising import ConditionedVideoOutput, ConditionedVideoPipeline
from amodal_diffusion.training import validation
from amodal_diffusion.training.checkpoints import export
from amodal_diffusion.training.distributed import Termination, make_accelerator
from amodal_diffusion.training.networks import build_components
from amodal_diffusion.training.settings import DataSettings, ValidationSettings
from amodal_diffusion.training.validation import Prediction, Validator, draw_prediction
from amodal_diffusion.types import AmodalResult, VideoClip
from tests.training.conftest import MakeSettings

GRAY, GAP = 128, 2


@pytest.mark.parametrize(
    ("stage", "names"),
    [
        (
            "amodal_segmentation",
            {"miou", "miou_occ", "miou_occ_frames", "miou_without_guide", "miou_occ_without_guide"},
        ),
        ("content_completion", {"psnr_hidden", "psnr_hidden_without_guide"}),
    ],
)
def test_figures_and_picture(make_settings: MakeSettings, stage: Stage, names: set[str]) -> None:
    settings = make_settings(stage=stage, validation=ValidationSettings(every=1, clips=3, pictures=2))
    validator = Validator(settings, make_accelerator("no"), Termination())
    components = build_components(settings)
    first, again = validator(components, 7), validator(components, 8)
    assert first is not None
    assert again is not None
    assert names <= first.figures.keys()
    assert again.figures == first.figures  # the same noise each time
    picture = np.asarray(Image.open(settings.output / "validation/00000007.png"))
    assert np.array_equal(picture, first.picture)
    assert picture.shape[1] > 2 * 320  # two frames, enlarged, and the labels of the rows
    assert picture.shape[0] > 2 * 3 * 160  # two clips of three rows or more


def test_both_protocols_are_measured(make_settings: MakeSettings) -> None:
    settings = make_settings(data=DataSettings(clips=6, frames=4, height=64, width=128))
    settings = replace(settings, sampling=replace(settings.sampling, mask_threshold=0.0))  # all is predicted
    validator = Validator(settings, make_accelerator("no"), Termination())
    found = validator(build_components(settings), 1)
    assert found is not None
    # On this many pixels something of the hidden parts is left after the erosion of the released protocol.
    assert {"miou", "miou_occ", "miou_occ_released"} <= found.figures.keys()
    assert found.figures["miou_occ_released"] != found.figures["miou_occ"]


def test_nothing_hidden_has_no_figure_of_hidden_parts() -> None:
    seen = np.zeros((2, 8, 8), dtype=np.bool_)
    seen[:, 2:5, 2:5] = True
    sample = AmodalSample("clip", modal=seen, amodal=seen, depth=None, rgb=None, whole_rgb=None)
    figures = validation._mask_figures([validation._scores(Prediction(0, sample, seen, None))])
    assert figures == {"miou": 1.0, "miou_occ_frames": 0, "invented": 0.0}


def answer(_: ConditionedVideoPipeline, modal: Tensor, *__: Any, **___: Any) -> ConditionedVideoOutput:
    """Vague around what is shown, the more so to the left; without noise, so that there is one right answer."""
    ramp = torch.linspace(-0.9, 0.1, modal.shape[-1])
    near = torch.nn.functional.avg_pool2d(modal.flatten(0, 2)[:, None], 9, stride=1, padding=4).view_as(modal)
    video = (0.6 * near + ramp).clamp(-1, 1).expand(-1, -1, 3, -1, -1)
    return ConditionedVideoOutput(video=video, latents=torch.empty(0))


def by_hand(completer: AmodalCompleter, sample: AmodalSample, *, seed: int, amodal: bool = False) -> AmodalResult:
    """As a user calls a completer, with the checkpoint's own settings."""
    rgb = np.zeros((*sample.modal.shape, 3), np.uint8) if sample.rgb is None else sample.rgb
    truth = sample.amodal if amodal else None
    return completer(VideoClip(rgb, sample.modal, 8.0), depth=sample.depth, amodal_mask=truth, seed=seed)


def test_masks_are_cut_as_in_use(make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ConditionedVideoPipeline, "__call__", answer)
    settings = make_settings(
        data=DataSettings(frames=4, height=32, width=64, guide_dropout=0.5),
        validation=ValidationSettings(every=1, clips=2),
    )
    built = build_components(settings)
    prior = BeyondPaper(temporal_prior=True)
    plain = replace(settings.sampling, height=32, width=64, mask_threshold=0.3, beyond=prior)
    ways = [
        plain,
        replace(plain, mask_threshold=0.1, beyond=replace(prior, expected_iou_weight=0.2)),
        replace(plain, beyond=replace(prior, tta=2)),
        replace(plain, beyond=replace(prior, mask_propagation=True)),
        replace(plain, beyond=replace(prior, mask_filters=("depth", "components"))),
    ]
    seen = []
    for sampling in ways:
        validator = Validator(replace(settings, sampling=sampling), make_accelerator("no"), Termination())
        components = replace(built, settings=replace(built.settings, sampling=sampling))
        found = validator(components, 1)
        assert found is not None
        completer = AmodalCompleter(AmodalSegmentationPipeline.from_components(components), None)
        for suffix, clips in (("", validator.clips), ("_without_guide", validator._depthless)):
            assert clips is not None
            samples = [clips.read(index) for index in range(len(clips))]
            assert all((sample.depth is None) is bool(suffix) for sample in samples)
            masks = [by_hand(completer, sample, seed=index).amodal_mask for index, sample in enumerate(samples)]
            pairs = zip(masks, samples, strict=True)
            total = summarise([score_track(mask, sample.modal, sample.amodal) for mask, sample in pairs])
            assert found.figures[f"miou{suffix}"] == pytest.approx(total.miou.value, abs=1e-9)
            assert found.figures[f"miou_occ{suffix}"] == pytest.approx(total.miou_occ.value, abs=1e-9)
        seen.append(found.figures["miou_occ"])
    assert len(set(seen)) == len(ways)  # each of the settings matters


def test_an_exported_checkpoint_gives_a_user_the_same_bytes(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictions: list[Prediction] = []

    def noted(entry: Prediction) -> np.ndarray:
        predictions.append(entry)
        return draw_prediction(entry)

    monkeypatch.setattr(validation, "draw_prediction", noted)
    for stage in STAGES:
        predictions.clear()
        settings = make_settings(stage=stage, validation=ValidationSettings(every=1, clips=2, pictures=2))
        settings = replace(
            settings,
            data=replace(settings.data, guide_dropout=0.0),
            sampling=replace(settings.sampling, mask_threshold=0.5),  # which noise decides, as the weights are random
        )
        components = build_components(settings)
        validator = Validator(settings, make_accelerator("no"), Termination())
        assert validator(components, 1) is not None
        export(components, settings.output / stage)
        completer = AmodalCompleter.from_pretrained(settings.output / stage, stages=(stage,), device="cpu")
        assert [entry.index for entry in predictions] == [0, 1]
        for entry in predictions:
            sample = validator.clips.read(entry.index)
            result = by_hand(completer, sample, seed=entry.index, amodal=stage == "content_completion")
            assert result.amodal_mask.tobytes() == entry.mask.tobytes()
            if stage == "amodal_segmentation":
                other = by_hand(completer, sample, seed=entry.index + 1)
                assert (other.amodal_mask != result.amodal_mask).any()
                continue
            assert result.amodal_rgb is not None
            assert entry.rgb is not None
            assert result.amodal_rgb.tobytes() == entry.rgb.tobytes()


def test_a_request_to_end_breaks_off(make_settings: MakeSettings) -> None:
    settings = make_settings()
    termination = Termination()
    termination.requested = True
    assert Validator(settings, make_accelerator("no"), termination)(build_components(settings), 1) is None


def test_a_clip_that_cannot_be_read_is_named(make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = make_settings()
    monkeypatch.setattr(SceneDataset, "__getitem__", lambda *_: 1 / 0)
    with pytest.raises(InputError, match=r"validation: validation-000000 cannot be read \(ZeroDivisionError: "):
        Validator(settings, make_accelerator("no"), Termination())(build_components(settings), 1)


def test_no_clips_to_show_is_no_picture(make_settings: MakeSettings) -> None:
    settings = make_settings(validation=ValidationSettings(every=1, clips=1, pictures=0))
    found = Validator(settings, make_accelerator("no"), Termination())(build_components(settings), 1)
    assert found is not None
    assert found.picture is None
    assert not (settings.output / "validation").exists()

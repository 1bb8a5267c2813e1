"""Training sees a clip as the model does in use: the same tensors, to the bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from amodal_diffusion.basics import STAGES, Stage
from amodal_diffusion.config import BeyondPaper, Fit, Resample, SamplingConfig
from amodal_diffusion.data.records import read_records
from amodal_diffusion.data.sailvos import SailVosDataset
from amodal_diffusion.data.samples import AmodalSample, SceneDataset
from amodal_diffusion.pipelines.completer import AmodalCompleter
from amodal_diffusion.pipelines.denoising import ConditionedVideoOutput, ConditionedVideoPipeline
from amodal_diffusion.pipelines.preprocessing import clip_frames, preprocess_content, preprocess_segmentation
from amodal_diffusion.training.dataset import ClipPreprocessing
from amodal_diffusion.types import VideoClip
from tests.factories import tiny_completer_folder
from tests.tracks import write_tracks

FITS: tuple[Fit, ...] = get_args(Fit)
RESAMPLES: tuple[Resample, ...] = get_args(Resample)


def config_of(fit: Fit, resample: Resample = "pil", *, temporal_prior: bool = False) -> SamplingConfig:
    """Another size and aspect than the frames', so that each fit does something."""
    return SamplingConfig(
        num_inference_steps=1,
        guidance_scale=1.0,
        num_frames=4,
        height=32,
        width=48,
        fit=fit,
        resample=resample,
        beyond=BeyondPaper(temporal_prior=temporal_prior),
    )


@pytest.fixture(scope="module")
def sample() -> AmodalSample:
    return SceneDataset("train", length=3, frames=4, height=64, width=128, with_rgb=True)[1]


def clip_of(sample: AmodalSample) -> VideoClip:
    assert sample.rgb is not None
    return VideoClip(sample.rgb, sample.modal)


@pytest.mark.parametrize("resample", RESAMPLES)
@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("with_depth", [True, False], ids=["depth", "no depth"])
@pytest.mark.parametrize("temporal_prior", [True, False], ids=["prior", "no prior"])
def test_stage_1_trains_on_what_it_sees_in_use(
    sample: AmodalSample, fit: Fit, resample: Resample, with_depth: bool, temporal_prior: bool
) -> None:
    config = config_of(fit, resample, temporal_prior=temporal_prior)
    depth = sample.depth if with_depth else None
    trained_on = ClipPreprocessing("amodal_segmentation", config)(replace(sample, depth=depth))
    modal, guide = preprocess_segmentation(list(clip_frames(clip_of(sample), depth)), config)
    assert modal.shape == (4, 1, 32, 48)
    assert torch.equal(trained_on.modal[0], modal)
    assert trained_on.guide_present.tolist() == [with_depth]
    assert torch.equal(trained_on.guide[0], torch.zeros_like(modal) if guide is None else guide)
    assert (guide is not None) is with_depth
    if temporal_prior:  # it shows in gray what is hidden
        assert ((modal > -1) & (modal < 0)).any()


@pytest.mark.parametrize("resample", RESAMPLES)
@pytest.mark.parametrize("fit", FITS)
def test_stage_2_trains_on_what_it_sees_in_use(sample: AmodalSample, fit: Fit, resample: Resample) -> None:
    config = config_of(fit, resample)
    trained_on = ClipPreprocessing("content_completion", config)(sample)
    modal, guide = preprocess_content(list(clip_frames(clip_of(sample))), list(sample.amodal), config)
    assert modal.shape == (4, 3, 32, 48)
    assert torch.equal(trained_on.modal[0], modal)
    assert torch.equal(trained_on.guide[0], guide)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_completer_folder(tmp_path_factory.mktemp("model") / "tiny")


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("stage", STAGES)
def test_the_network_of_a_completer_gets_what_training_gave_it(
    model: Path, sample: AmodalSample, stage: Stage, fit: Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = []
    original = ConditionedVideoPipeline.__call__

    def note(
        self: ConditionedVideoPipeline, modal: Tensor, guide: Tensor | None, **options: Any
    ) -> ConditionedVideoOutput:
        given.append((modal, guide))
        return original(self, modal, guide, **options)

    monkeypatch.setattr(ConditionedVideoPipeline, "__call__", note)
    completer = AmodalCompleter.from_pretrained(model, stages=(stage,), device="cpu")
    config = completer.config(height=32, width=48, num_frames=4, fit=fit, skip_unoccluded=False)
    used = config.amodal_segmentation or config.content_completion
    assert used is not None
    # A clip whose visible part is all there is has the same crops with and without its amodal masks.
    if stage == "content_completion":
        sample = replace(sample, modal=sample.amodal)
    amodal = None if stage == "amodal_segmentation" else sample.amodal
    completer(clip_of(sample), config, depth=sample.depth, amodal_mask=amodal)
    trained_on = ClipPreprocessing(stage, used)(sample)
    [(modal, guide)] = given
    assert torch.equal(modal, trained_on.modal)
    assert guide is not None
    assert torch.equal(guide, trained_on.guide)


def test_crops_show_the_object_larger(sample: AmodalSample) -> None:
    near = ClipPreprocessing("amodal_segmentation", config_of("crop"))(sample)
    whole = ClipPreprocessing("amodal_segmentation", config_of("letterbox"))(sample)
    assert near.amodal.gt(0).float().mean() > whole.amodal.gt(0).float().mean()
    assert not (near.modal.gt(0) & near.amodal.lt(0)).any()


@pytest.mark.parametrize("fit", FITS)
def test_tracks_of_a_file_are_seen_as_in_use(tmp_path: Path, fit: Fit) -> None:
    annotations = write_tracks(tmp_path, 1)
    record = read_records(annotations)[0]
    frames = np.stack([np.asarray(Image.open(tmp_path / name)) for name in record.image_file_names])
    clip = VideoClip(frames, record.modal_masks())
    amodal = record.amodal_masks() | clip.modal_mask
    track = SailVosDataset(annotations, frames=4, with_rgb=True)[0]
    config = config_of(fit)
    trained_on = ClipPreprocessing("amodal_segmentation", config)(track)
    assert torch.equal(trained_on.modal[0], preprocess_segmentation(list(clip_frames(clip)), config)[0])
    track = replace(track, whole_rgb=frames)
    trained_on = ClipPreprocessing("content_completion", config)(track)
    modal, guide = preprocess_content(list(clip_frames(clip)), list(amodal), config)
    assert torch.equal(trained_on.modal[0], modal)
    assert torch.equal(trained_on.guide[0], guide)


def test_the_target_of_stage_1_is_preprocessed_as_its_modal_mask(sample: AmodalSample) -> None:
    visible = replace(sample, amodal=sample.modal)
    for fit in FITS:
        batch = ClipPreprocessing("amodal_segmentation", config_of(fit))(visible)
        assert torch.equal(batch.amodal, batch.modal)

"""Training to one deterministic step: the loss is of what one step samples, and the teacher's samples are targets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from amodal_diffusion.basics import InputError
from amodal_diffusion.config import SamplingConfig
from amodal_diffusion.data.cache import TensorCache
from amodal_diffusion.models.checkpoint import CheckpointSettings, read_settings
from amodal_diffusion.models.hub import load_stage
from amodal_diffusion.models.saving import save_model
from amodal_diffusion.models.schedulers import highest_noise_level
from amodal_diffusion.parsing import load_settings
from amodal_diffusion.pipelines.denoising import ConditionedVideoPipeline
from amodal_diffusion.training import trainer
from amodal_diffusion.training.clip_sources import training_clips
from amodal_diffusion.training.dataset import TaskBatch
from amodal_diffusion.training.distillation import Teacher
from amodal_diffusion.training.encoded_scenes import EncodedScenes
from amodal_diffusion.training.latent_cache import frame_depth
from amodal_diffusion.training.latents import LatentBatch, cut_frames, encode_batch, take_samples
from amodal_diffusion.training.loss import PixelLoss, one_step_loss
from amodal_diffusion.training.networks import build_components
from amodal_diffusion.training.order import ClipOrder, seeded_generator
from amodal_diffusion.training.precompute import PrecomputeSettings, precompute
from amodal_diffusion.training.settings import DataSettings, NoiseSettings, OneStepSettings, TrainingSettings
from tests.factories import tiny_components, tiny_depth_folder
from tests.tracks import write_tracks
from tests.training.conftest import MakeSettings, fit, reset_accelerate

ONE_STEP = SamplingConfig(
    num_inference_steps=1, guidance_scale=1.0, initial_noise="zero", height=16, width=32, num_frames=4
)
CONFIG = Path(__file__).resolve().parents[2] / "configs/sailvos_one_step.yaml"


@pytest.fixture(scope="module")
def teacher_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stage that is sampled in two steps under guidance."""
    folder = tmp_path_factory.mktemp("teacher") / "model"
    sampling = replace(ONE_STEP, num_inference_steps=2, guidance_scale=1.5, initial_noise="random")
    components = replace(tiny_components(seed=3), settings=CheckpointSettings("amodal_segmentation", sampling))
    save_model([components], folder)
    return folder


@pytest.fixture
def make_run(make_settings: MakeSettings, teacher_folder: Path, tmp_path: Path) -> Callable[..., TrainingSettings]:
    """Two steps on eight scenes, of which the teacher takes half."""

    def make(**changes: Any) -> TrainingSettings:
        settings = make_settings(
            steps=2,
            conditioning_dropout=0.0,
            pixel_weight=1.0,
            sampling=ONE_STEP,
            one_step=OneStepSettings(enabled=True, teacher=str(teacher_folder), frame_stages=((2, 1),)),
            data=DataSettings(clips=8, frames=4, height=16, width=32, cache=tmp_path / "cache"),
        )
        model = replace(settings.model, base=str(teacher_folder), vae=None)
        return replace(settings, **{"model": model, **changes})

    return make


def _filled(settings: TrainingSettings, **changes: object) -> bool:
    reset_accelerate()
    values = {entry.name: getattr(settings, entry.name) for entry in fields(settings)}
    return precompute(PrecomputeSettings(**{**values, **changes}))


def _sample(folder: str, clip: TaskBatch, seed: int) -> torch.Tensor:
    pipeline = ConditionedVideoPipeline.from_components(load_stage(folder, stage="amodal_segmentation"))
    pipeline.set_progress_bar_config(disable=True)
    guide = clip.guide if clip.guide_present.all() else None
    return pipeline(clip.modal, guide, generator=torch.Generator().manual_seed(seed)).latents.half()


def test_the_loss_is_zero_at_what_one_step_samples() -> None:
    components = tiny_components()
    components.unet.eval()
    modal = torch.rand(2, 3, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    pipeline = ConditionedVideoPipeline.from_components(components)
    sampled = pipeline(modal, None, sampling=replace(ONE_STEP, noise_aug_strength=0.0)).latents
    again = pipeline(modal, None, sampling=replace(ONE_STEP, noise_aug_strength=0.0)).latents
    assert torch.equal(sampled, again)  # no seed is given, and none is needed
    generators = [seeded_generator("training", 0, count) for count in range(2)]
    clip = TaskBatch(modal, torch.zeros_like(modal), modal, torch.tensor([False, False]))
    noise = NoiseSettings(condition_log_mean=-30.0)
    parts = {"vae": components.vae, "image_encoder": components.image_encoder}
    batch = replace(encode_batch(clip, **parts, noise=noise, generators=generators), target=sampled)
    sigma = highest_noise_level(components.scheduler, ONE_STEP)
    assert sigma == 700.0
    pixels = PixelLoss(lambda latents: latents[:, :, :3], 1.0, 2)
    with torch.no_grad():
        found = one_step_loss(components.unet, batch, sigma=sigma, generators=generators, pixels=pixels)
        other = replace(batch, target=sampled + 1.0)
        assert one_step_loss(components.unet, other, sigma=sigma, generators=generators) == pytest.approx(1.0, 1e-3)
    assert found < 1e-8


def test_clips_are_cut_to_neighboring_frames_of_their_own() -> None:
    numbers = torch.arange(6.0).repeat(8, 1)[..., None, None, None]  # [B, F, 1, 1, 1]
    batch = LatentBatch(numbers, numbers, numbers, numbers[..., 0, 0], torch.zeros(8))
    generators = [seeded_generator("training", 0, count) for count in range(8)]
    cut = cut_frames(batch, 2, generators=generators)
    starts = cut.target[:, 0].flatten()
    assert len(set(starts.tolist())) > 1
    for name in ("target", "modal", "guide", "tokens"):
        values = getattr(cut, name).flatten(1)
        assert torch.equal(values, torch.stack([starts, starts + 1], dim=1))
    assert cut_frames(batch, 6, generators=generators) is batch


def test_stages_follow_each_other() -> None:
    stages = OneStepSettings(enabled=True, frame_stages=((1, 2), (4, 3)))
    assert [stages.frames_at(step) for step in range(7)] == [1, 1, 4, 4, 4, None, None]


def test_scenes_are_taught_by_share_and_the_checkpoint_takes_one_step(
    make_run: Callable[..., TrainingSettings],
) -> None:
    settings = make_run()
    with pytest.raises(InputError, match="lacks 8 of 8 scenes"):
        fit(settings)
    assert _filled(settings)
    assert _filled(settings, verify=True)
    assert settings.data.cache is not None
    storage = TensorCache(settings.data.cache)
    teacher = Teacher.of(settings, storage)
    assert teacher is not None
    components = build_components(settings)
    plain, scenes = (EncodedScenes(settings, storage, components, which) for which in (None, teacher))
    taught = [index for index in range(8) if scenes.teacher_entry(index) is not None]
    assert 0 < len(taught) < 8
    clips = training_clips(settings)
    for index in (taught[0], next(index for index in range(8) if index not in taught)):
        entry = scenes.teacher_entry(index)
        if entry is None:
            assert torch.equal(scenes[index].target, plain[index].target)
        else:
            expected = _sample(str(settings.one_step.teacher), clips[index], int(entry.key[:15], 16))
            assert torch.equal(scenes[index].target, expected)
        assert torch.equal(scenes[index].modal, plain[index].modal)

    reset_accelerate()
    result = fit(settings)
    assert result.finished
    assert read_settings(result.model).sampling == ONE_STEP
    entry = scenes.teacher_entry(taught[0])
    assert entry is not None
    storage.path(entry.key).unlink()
    assert not _filled(settings, verify=True)
    with pytest.raises(InputError, match="lacks 1 of 8 scenes"):
        scenes.check()


@pytest.mark.parametrize("with_depth", [False, True], ids=["without depth", "with depth"])
def test_tracks_are_taught_by_their_content(
    with_depth: bool, make_run: Callable[..., TrainingSettings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_run()
    data = replace(settings.data, annotations=write_tracks(tmp_path / "scenes", 1))
    one_step = replace(settings.one_step, teacher_share=1.0, frame_stages=())
    model = replace(settings.model, depth_model=str(tiny_depth_folder(tmp_path / "depth")) if with_depth else None)
    validation = replace(settings.validation, every=0)
    changes = {"data": data, "one_step": one_step, "model": model, "validation": validation}
    settings = replace(settings, steps=1, batch_size=1, **changes)
    with pytest.raises(InputError, match=r"data: .*lacks a sample of the teacher"):
        fit(settings)
    assert _filled(settings)
    seen: list[LatentBatch] = []

    def spy(*arguments: Any) -> LatentBatch:
        seen.append(take_samples(*arguments))
        return seen[-1]

    monkeypatch.setattr(trainer, "take_samples", spy)
    reset_accelerate()
    assert fit(settings).finished
    assert data.cache is not None
    storage = TensorCache(data.cache)
    teacher = Teacher.of(settings, storage)
    assert teacher is not None
    clips = training_clips(settings, depth=frame_depth(settings, storage, "cpu"))
    clip = clips[ClipOrder(len(clips), settings.seed).clip_at(0)]
    assert bool(clip.guide_present.all()) == with_depth
    entry = teacher.entry_of_track(clip)
    assert entry is not None
    assert torch.equal(seen[0].target.half(), _sample(str(one_step.teacher), clip, int(entry.key[:15], 16)))
    other = Teacher.of(replace(settings, mixed_precision="bf16"), storage)
    assert other is not None
    found = other.entry_of_track(clip)
    assert found is not None
    assert found.key != entry.key  # made under another precision


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"conditioning_dropout": 0.1}, "conditioning_dropout: expected 0 beside one_step.enabled"),
        ({"sampling": SamplingConfig()}, "sampling.num_inference_steps, sampling.initial_noise: expected 1 and zero"),
        ({"one_step": OneStepSettings()}, "sampling.initial_noise: expected random"),
        ({"steps": 1}, "one_step.frame_stages: expected stages of less than 1 steps"),
        ({"data": DataSettings()}, "data.cache: expected a folder beside one_step.teacher"),
        ({"data": DataSettings(guide_dropout=0.5, cache=Path("cache"))}, "data.guide_dropout: expected 0 or 1"),
    ],
)
def test_settings_that_do_not_fit_are_one_line(
    changes: dict[str, Any], message: str, make_run: Callable[..., TrainingSettings]
) -> None:
    with pytest.raises(InputError, match=message):
        make_run(**changes)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: OneStepSettings(teacher="tiny"), "one_step.teacher: expected one_step.enabled"),
        (lambda: OneStepSettings(frame_stages=((1, 2),)), "one_step.frame_stages: expected one_step.enabled"),
        (lambda: OneStepSettings(teacher_share=0.0), "one_step.teacher_share"),
        (lambda: OneStepSettings(frame_stages=((0, 1),)), "one_step.frame_stages"),
        (lambda: SamplingConfig(initial_noise="zero"), "num_inference_steps: expected at most 1"),
        (lambda: replace(ONE_STEP, samples=2), "samples: expected at most 1"),
        (lambda: replace(ONE_STEP, initial_noise="none"), "initial_noise: expected one of random, zero"),
        (lambda: CheckpointSettings("amodal_segmentation", ONE_STEP).preset("paper"), "one deterministic step, got 25"),
    ],
)
def test_values_out_of_range_are_named(make: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def test_the_run_on_sailvos_teaches_half_of_the_clips_in_stages_of_1_4_and_25_frames() -> None:
    settings = load_settings(TrainingSettings, CONFIG)
    assert settings.one_step.teacher_share == 0.5
    assert settings.one_step.teacher == settings.model.base
    assert [settings.one_step.frames_at(step) for step in (0, 2000, 4000)] == [1, 4, None]
    assert settings.data.frames == 25

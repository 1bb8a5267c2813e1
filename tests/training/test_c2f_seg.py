"""Training of C2F-Seg: augmentation, losses, optimizer groups, both parts through the loop, exact resumption."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from amodal_diffusion.basics import InputError
from amodal_diffusion.models.c2f_seg import C2FSampling, C2FSeg
from amodal_diffusion.models.c2f_seg.autoencoder import MaskAutoencoder
from amodal_diffusion.models.c2f_seg.network import token_loss
from amodal_diffusion.models.c2f_seg.saving import load_autoencoder, save_autoencoder
from amodal_diffusion.models.perceptual import Lpips
from amodal_diffusion.parsing import load_settings
from amodal_diffusion.pipelines.c2f_seg import C2FSegmenter
from amodal_diffusion.training.c2f_seg.augmentation import augment_masks, blur, dilate, erode
from amodal_diffusion.training.c2f_seg.clips import CroppedClips, CropRule, training_clips
from amodal_diffusion.training.c2f_seg.objectives import AutoencoderObjective, CropBatch, SegmentationObjective
from amodal_diffusion.training.c2f_seg.settings import (
    AugmentationSettings,
    AutoencoderLossSettings,
    C2FTrainingSettings,
    ClipSettings,
    SegmentationLossSettings,
)
from amodal_diffusion.training.c2f_seg.setup import build_model, read_settings, train
from amodal_diffusion.training.object_clips import AmodalImages
from amodal_diffusion.training.objective_trainer import LoopSettings, ObjectiveTrainer, Task
from amodal_diffusion.training.run_settings import RateSettings
from amodal_diffusion.types import VideoClip
from tests.c2f_seg import IMAGE, SMALL, images_of, masks_of, moving_shape
from tests.training.launching import ROOT, launch

CONFIGS = ROOT / "configs"


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch_of(clips: int = 2, size: int = 32) -> CropBatch:
    samples = [moving_shape(seed, size=size) for seed in range(clips)]
    modal = masks_of(samples, "modal")
    return CropBatch(images_of(samples), modal, modal, masks_of(samples, "amodal"))


# ---- augmentation ----


def test_boxes_dilate_and_erode_as_scipy_does() -> None:
    from scipy import ndimage

    mask = np.random.default_rng(0).random((20, 24)) < 0.5
    frame = torch.from_numpy(mask).float()[None, None]
    for height, width in ((3, 3), (1, 5), (4, 2)):
        box = np.ones((height, width))
        origin = (-((height + 1) % 2), -((width + 1) % 2))
        found = dilate(frame, height, width)[0, 0].numpy() > 0
        assert np.array_equal(found, ndimage.binary_dilation(mask, box, origin=origin))
        found = erode(frame, height, width)[0, 0].numpy() > 0
        assert np.array_equal(found, ndimage.binary_erosion(mask, box, border_value=1))


def test_augmentation_is_frame_by_frame_from_its_generator_and_never_empties_a_mask() -> None:
    masks = batch_of(1, size=64).modal[0]
    tiny = torch.zeros(1, 1, 64, 64)
    tiny[..., 30, 30] = 1
    masks = torch.cat([masks, tiny])
    for settings in (AugmentationSettings(1.0, 0.0), AugmentationSettings(0.0, 1.0, dilate=0.0, blur_after=1.0)):
        changed = augment_masks(masks, settings, generator=generator())
        assert torch.equal(changed, augment_masks(masks, settings, generator=generator()))
        assert set(changed.unique().tolist()) == {0.0, 1.0}
        assert changed.flatten(1).any(dim=1).all()
        assert torch.equal(changed[-1], masks[-1])
        assert not torch.equal(changed, masks)
    assert torch.equal(augment_masks(masks, AugmentationSettings(0.0, 0.0), generator=generator()), masks)
    larger = augment_masks(masks, AugmentationSettings(0.0, 1.0, dilate=1.0, blur_after=0.0), generator=generator())
    assert (larger >= masks).all()
    with pytest.raises(InputError, match=r"blur 0.6, morph 0.5"):
        AugmentationSettings(0.6, 0.5)


def test_a_blurred_half_plane_stays_and_a_speck_goes() -> None:
    half = torch.zeros(1, 1, 64, 64)
    half[..., :20] = 1
    assert torch.equal(blur(half), half)
    assert not blur(1 - torch.ones(1, 1, 64, 64).index_fill(3, torch.tensor([30]), 0)).any()


# ---- losses ----


def test_the_token_loss_counts_all_positions_or_masked_ones() -> None:
    logits = torch.zeros(1, 4, 5)
    logits[0, 0, 2] = 50.0
    ids, masked = torch.tensor([[2, 1, 1, 1]]), torch.tensor([[True, False, False, False]])
    assert float(token_loss(logits, ids, masked=masked, label_smoothing=0.0)) == pytest.approx(0, abs=1e-6)
    everywhere = float(token_loss(logits, ids, label_smoothing=0.0))
    assert everywhere == pytest.approx(0.75 * np.log(5), rel=1e-5)


@pytest.mark.parametrize(
    "settings",
    [SegmentationLossSettings(), SegmentationLossSettings("uniform", "masked", 0.0, "decoded")],
    ids=["released", "paper"],
)
def test_gradients_reach_all_networks_but_the_autoencoder(settings: SegmentationLossSettings) -> None:
    model = C2FSeg(SMALL)
    SegmentationObjective(model, settings, C2FSampling())(batch_of(), generator(), 0).backward()
    without = {name.split(".")[0] for name, value in model.named_parameters() if value.grad is None}
    assert without == {"autoencoder"}
    found = [value.grad for name, value in model.named_parameters() if not name.startswith("autoencoder.")]
    assert all(grad is not None and bool(grad.isfinite().all()) for grad in found)


@pytest.mark.slow
def test_the_adversarial_loss_trains_both_networks_each_on_its_own() -> None:
    torch.manual_seed(0)
    autoencoder, lpips = MaskAutoencoder(SMALL.autoencoder), Lpips().eval().requires_grad_(False)
    objective = AutoencoderObjective(autoencoder, AutoencoderLossSettings("l1_lpips_gan"), lpips)
    batch = batch_of()
    objective(batch, generator(), 0).backward()
    trained = dict(objective.discriminator.named_parameters())
    assert all(value.grad is not None for value in [*autoencoder.parameters(), *trained.values()])
    # The gradient of the discriminator is that of the hinge loss alone.
    masks = batch.amodal.flatten(0, 1)
    real, made = objective.discriminator(masks), objective.discriminator(autoencoder(masks).masks.detach())
    hinge = 0.5 * ((1 - real).relu().mean() + (1 + made).relu().mean())
    expected = torch.autograd.grad(hinge, list(trained.values()))
    for value, grad in zip(trained.values(), expected, strict=True):
        assert value.grad is not None
        assert torch.allclose(value.grad, grad, atol=1e-6)
    with pytest.raises(InputError, match=r"autoencoder_loss.lpips: expected a safetensors file"):
        C2FTrainingSettings(part="autoencoder", autoencoder_loss=AutoencoderLossSettings("l1_lpips_gan"))


# ---- data ----


def test_a_short_clip_is_padded_to_the_window_and_the_autoencoder_needs_no_color() -> None:
    class One:
        def __len__(self) -> int:
            return 1

        def name(self, index: int) -> str:
            return f"clip {index}"

        def __getitem__(self, index: int, /) -> object:
            return moving_shape(index, frames=3, size=40)

    video = CroppedClips(One(), CropRule(SMALL, (2.0, 2.0)))[0]  # type: ignore[arg-type]
    assert video.images.shape == (1, 4, 3, 32, 32)
    assert torch.equal(video.amodal[:, 3], video.amodal[:, 2])
    longer = CroppedClips(One(), CropRule(SMALL, (2.0, 2.0), length=8))[0]  # type: ignore[arg-type]
    assert longer.images.shape == (1, 8, 3, 32, 32)
    rule = CropRule(SMALL, (1.5, 3.0), around_amodal=True, frames=5, length=5)
    assert CroppedClips(One(), rule).draw(0, generator=generator()).amodal.shape[1] == 5  # type: ignore[arg-type]
    rule = CropRule(SMALL, (1.5, 3.0), around_amodal=True, frames=2, length=2)
    drawn = [CroppedClips(One(), rule).draw(0, generator=generator(seed)).amodal for seed in (0, 0, 1)]  # type: ignore[arg-type]
    assert drawn[0].shape == (1, 2, 1, 32, 32)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_objects_of_single_images_are_clips_of_one_frame(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (20, 12), (9, 99, 9)).save(tmp_path / "one.png")
    whole, seen = [2, 2, 14, 2, 14, 9, 2, 9], [2, 2, 8, 2, 8, 9, 2, 9]
    content = {
        "images": [{"id": 1, "file_name": "one.png", "height": 12, "width": 20}],
        "annotations": [{"image_id": 1, "a_segm": [whole], "i_segm": [seen]}],
    }
    (tmp_path / "kins.json").write_text(json.dumps(content))
    sample = AmodalImages(tmp_path / "kins.json")[0]
    assert sample.modal.shape == sample.amodal.shape == (1, 12, 20)
    assert sample.amodal.sum() > sample.modal.sum() > 0
    settings = C2FTrainingSettings(networks=IMAGE, data=ClipSettings(amodal_images=tmp_path / "kins.json", frames=1))
    assert training_clips(settings)[0].images.shape == (1, 1, 3, 32, 32)
    with pytest.raises(InputError, match=r"data.frames: expected 1 beside"):
        ClipSettings(amodal_images=tmp_path / "kins.json")


# ---- the loop ----


def settings_of(folder: Path, **loop: object) -> C2FTrainingSettings:
    return C2FTrainingSettings(
        networks=SMALL,
        data=ClipSettings(clips=3, frames=4, height=32, width=48),
        rate=RateSettings(learning_rate=1e-3, schedule="cosine"),
        loop=LoopSettings(
            output=folder, steps=4, cpu=True, checkpoint_every=2, keep_checkpoints=9, tracker="none", **loop
        ),
    )


def trained_autoencoder(folder: Path) -> Path:
    torch.manual_seed(0)
    save_autoencoder(MaskAutoencoder(SMALL.autoencoder), folder)
    return folder


@pytest.mark.slow
def test_a_run_resumes_to_the_bit_and_exports_a_segmenter(tmp_path: Path) -> None:
    autoencoder = trained_autoencoder(tmp_path / "autoencoder")
    once = replace(settings_of(tmp_path / "once"), autoencoder=autoencoder)
    assert train(once).finished
    parted = replace(settings_of(tmp_path / "parted"), autoencoder=autoencoder)
    first = replace(parted, loop=replace(parted.loop, max_minutes=1e-9))  # ends after one step
    assert train(first).step == 1
    assert train(parted).finished
    one, other = (load_file(tmp_path / name / "model/model.safetensors") for name in ("once", "parted"))
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    untouched = load_file(autoencoder / "model.safetensors")
    assert all(torch.equal(one[f"autoencoder.{name}"], value) for name, value in untouched.items())
    sample = moving_shape(0, size=40)
    segmenter = C2FSegmenter.from_folder(tmp_path / "once/model")
    assert segmenter(VideoClip(sample.rgb, sample.modal, cuts="none")).valid.all()
    lines = [json.loads(line) for line in (tmp_path / "once/log.jsonl").read_text().splitlines()]
    assert "loss" in lines[-1]
    assert load_settings(C2FTrainingSettings, tmp_path / "once/settings.yaml") == once


@pytest.mark.slow
def test_the_autoencoder_is_trained_and_then_taken(tmp_path: Path) -> None:
    settings = replace(settings_of(tmp_path / "run"), part="autoencoder")
    settings = replace(settings, autoencoder_loss=AutoencoderLossSettings(reseed_step=2, masks_per_clip=2))
    assert train(settings).finished
    autoencoder = load_autoencoder(tmp_path / "run/model")
    with pytest.raises(InputError, match="autoencoder: expected the folder of a trained one"):
        build_model(settings)
    second = replace(settings, part="segmentation", autoencoder=tmp_path / "run/model")
    model = build_model(second)
    weights = model.autoencoder.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in autoencoder.state_dict().items())
    with pytest.raises(InputError, match=r"networks.autoencoder: .* differs from that of"):
        build_model(replace(second, networks=replace(SMALL, autoencoder=replace(SMALL.autoencoder, num_codes=32))))


def test_each_parameter_must_be_in_one_group(tmp_path: Path) -> None:
    class Nothing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.bias = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2))

    network = Nothing()
    settings = settings_of(tmp_path)
    for groups in ([[network.weight]], [[network.weight, network.bias], [network.bias]]):
        task = Task(
            objective=network,
            clips=training_clips(settings),
            join=lambda clips: clips[0],
            groups=[{"params": group} for group in groups],
            export=lambda _: None,
            text="",
        )
        with pytest.raises(InputError, match="each of the 2 trained parameters in exactly one group"):
            ObjectiveTrainer(task, settings.loop, settings.rate, settings.loop.accelerator())


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    settings = replace(settings_of(tmp_path / "run", max_bad_steps=2), autoencoder=trained_autoencoder(tmp_path / "a"))
    settings = replace(settings, rate=replace(settings.rate, learning_rate=float("inf")))
    with pytest.raises(InputError, match="loss: not finite in 2 steps in a row"):
        train(settings)


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        (RateSettings(learning_rate=1.0, warmup_steps=10, schedule="linear"), {0: 0.1, 9: 1.0, 10: 1.0, 60: 0.5}),
        (RateSettings(learning_rate=1.0, schedule="cosine"), {0: 1.0, 55: 0.5, 110: 0.0}),
        (RateSettings(learning_rate=1.0, schedule="halving", halve_every=30), {0: 1.0, 29: 1.0, 30: 0.5, 95: 0.125}),
        (RateSettings(learning_rate=1.0, schedule="constant"), {0: 1.0, 109: 1.0}),
    ],
    ids=lambda value: getattr(value, "schedule", ""),
)
def test_the_learning_rate_follows_its_schedule(rate: RateSettings, expected: dict[int, float]) -> None:
    assert {step: rate.at(step, steps=110) for step in expected} == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("c2f_seg_*.yaml")), ids=lambda path: path.stem)
def test_the_published_runs_hold_the_published_numbers(path: Path) -> None:
    settings = load_settings(C2FTrainingSettings, path)
    data = next(name for name in ("kins", "cocoa", "fishbowl", "movi_a") if name in path.stem)
    assert settings.networks.size == 256
    assert settings.networks.autoencoder.num_codes == 256
    steps = {"kins": 45_000, "cocoa": 10_000, "fishbowl": 75_000, "movi_a": 75_000}
    if settings.part == "segmentation":
        assert settings.loop.steps == steps[data]
        assert settings.networks.is_video == (data in ("fishbowl", "movi_a"))
        assert settings.rate.warmup_steps == (3000 if data == "cocoa" else 5000)
    else:
        assert settings.loop.steps == (300_000 if data == "fishbowl" else 100_000)
        assert settings.rate.betas == (0.5, 0.9)


def test_a_task_may_be_anything_with_a_loss(tmp_path: Path) -> None:
    Loss = Callable[..., torch.Tensor]  # noqa: N806

    class Mean(nn.Module):
        def __init__(self, loss: Loss) -> None:
            super().__init__()
            self.value, self.loss = nn.Parameter(torch.zeros(())), loss

        def forward(self, batch: CropBatch, generator: torch.Generator, step: int) -> torch.Tensor:
            return self.loss(self.value, batch.amodal) + 0 * step * torch.rand((), generator=generator)

    settings = settings_of(tmp_path)
    network = Mean(lambda value, masks: (value - masks.mean()) ** 2)
    task = Task(
        objective=network,
        clips=training_clips(settings),
        join=lambda clips: clips[0],
        groups=[{"params": [network.value]}],
        export=lambda folder: save_file({"value": network.value.detach()}, folder / "model.safetensors"),
        text="a: 1\n",
    )
    trainer = ObjectiveTrainer(task, settings.loop, settings.rate, settings.loop.accelerator())
    trainer.resume()
    assert trainer.fit().finished
    trainer.export()
    assert float(load_file(tmp_path / "model/model.safetensors")["value"]) > 0


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_processes_train_both_parts_in_mixed_precision_and_resume_to_the_bit(tmp_path: Path) -> None:
    script = [str(ROOT / "train/train_c2f_seg.py"), "--config", str(ROOT / "configs/debug_c2f_seg.yaml")]
    script += ["--loop.tracker", "none", "--data.clips", "4"]
    launch(*script, "--part", "autoencoder", "--loop.output", str(tmp_path / "autoencoder"), "--loop.steps", "1")
    second = [*script, "--autoencoder", str(tmp_path / "autoencoder/model"), "--loop.mixed_precision", "bf16"]
    launch(*second, "--loop.output", str(tmp_path / "once"))
    launch(*second, "--loop.output", str(tmp_path / "parted"), "--loop.steps", "2")
    printed = launch(*second, "--loop.output", str(tmp_path / "parted"))
    assert "2 processes" in printed
    assert "step 2 of 4, from" in printed
    one, other = (load_file(tmp_path / name / "model/model.safetensors") for name in ("once", "parted"))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_settings_that_do_not_fit_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    settings = read_settings(["--config", str(CONFIGS / "debug_c2f_seg.yaml"), "--rate.warmup_steps", "7"])
    assert (settings.rate.warmup_steps, settings.networks.transformer.window) == (7, (4, 2, 2))
    with pytest.raises(SystemExit) as stop:
        read_settings(["--data.frames", "5"])
    assert stop.value.code == 2
    (line,) = [text for text in capsys.readouterr().err.splitlines() if text.startswith("error: ")]
    assert "data.frames: expected a multiple of the attention window of 24 frames, got 5" in line

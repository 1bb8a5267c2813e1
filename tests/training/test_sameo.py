"""Training of SAMEO: prompts, losses, what is trained, mixing of data sets, overfitting, the loop, exact resumption."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from amodal_diffusion.basics import InputError
from amodal_diffusion.models.sameo import Sameo, SameoConfig, SamShape
from amodal_diffusion.models.sameo.saving import load_sameo, save_sameo
from amodal_diffusion.parsing import load_settings
from amodal_diffusion.training.sameo.images import (
    MixedImages,
    PromptImages,
    draw_part,
    mixing_shares,
    prompt_image,
    training_images,
)
from amodal_diffusion.training.sameo.objective import SameoObjective, dice_loss, draw_boxes, focal_loss, mask_iou
from amodal_diffusion.training.sameo.settings import SameoLossSettings, SameoTrainingSettings, SourceSettings
from amodal_diffusion.training.sameo.setup import build_model, read_settings, train
from tests.sameo import EFFICIENT, TINY, batch_of, fit, ious, occluded_twin, plain_shape, shapes
from tests.training.launching import ROOT, launch


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# ---- prompts, losses, mixing ----


def test_half_of_the_prompts_are_amodal_boxes() -> None:
    boxes = torch.tensor([[[0.0, 0, 1, 1], [0, 0, 2, 2]]]).repeat(2000, 1, 1)
    drawn = draw_boxes(boxes, 0.5, generator=generator())
    assert drawn.shape == (2000, 1, 4)
    assert float((drawn[:, 0, 2] == 2).float().mean()) == pytest.approx(0.5, abs=0.04)
    assert torch.equal(drawn, draw_boxes(boxes, 0.5, generator=generator()))
    assert (draw_boxes(boxes, 0.0, generator=generator())[:, 0, 2] == 1).all()
    assert (draw_boxes(boxes, 1.0, generator=generator())[:, 0, 2] == 2).all()


def test_the_losses_have_their_values_by_hand() -> None:
    masks = torch.zeros(1, 2, 2)
    masks[0, 0] = 1
    assert float(dice_loss(torch.full((1, 2, 2), 0.5), masks, smoothing=0.0)) == pytest.approx(1 - 2 * 1 / 4)
    assert float(dice_loss(masks, masks)) == pytest.approx(0)
    empty = torch.zeros(1, 2, 2)
    assert float(dice_loss(empty, empty)) == 0
    # Probability 1/2 everywhere: each pixel is wrong by 1/2, and its entropy is log 2.
    assert float(focal_loss(empty, masks)) == pytest.approx(0.25 * math.log(2), rel=1e-6)
    logits = torch.tensor([[[1.0, -1], [1, -1]]])
    assert float(mask_iou(logits, masks)) == pytest.approx(1 / 3)
    assert float(mask_iou(-torch.ones(1, 2, 2), empty)) == 1


def test_data_sets_are_drawn_by_the_logarithm_of_their_size() -> None:
    sizes = (10, 1000, 100_000)
    shares, drawing = mixing_shares(sizes), generator()
    drawn = np.bincount([draw_part(shares, generator=drawing) for _ in range(5000)], minlength=3) / 5000
    total = sum(math.log1p(size) for size in sizes)
    assert drawn == pytest.approx([math.log1p(size) / total for size in sizes], abs=0.02)
    with pytest.raises(InputError, match="data: expected data sets with images"):
        MixedImages([])


# ---- what is trained ----


@pytest.mark.parametrize("config", [TINY, EFFICIENT], ids=["sam", "efficient_sam"])
def test_only_the_mask_decoder_gets_gradients_and_changes(config: SameoConfig) -> None:
    model = Sameo(config)
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    fit(model, batch_of(shapes(2), config), steps=2)
    for name, value in model.network.named_parameters():
        decoder = name.startswith("mask_decoder.")
        assert value.requires_grad == decoder
        assert (value.grad is not None) == decoder, name
    changed = {name for name, value in model.network.state_dict().items() if not torch.equal(value, before[name])}
    assert changed
    assert all(name.startswith("mask_decoder.") for name in changed)


@pytest.mark.parametrize("config", [TINY, EFFICIENT], ids=["sam", "efficient_sam"])
def test_every_parameter_takes_part_if_all_are_trained(config: SameoConfig) -> None:
    model = Sameo(config)
    model.train_parts("all")
    SameoObjective(model)(batch_of(shapes(1), config), generator(), 0).backward()
    trained = [(name, value) for name, value in model.named_parameters() if value.requires_grad]
    assert any("mask_decoder" not in name for name, _ in trained)
    assert [name for name, value in trained if value.grad is None] == []


def test_kept_embeddings_give_the_output_of_the_full_pass() -> None:
    batch, model = batch_of(shapes(3)), Sameo(TINY)
    cached = SameoObjective(model, cache=2)
    for _ in range(2):
        assert torch.allclose(cached.embeddings(batch), model.encode(batch.images), atol=1e-5)
    prompts = batch.boxes[:, :1]
    assert (model.decode(cached.embeddings(batch), prompts)[0] - model(batch.images, prompts)[0]).abs().max() < 1e-5


# ---- acceptance ----


@pytest.mark.slow
@pytest.mark.parametrize("config", [TINY, EFFICIENT], ids=["sam", "efficient_sam"])
def test_both_kinds_of_boxes_learn_the_whole_shape_and_its_iou(config: SameoConfig) -> None:
    batch, model = batch_of(shapes(16), config), Sameo(config)
    fit(model, batch, steps=300)
    for box in (0, 1):
        true, predicted = ious(model, batch, box)
        assert true.mean() > 0.82
        assert (true - predicted).abs().mean() < 0.15


@pytest.mark.slow
def test_untouched_twins_keep_the_model_from_inventing_hidden_parts() -> None:
    plain = [plain_shape(seed) for seed in range(128)]
    pairs = [(one, occluded_twin(one, plain[(at + 7) % 128], seed=at)) for at, one in enumerate(plain)]
    hidden = [other for _, other in pairs if other is not None]
    untouched = [one for one, other in pairs if other is not None]
    assert len(hidden) >= 100
    unseen = batch_of([plain_shape(seed) for seed in range(1000, 1048)])
    means = []
    for samples in (hidden, hidden + untouched):
        model = Sameo(TINY)
        model.train_parts("all")  # over random encoders a decoder alone does not generalize at all
        fit(model, batch_of(samples), steps=600, rate=1e-3)
        means.append(float(ious(model, unseen, 0)[0].mean()))
    assert means[1] > means[0]


# ---- images and the loop ----


def test_an_image_has_both_boxes_and_its_mask_at_the_decoders_size() -> None:
    (sample,) = shapes(1)
    found = prompt_image(sample, 0, TINY)
    assert found.images.shape == (1, 3, 64, 64)
    assert found.amodal.shape == (1, 32, 32)
    assert (found.boxes[0, 1, 2:] >= found.boxes[0, 0, 2:]).all()
    assert prompt_image(sample, 0, TINY, loss_at="encoder").amodal.shape == (1, 64, 64)
    hidden = replace(sample, modal=np.zeros_like(sample.modal))
    with pytest.raises(InputError, match="shape 0: the object is visible in no frame"):
        PromptImages([hidden], TINY)[0]  # type: ignore[arg-type]  # a list has no names
    assert SameoObjective(Sameo(TINY), SameoLossSettings(loss_at="encoder"))(
        prompt_image(sample, 0, TINY, loss_at="encoder"), generator(), 0
    ).isfinite()


def settings_of(output: Path) -> SameoTrainingSettings:
    settings = load_settings(SameoTrainingSettings, ROOT / "configs/debug_sameo.yaml")
    loop = replace(settings.loop, output=output, steps=1, cpu=True, tracker="none")
    return replace(settings, loop=loop, data=replace(settings.data, clips=2, frames=1))


@pytest.mark.slow
def test_a_run_starts_from_a_base_or_an_export_and_writes_what_was_trained(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    settings = replace(settings_of(tmp_path / "run"), trained="decoder")
    under = Sameo(settings.networks, seed=5)
    (tmp_path / "base").mkdir()
    state = {name: value.clone() for name, value in under.network.state_dict().items()}
    del state["prompt_encoder.shared_embedding.positional_embedding"]  # as in files that hold tied tensors once
    save_file(state, tmp_path / "base/model.safetensors")
    assert train(replace(settings, base=tmp_path / "base")).finished
    written = load_file(tmp_path / "run/model/model.safetensors")
    assert written.keys() == under.mask_decoder.state_dict().keys()
    model, _ = load_sameo(tmp_path / "run/model")
    again = build_model(replace(settings, start=tmp_path / "run/model"))
    for name, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
        if "mask_decoder" not in name:
            assert torch.equal(value, under.state_dict()[name])
    save_sameo(under, tmp_path / "other")
    with pytest.raises(InputError, match=r"networks: .* differs from that of"):
        build_model(replace(settings, start=tmp_path / "other", networks=SameoConfig(sam=SamShape())))


def test_several_files_are_mixed(tmp_path: Path) -> None:
    from PIL import Image

    from amodal_diffusion.data.amodal_lvis import Pool, SourceImage, SourceObject, SynthesisSettings, synthesize
    from amodal_diffusion.frames.masks import encode_rle

    images = []
    for seed in range(3):
        sample = plain_shape(seed)
        assert sample.rgb is not None
        Image.fromarray(sample.rgb[0]).save(tmp_path / f"{seed}.png")
        found = SourceObject(seed, 1, encode_rle(sample.modal[0]))
        images.append(SourceImage(seed, f"{seed}.png", (64, 64), [found]))
    from collections import Counter

    synthesize(Pool(images, Counter()), tmp_path, tmp_path / "made", SynthesisSettings(count=2))
    path = tmp_path / "made/annotations.json"
    settings = settings_of(tmp_path / "run")
    mixed = training_images(replace(settings, data=SourceSettings(amodal_images=(path, path))))
    assert len(mixed) == 2 * (2 + 4)  # targets of two twins, occluders, and no neighbors
    assert mixed.draw(0, generator=generator()).images.shape == (1, 3, 64, 64)
    assert mixed.name(11) == mixed.name(5)
    with pytest.raises(InputError, match=r"data.amodal_image_roots: expected one for each of the 2"):
        SourceSettings(amodal_images=(path, path), amodal_image_roots=(tmp_path,))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_processes_train_in_mixed_precision_and_resume_to_the_bit(tmp_path: Path) -> None:
    script = [str(ROOT / "train/train_sameo.py"), "--config", str(ROOT / "configs/debug_sameo.yaml")]
    script += ["--loop.tracker", "none", "--loop.mixed_precision", "bf16"]
    launch(*script, "--loop.output", str(tmp_path / "once"))
    launch(*script, "--loop.output", str(tmp_path / "parted"), "--loop.steps", "2")
    printed = launch(*script, "--loop.output", str(tmp_path / "parted"))
    assert "2 processes" in printed
    assert "step 2 of 4, from" in printed
    one, other = (load_file(tmp_path / name / "model/model.safetensors") for name in ("once", "parted"))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("name", ["sameo_sam", "sameo_efficient_sam"])
def test_the_published_runs_hold_the_published_numbers(name: str) -> None:
    settings = load_settings(SameoTrainingSettings, ROOT / f"configs/{name}.yaml")
    assert settings.networks.backend == name.removeprefix("sameo_")
    assert settings.trained == "decoder"
    loss = settings.loss
    assert (loss.amodal_box_share, loss.focal_gamma, loss.iou_weight) == (0.5, 2.0, 0.05)


def test_settings_that_do_not_fit_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert read_settings(["--config", str(ROOT / "recipes/sameo/tiny.yaml")]).networks.sam.width == 64
    with pytest.raises(SystemExit) as stop:
        read_settings(["--base", "a", "--start", "b"])
    assert stop.value.code == 2
    (line,) = [text for text in capsys.readouterr().err.splitlines() if text.startswith("error: ")]
    assert "base, start: both are given" in line

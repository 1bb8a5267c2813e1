"""SAMEO's networks: agreement with transformers, sizes as published, geometry, saving and loading."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from amodal_diffusion.basics import InputError
from amodal_diffusion.models.c2f_seg.saving import load_autoencoder
from amodal_diffusion.models.sameo import EfficientSamShape, Sameo, SameoConfig, SameoSampling
from amodal_diffusion.models.sameo.efficient_sam import EfficientSam
from amodal_diffusion.models.sameo.network import (
    frame_geometry,
    frame_logits,
    network_boxes,
    network_masks,
    prepare_images,
)
from amodal_diffusion.models.sameo.saving import load_sameo, save_sameo
from tests.sameo import EFFICIENT, TINY

BOXES = torch.tensor([[[4.0, 6, 30, 40], [10, 12, 50, 61]]])
CONFIGS = pytest.mark.parametrize("config", [TINY, EFFICIENT], ids=["sam", "efficient_sam"])


def images(seed: int = 0) -> torch.Tensor:
    return torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(seed))


def test_the_stock_sam_gives_the_same_masks() -> None:
    model = Sameo(TINY).eval()
    logits, ious = model(images(), BOXES)
    stock = model.network(pixel_values=images(), input_boxes=BOXES, multimask_output=False)
    assert torch.equal(logits, stock.pred_masks[:, :, 0])
    assert torch.equal(ious, stock.iou_scores[:, :, 0])
    trained = sum(value.numel() for value in model.parameters() if value.requires_grad)
    assert trained == 40_608


def test_efficient_sam_has_the_published_sizes() -> None:
    for shape, millions, encoder in (
        (EfficientSamShape(), 10.22, 6.16),
        (EfficientSamShape(vision_width=384, vision_heads=6), 26.41, 22.35),
    ):
        with torch.device("meta"):
            network = EfficientSam(shape)
        counts = [
            sum(value.numel() for value in part.parameters()) / 1e6
            for part in (network, network.image_encoder, network.mask_decoder, network.prompt_encoder)
        ]
        assert counts == pytest.approx([millions, encoder, 4.06, 0.001024], abs=0.005)


@CONFIGS
def test_boxes_of_an_image_are_answered_one_by_one(config: SameoConfig) -> None:
    model = Sameo(config).eval()
    with torch.no_grad():
        logits, ious = model(torch.cat([images(), images(1)]), BOXES.repeat(2, 1, 1))
        alone = model(images(1), BOXES[:, 1:])
    assert logits.shape == (2, 2, 32, 32)
    assert ious.shape == (2, 2)
    assert torch.allclose(logits[1, 1], alone[0][0, 0], atol=1e-5)
    assert torch.allclose(ious[1, 1], alone[1][0, 0], atol=1e-5)
    assert not torch.equal(logits[0, 0], logits[0, 1])
    assert not torch.equal(logits[0, 0], logits[1, 0])


def test_padding_points_count_in_efficient_sam() -> None:
    model = Sameo(EFFICIENT).eval()
    before = model(images(), BOXES)[0]
    with torch.no_grad():
        model.network.prompt_encoder.invalid_points.weight += 1
    assert not torch.allclose(before, model(images(), BOXES)[0])


@pytest.mark.parametrize("size", [(48, 96), (33, 47), (1, 1), (200, 7)])
@CONFIGS
def test_masks_go_into_the_square_and_back(config: SameoConfig, size: tuple[int, int]) -> None:
    geometry = frame_geometry(config, size)
    rgb = np.full((1, *size, 3), 255, dtype=np.uint8)
    assert prepare_images(rgb, geometry).shape == (1, 3, 64, 64)
    height, width = size
    inside = network_boxes(torch.tensor([0.0, 0, width, height]), geometry)
    assert inside.tolist() == pytest.approx([0, 0, geometry.inner_hw[1], geometry.inner_hw[0]])
    if config.backend == "sam":
        assert max(geometry.inner_hw) == 64
        assert not prepare_images(rgb, geometry)[0, :, geometry.inner_hw[0] :].any()
    else:
        assert geometry.inner_hw == (64, 64)
    mask = torch.zeros(1, *size)
    mask[:, : (height + 1) // 2, : (width + 1) // 2] = 1
    back = frame_logits(network_masks(mask, geometry, config) - 0.5, geometry, config)
    assert back.shape == (1, *size)
    if min(size) > 30:
        assert ((back > 0) == (mask > 0)).float().mean() > 0.94


@CONFIGS
def test_a_checkpoint_gives_the_model_back(config: SameoConfig, tmp_path: Path) -> None:
    model = Sameo(config, seed=3)
    save_sameo(model, tmp_path / "model", sampling=SameoSampling(mask_threshold=0.4))
    loaded, sampling = load_sameo(tmp_path / "model")
    assert sampling.mask_threshold == 0.4
    assert torch.equal(loaded(images(), BOXES)[0], model.eval()(images(), BOXES)[0])
    assert json.loads((tmp_path / "model/checkpoint.json").read_text())["method"] == "sameo"
    with pytest.raises(InputError, match="not empty"):
        save_sameo(model, tmp_path / "model")
    with pytest.raises(InputError, match="holds a checkpoint of sameo, not of c2f-seg; --method sameo reads it"):
        load_autoencoder(tmp_path / "model")


def test_a_decoder_over_a_base_needs_exactly_this_base(tmp_path: Path) -> None:
    model, other = Sameo(TINY, seed=1), Sameo(TINY, seed=2)
    for name, network in (("base", model), ("other", other)):
        save_sameo(network, tmp_path / name)
    save_sameo(model, tmp_path / "decoder", base=tmp_path / "base")
    assert (tmp_path / "decoder/model.safetensors").stat().st_size < 300_000
    loaded, _ = load_sameo(tmp_path / "decoder")
    assert torch.equal(loaded(images(), BOXES)[0], model.eval()(images(), BOXES)[0])
    (tmp_path / "base").rename(tmp_path / "moved")
    with pytest.raises(InputError, match=r"holds a mask decoder alone; .*/base, which is no folder"):
        load_sameo(tmp_path / "decoder")
    load_sameo(tmp_path / "decoder", base=tmp_path / "moved")
    with pytest.raises(InputError, match=r"other: not the pretrained weights that the decoder in"):
        load_sameo(tmp_path / "decoder", base=tmp_path / "other")


def test_a_wrong_or_damaged_checkpoint_is_one_line(tmp_path: Path) -> None:
    save_sameo(Sameo(TINY), tmp_path / "model")
    about = tmp_path / "model/checkpoint.json"
    about.write_text('{"format": 2, "method": "s-amodal"}')
    with pytest.raises(InputError, match="holds a checkpoint of s-amodal, not of sameo; --method s-amodal reads it"):
        load_sameo(tmp_path / "model")
    about.write_text('{"format": 99, "method": "sameo"}')
    with pytest.raises(InputError, match="format 99"):
        load_sameo(tmp_path / "model")
    save_sameo(Sameo(TINY), tmp_path / "damaged")
    with (tmp_path / "damaged/model.safetensors").open("ab") as file:
        file.write(b"0")
    with pytest.raises(InputError, match=r"damaged: model.safetensors"):
        load_sameo(tmp_path / "damaged")


class _Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


def test_a_pickle_is_never_opened_and_converted_weights_load_strictly(tmp_path: Path) -> None:
    opened = tmp_path / "opened"
    for name in ("efficient_sam_vitt.pt", "model.safetensors", "model.bin"):
        (tmp_path / name).write_bytes(pickle.dumps({"model": _Trap(opened)}))
    with pytest.raises(InputError, match="not a safetensors file"):
        Sameo(EFFICIENT).load_base(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(InputError):
        Sameo(EFFICIENT).load_base(tmp_path)
    assert not opened.exists()
    published = Sameo(EFFICIENT, seed=7)
    state = dict(published.network.state_dict())
    save_file(state, tmp_path / "model.safetensors")
    model = Sameo(EFFICIENT)
    model.load_base(tmp_path)
    assert torch.equal(model.eval()(images(), BOXES)[0], published.eval()(images(), BOXES)[0])
    assert not model.network.image_encoder.pos_embed.requires_grad
    state["more"] = torch.zeros(1)
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match="unexpected keys: more"):
        model.load_base(tmp_path)

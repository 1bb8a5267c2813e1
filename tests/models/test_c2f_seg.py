"""C2F-Seg's networks: shapes, decoding, windows over time, refinement, checkpoint."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from amodal_diffusion.basics import InputError
from amodal_diffusion.models.c2f_seg import C2FSampling, C2FSeg, C2FSegConfig, load_c2f_seg, save_c2f_seg
from amodal_diffusion.models.c2f_seg.autoencoder import MaskAutoencoder, used_codes
from amodal_diffusion.models.c2f_seg.backbone import image_features
from amodal_diffusion.models.c2f_seg.config import AutoencoderConfig, TransformerConfig
from amodal_diffusion.models.c2f_seg.decoding import decode_in_rounds, keep_likeliest, mask_ratio, random_masking
from amodal_diffusion.models.c2f_seg.network import pad_frames
from amodal_diffusion.models.c2f_seg.refinement import Refinement, channel_gate, spatial_attention
from amodal_diffusion.models.c2f_seg.saving import load_autoencoder, save_autoencoder
from amodal_diffusion.models.c2f_seg.transformer import MaskPredictor
from amodal_diffusion.training.objective_trainer import parameter_groups
from tests.c2f_seg import IMAGE, SMALL, TINY, images_of, masks_of, moving_shape


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_published_networks_have_their_published_size() -> None:
    with torch.device("meta"):
        image = C2FSeg(C2FSegConfig())
        video = C2FSeg(C2FSegConfig(transformer=TransformerConfig(layers=8, window=(24, 4, 4))))
    millions = {name: sum(value.numel() for value in part.parameters()) / 1e6 for name, part in image.named_children()}
    assert millions == pytest.approx(
        {"autoencoder": 64.58, "backbone": 23.51, "transformer": 93.22, "refinement": 10.15}, abs=0.01
    )
    assert sum(value.numel() for value in video.transformer.parameters()) / 1e6 == pytest.approx(83.78, abs=0.01)
    features = image_features(image.backbone, torch.empty(1, 3, 256, 256, device="meta"), grid=16)
    assert [tuple(part.shape[1:]) for part in features] == [
        (256, 64, 64), (512, 32, 32), (1024, 16, 16), (2048, 16, 16),
    ]  # fmt: skip
    reconstruction = image.autoencoder.vq.encode(torch.empty(1, 1, 256, 256, device="meta")).latents
    assert reconstruction.shape == (1, 256, 16, 16)


# ---- tokens ----


def test_masks_become_tokens_and_tokens_masks() -> None:
    autoencoder = MaskAutoencoder(TINY.autoencoder).eval()
    masks = torch.rand(2, 1, 64, 64).round()
    ids = autoencoder.encode(masks)
    assert ids.shape == (2, 64)
    with torch.no_grad():
        assert torch.allclose(autoencoder.decode(ids), autoencoder(masks).masks.clamp(0, 1), atol=1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(autoencoder.encode(masks), ids)


def test_a_new_codebook_is_where_the_latents_are() -> None:
    torch.manual_seed(0)
    autoencoder = MaskAutoencoder(SMALL.autoencoder)
    masks = masks_of([moving_shape(seed, size=32) for seed in range(4)], "amodal").flatten(0, 1)
    before = used_codes(autoencoder.encode(masks))
    autoencoder.reseed(masks, generator=generator())
    assert used_codes(autoencoder.encode(masks)) > max(16, before)


def test_the_published_codebook_loss_has_its_factor_on_the_other_side() -> None:
    values = {}
    for kind in ("textbook", "released"):
        torch.manual_seed(0)
        autoencoder = MaskAutoencoder(replace(SMALL.autoencoder, codebook_loss=kind))
        autoencoder(torch.rand(1, 1, 32, 32)).codebook_loss.backward()
        gradient = autoencoder.vq.quantize.embedding.weight.grad
        assert gradient is not None
        values[kind] = gradient.norm()
    assert float(values["released"] / values["textbook"]) == pytest.approx(0.25, rel=1e-4)


def test_tokens_are_masked_as_released_and_as_in_the_paper() -> None:
    draws = generator()
    released = torch.tensor([mask_ratio("cosine_clamped", generator=draws) for _ in range(3000)])
    assert float(released.min()) == 0.5
    assert float((released == 0.5).float().mean()) == pytest.approx(1 / 3, abs=0.03)
    assert float(released.mean()) == pytest.approx(0.718, abs=0.01)
    uniform = torch.tensor([mask_ratio("uniform", generator=draws) for _ in range(3000)])
    assert float(uniform.mean()) == pytest.approx(0.75, abs=0.01)
    assert random_masking(5, 64, 0.718, generator=draws).sum(dim=1).tolist() == [45] * 5


def peaked(length: int, codes: int) -> tuple[Tensor, Tensor]:
    """Logits that do not depend on the known tokens, and a start without any."""
    logits = 3 * torch.randn(2, length, codes, generator=generator(1))
    return logits, torch.full((2, length), codes)


def test_the_number_of_masked_tokens_follows_the_cosine() -> None:
    logits, start = peaked(256, 16)
    seen: list[Tensor] = []
    ids = decode_in_rounds(lambda _: logits, start, C2FSampling(), generator=generator(), watch=seen.append)
    counts = [[int(row) for row in (found == 16).sum(dim=1)] for found in seen]
    assert counts[0] == [221, 221]
    assert set(counts[1]) <= {127, 128}
    assert counts[2] == [0, 0]
    known = seen[0] != 16
    assert torch.equal(ids[known], seen[0][known])  # a known token stays


def test_decoding_equals_the_rule_written_out() -> None:
    logits, start = peaked(64, 16)
    sampling = C2FSampling(steps=4, top_k=3)
    found = decode_in_rounds(lambda _: logits, start, sampling, generator=generator(5))
    draws, ids = generator(5), start
    for step in range(4):
        ratio = (step + 1) / 4
        probability = keep_likeliest(logits, 3).softmax(dim=-1)
        sampled = torch.multinomial(probability.flatten(0, 1), 1, generator=draws).reshape(ids.shape)
        unknown = ids == 16
        sampled = torch.where(unknown, sampled, ids)
        if step == 3:
            ids = sampled
            break
        left = max(1, min(int(unknown.sum(dim=1)[0]) - 1, math.floor(64 * math.cos(math.pi * ratio / 2))))
        chosen = probability.gather(-1, sampled[..., None])[..., 0]
        certain = torch.where(unknown, chosen, torch.finfo(chosen.dtype).max).log()
        noise = -torch.log((-torch.log(torch.rand(ids.shape, generator=draws).clamp(1e-20))).clamp(1e-20))
        score = certain + 4.5 * (1 - ratio) * noise
        ids = torch.where(score < score.sort(dim=-1).values[:, left : left + 1], 16, sampled)
    assert torch.equal(found, ids)


def test_one_round_is_enough_and_one_candidate_is_deterministic() -> None:
    logits, start = peaked(64, 16)
    once = decode_in_rounds(lambda _: logits, start, C2FSampling(steps=1), generator=generator())
    assert int(once.max()) < 16
    sampling = C2FSampling(top_k=1, temperature=0.0)
    certain = [decode_in_rounds(lambda _: logits, start, sampling, generator=generator(seed)) for seed in (0, 1)]
    assert torch.equal(certain[0], certain[1])
    assert torch.equal(certain[0], logits.argmax(dim=-1))


# ---- time ----


def predictor(*, mask_wrap: bool = False, window: tuple[int, int, int] | None = (4, 2, 2)) -> MaskPredictor:
    torch.manual_seed(0)
    config = TransformerConfig(32, layers=3, heads=4, window=window, mask_wrap=mask_wrap)
    network = MaskPredictor(config, num_codes=16, grid=4, image_channels=8).eval()
    for value in network.parameters():  # large weights, so that frames matter for each other
        torch.nn.init.normal_(value, std=0.3)
    return network


def answers(network: MaskPredictor, frames: int, order: Tensor | None = None, *, roll: bool = True) -> Tensor:
    draws = generator(3)
    ids, modal = (torch.randint(0, 17, (frames, 16), generator=draws) for _ in range(2))
    features = torch.randn(frames, 8, 4, 4, generator=draws)
    if order is not None:
        ids, modal, features = ids[order], modal[order], features[order]
    if roll:
        return network(ids, modal, features, frames=frames).detach()
    original = torch.Tensor.roll
    try:
        torch.Tensor.roll = lambda self, *_, **__: self  # type: ignore[method-assign,assignment]
        return network(ids, modal, features, frames=frames).detach()
    finally:
        torch.Tensor.roll = original  # type: ignore[method-assign]


def test_the_roll_changes_nothing_in_one_window_and_much_in_two() -> None:
    network = predictor()
    assert (answers(network, 4) - answers(network, 4, roll=False)).abs().max() < 1e-4
    assert (answers(network, 8) - answers(network, 8, roll=False)).abs().max() > 1e-2


def test_frames_of_one_window_have_no_order() -> None:
    network, order = predictor(), torch.tensor([2, 0, 3, 1])
    assert (answers(network, 4)[order] - answers(network, 4, order)).abs().max() < 1e-4
    network.config = replace(network.config, temporal_position=True)
    network.time = torch.nn.Parameter(torch.randn(4, 32))
    assert (answers(network, 4)[order] - answers(network, 4, order)).abs().max() > 1e-2


def influence(network: MaskPredictor, frames: int) -> Tensor:
    """Whether a frame (column) changes the answer in another (row), bool ``[F, F]``."""
    draws = generator(3)
    ids, modal = (torch.randint(0, 17, (frames, 16), generator=draws) for _ in range(2))
    features = torch.randn(frames, 8, 4, 4, generator=draws).requires_grad_()
    result = network(ids, modal, features, frames=frames)
    rows = [torch.autograd.grad(result[frame].sum(), features, retain_graph=True)[0] for frame in range(frames)]
    return torch.stack([row.flatten(1).abs().sum(dim=1) > 0 for row in rows])


def test_windows_pass_on_what_frames_show_and_a_mask_keeps_the_ends_apart() -> None:
    two = replace(predictor().config, layers=2)
    seen = {}
    for wrap in (False, True):
        torch.manual_seed(0)
        network = MaskPredictor(replace(two, mask_wrap=wrap), num_codes=16, grid=4, image_channels=8).eval()
        seen[wrap] = influence(network, 12)
    assert seen[False][0, 11]  # the roll puts first and last frame into one window
    assert not seen[True][0, 11]
    assert seen[True][3, 4]  # neighbors in two windows meet after the roll
    assert not seen[True][0, 8]
    assert not influence(predictor(window=None), 3)[0, 1]  # frames of an image model do not see each other


def test_clips_of_a_batch_do_not_mix() -> None:
    network = predictor()
    draws = generator(4)
    ids, modal = (torch.randint(0, 17, (16, 16), generator=draws) for _ in range(2))
    features = torch.randn(16, 8, 4, 4, generator=draws)
    with torch.no_grad():
        both = network(ids, modal, features, frames=8)
        each = [network(ids[part], modal[part], features[part], frames=8) for part in (slice(0, 8), slice(8, 16))]
    assert torch.allclose(both, torch.cat(each), atol=1e-4)


def test_the_last_frame_fills_a_window() -> None:
    clip = torch.arange(3.0)[None, :, None]
    assert pad_frames(clip, 4).flatten().tolist() == [0, 1, 2, 2]
    assert pad_frames(clip, 3) is clip


# ---- refinement ----


def test_attention_is_where_features_are_like_those_in_the_mask() -> None:
    features = torch.zeros(1, 2, 2, 2)
    features[0, 0, 0] = 3.0  # the upper row
    mask = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])
    found = spatial_attention(features, mask, scale=1.0)
    high = math.exp(9) / (2 * math.exp(9) + 2)
    assert found.flatten().tolist() == pytest.approx([high, high, 0.5 - high, 0.5 - high], abs=1e-5)
    flat = spatial_attention(features, mask, scale=0.0)
    assert flat.unique().tolist() == [0.25]


def test_the_papers_gate_weighs_channels() -> None:
    features = torch.ones(1, 4, 2, 2)
    features[0, 0] = 5.0
    gated = channel_gate(features, torch.ones(1, 1, 2, 2))
    weight = math.exp(20 / 2) / (math.exp(20 / 2) + 3 * math.exp(4 / 2))
    assert float(gated[0, 0, 0, 0]) == pytest.approx(5 * weight, rel=1e-5)
    assert float(gated[0, 1, 0, 0]) == pytest.approx((1 - weight) / 3, rel=1e-3)


@pytest.mark.parametrize("attention", ["released", "paper"])
@pytest.mark.parametrize("upsample", ["nearest", "bilinear"])
def test_both_refinements_give_both_masks_in_full_size(attention: str, upsample: str) -> None:
    config = replace(TINY.refinement, attention=attention, upsample=upsample)
    refinement = Refinement(config, TINY.backbone.hidden_sizes).eval()
    features = [torch.randn(2, channels, side, side) for channels, side in ((16, 16), (32, 8), (48, 8), (64, 8))]
    visible, amodal = refinement(features, torch.rand(2, 1, 64, 64))
    assert visible.shape == amodal.shape == (2, 1, 64, 64)
    blocks = torch.equal(amodal[..., ::2, ::2], amodal[..., 1::2, 1::2])
    assert blocks == (upsample == "nearest")


# ---- all together ----


@pytest.mark.parametrize("config", [SMALL, IMAGE], ids=["video", "image"])
def test_a_batch_equals_its_clips_and_a_seed_its_masks(config: C2FSegConfig) -> None:
    model = C2FSeg(config).eval()
    samples = [moving_shape(seed, size=32) for seed in range(2)]
    images, modal = images_of(samples), masks_of(samples, "modal")
    certain = C2FSampling(top_k=1, temperature=0.0)
    both = model.predict(images, modal, certain).refined
    each = [model.predict(images[index : index + 1], modal[index : index + 1], certain).refined for index in range(2)]
    assert torch.allclose(both, torch.cat(each), atol=1e-5)
    drawn = [model.predict(images, modal, C2FSampling(), generator=generator(seed)).coarse for seed in (0, 0, 1)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    merged = model.predict(images, modal, certain).probability(merge_coarse=True)
    assert (merged >= both).all()


def test_crops_of_another_size_are_one_line() -> None:
    model = C2FSeg(IMAGE)
    with pytest.raises(InputError, match=r"crops: expected images \[B, F, 3, 32, 32\]"):
        model.predict(torch.zeros(1, 1, 3, 48, 48), torch.zeros(1, 1, 1, 48, 48), C2FSampling())
    with pytest.raises(InputError, match="grid of tokens"):
        image_features(model.backbone, torch.zeros(1, 3, 64, 64), grid=8)


def test_every_trained_parameter_is_in_one_group_and_the_autoencoder_in_none() -> None:
    model = C2FSeg(SMALL)
    groups = parameter_groups(model, weight_decay=0.01)
    grouped = [id(value) for group in groups for value in group["params"]]
    trained = [id(value) for name, value in model.named_parameters() if not name.startswith("autoencoder.")]
    assert sorted(grouped) == sorted(trained)
    assert {id(value) for value in model.autoencoder.parameters()}.isdisjoint(grouped)
    assert all(value.ndim == 1 for value in groups[1]["params"])


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"size": 60}, "size: expected a multiple of 8"),
        ({"transformer": TransformerConfig(64, layers=1, heads=4, window=(4, 3, 3))}, "divisors of the grid of 8 x 8"),
        ({"autoencoder": AutoencoderConfig((16, 16))}, "at least 4"),
    ],
)
def test_networks_that_do_not_fit_are_one_line(wrong: dict[str, object], line: str) -> None:
    with pytest.raises(InputError, match=line):
        replace(TINY, **wrong)
    with pytest.raises(InputError, match="multiple of 4 and of heads"):
        TransformerConfig(30, heads=4)


# ---- checkpoint ----


def test_a_checkpoint_says_its_method_and_comes_back(tmp_path: Path) -> None:
    model, sampling = C2FSeg(SMALL, seed=3).eval(), C2FSampling(steps=2, merge_coarse=True)
    save_c2f_seg(model, tmp_path / "model", sampling=sampling)
    assert json.loads((tmp_path / "model/checkpoint.json").read_text())["method"] == "c2f-seg"
    again, how = load_c2f_seg(tmp_path / "model")
    assert (again.config, how) == (SMALL, sampling)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())
    with pytest.raises(InputError, match="not empty"):
        save_c2f_seg(model, tmp_path / "model")
    with pytest.raises(InputError, match="holds the model of c2f-seg, expected its autoencoder"):
        load_autoencoder(tmp_path / "model")
    save_autoencoder(model.autoencoder, tmp_path / "autoencoder")
    ids = torch.randint(0, 64, (1, 64))
    assert torch.equal(load_autoencoder(tmp_path / "autoencoder").decode(ids), model.autoencoder.decode(ids))


def test_a_damaged_or_foreign_checkpoint_is_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    save_c2f_seg(C2FSeg(IMAGE), folder)
    config, about = (json.loads((folder / name).read_text()) for name in ("config.json", "checkpoint.json"))
    (folder / "config.json").write_text(json.dumps({**config, "networks": {**asdict(IMAGE), "sizes": 3}}))
    with pytest.raises(InputError, match="networks: unknown keys sizes"):
        load_c2f_seg(folder)
    (folder / "config.json").write_text(json.dumps(config))
    for other, line in (({"method": "sameo"}, "sameo, not of c2f-seg; --method sameo"), ({"stage": "x"}, "diffusion")):
        (folder / "checkpoint.json").write_text(json.dumps({"format": 2, **other}))
        with pytest.raises(InputError, match=line):
            load_c2f_seg(folder)
    (folder / "checkpoint.json").write_text(json.dumps(about))
    with (folder / "model.safetensors").open("ab") as file:
        file.write(b"x")
    with pytest.raises(InputError, match=r"model.safetensors has .* bytes"):
        load_c2f_seg(folder)


def test_published_image_features_fit(tmp_path: Path) -> None:
    from transformers import ResNetForImageClassification

    model = C2FSeg(IMAGE)
    torch.manual_seed(9)
    classifier = ResNetForImageClassification(model.backbone.config)
    classifier.save_pretrained(tmp_path)
    model.load_backbone(tmp_path)
    weights = classifier.resnet.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in model.backbone.state_dict().items())
    with pytest.raises(InputError, match="wrong shapes"):
        C2FSeg(replace(IMAGE, backbone=replace(IMAGE.backbone, hidden_sizes=(16, 32, 48, 80)))).load_backbone(tmp_path)

"""S-AModal's parts: SAM's geometry, adapters through hooks, points, memory, checkpoints, the optional tracker."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import SamImageProcessorPil

from amodal_diffusion.basics import InputError
from amodal_diffusion.models.c2f_seg.network import C2FSeg
from amodal_diffusion.models.c2f_seg.saving import load_c2f_seg, save_c2f_seg
from amodal_diffusion.models.cotracker import CoTracker
from amodal_diffusion.models.s_amodal import SAModal, SAModalConfig, SAModalSampling, load_s_amodal, save_s_amodal
from amodal_diffusion.models.s_amodal.adapters import Adapters, high_pass, high_pass_half_side
from amodal_diffusion.models.s_amodal.memory import PointMemory, Seen, translate
from amodal_diffusion.models.s_amodal.network import count_parameters
from amodal_diffusion.models.s_amodal.prompts import select_points
from amodal_diffusion.models.sam import SamFrame, SamShape, build_sam, image_embeddings, load_sam
from amodal_diffusion.models.sameo.network import Sameo
from amodal_diffusion.models.sameo.saving import load_sameo, save_sameo
from amodal_diffusion.propagation.point_tracking import ConstantVelocity, Points, TrackedPoints
from amodal_diffusion.types import BoolArray, UInt8Array
from tests.c2f_seg import SMALL as C2F
from tests.s_amodal import SAM, TINY
from tests.sameo import TINY as SAMEO

POINTS = torch.tensor([[[[20.0, 30.0]]], [[[40.0, 10.0]]]])


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


# ---- SAM ----


@pytest.mark.parametrize("size", [(48, 96), (33, 47), (100, 60)])
def test_frames_are_prepared_as_transformers_does(size: tuple[int, int]) -> None:
    rgb = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
    processor = SamImageProcessorPil(size={"longest_edge": 64}, pad_size={"height": 64, "width": 64})
    expected = processor(rgb, return_tensors="pt")
    geometry = SamFrame(size, 64)
    assert geometry.inner_hw == tuple(expected["reshaped_input_sizes"][0].tolist())
    error = (geometry.apply(rgb[None])[0] - expected["pixel_values"][0]).abs().max()
    assert float(error) < 1.5 / 57  # one step of the 8 bits that PIL rounds to
    logits = torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    found = geometry.invert(logits)
    assert found.shape == (1, 1, *size)
    corner = geometry.points(torch.tensor([[size[1], size[0]]]))
    assert corner.tolist() == [pytest.approx([geometry.inner_hw[1], geometry.inner_hw[0]])]


def test_a_folder_gives_the_same_network_and_another_one_is_refused(tmp_path: Path) -> None:
    sam = build_sam(SAM, seed=3)
    assert SamShape.of(sam) == SAM
    sam.save_pretrained(tmp_path / "sam")
    loaded = load_sam(tmp_path / "sam")
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in sam.state_dict().items())
    pixels = torch.randn(3, 3, 64, 64)
    with torch.no_grad():
        whole = sam.get_image_embeddings(pixels)
    assert torch.allclose(image_embeddings(loaded, pixels, chunk=2), whole, atol=1e-5)
    with pytest.raises(InputError, match="sam nowhere: expected a folder or a hub id"):
        load_sam("nowhere")
    with pytest.raises(InputError, match="sam: expected the shape"):
        SAModal(SAModalConfig(), sam=sam)


# ---- adapters ----


def test_a_new_sam_is_drawn_so_that_it_can_learn() -> None:
    sam = build_sam(SAM)
    codes = sam.shared_image_embedding(torch.tensor([[0.5, 0.5], [0.53, 0.5], [0.9, 0.5]]))  # shares of the image
    near, far = (torch.cosine_similarity(codes[0], code, dim=0) for code in codes[1:])
    assert near > 0.7 > far
    assert all(layer.attn.qkv.weight.std() > 0.02 for layer in sam.vision_encoder.layers)
    attention = sam.mask_decoder.transformer.final_attn_token_to_image
    assert torch.equal(attention.q_proj.weight, attention.k_proj.weight)
    assert not torch.equal(build_sam(SAM, seed=1).mask_decoder.iou_token.weight, sam.mask_decoder.iou_token.weight)


def test_parameters_are_as_many_as_published() -> None:
    assert sum(value.numel() for value in Adapters(SamShape(), reduction=32).parameters()) == 63_312
    assert count_parameters(SAModal(TINY)) == {"trained": 46_368, "frozen": 95_907}


def test_high_frequencies_of_a_constant_image_are_zero() -> None:
    assert float(high_pass(torch.full((1, 3, 64, 64), 2.5)).max()) < 1e-5
    assert high_pass_half_side(1024, 1024) == 256
    checks = torch.zeros(1, 1, 8, 8)
    checks[..., ::2, ::2] = checks[..., 1::2, 1::2] = 1
    assert torch.allclose(high_pass(checks), torch.full_like(checks, 0.5))


def test_adapters_that_add_nothing_leave_sam_as_it_is(pixels: torch.Tensor) -> None:
    model = SAModal(TINY)
    plain = build_sam(SAM)
    labels = torch.ones(2, 1, 1, dtype=torch.int64)
    with torch.no_grad():
        expected = plain(pixels, input_points=POINTS, input_labels=labels, multimask_output=False).pred_masks[:, :, 0]
        assert not torch.equal(model(pixels, POINTS)[0], expected)
        nn.init.zeros_(model.adapters.shared_projection.weight)
        found, _ = model(pixels, POINTS)
        absent, _ = SAModal(replace(TINY, adapters="none"))(pixels, POINTS)
    assert float((found - expected).abs().max()) < 1e-6
    assert torch.equal(absent, expected)


def test_training_goes_through_the_encoder(pixels: torch.Tensor) -> None:
    model = SAModal(TINY)
    assert model.sam.vision_encoder(pixels).last_hidden_state.requires_grad
    assert not model.sam.get_image_embeddings(pixels).requires_grad
    model(pixels, POINTS)[0].square().sum().backward()
    assert all(value.grad is not None for value in model.adapters.parameters())
    assert all(value.grad is None for value in model.sam.vision_encoder.parameters())
    frozen = SAModal(replace(TINY, adapters="frozen"))
    assert count_parameters(frozen)["trained"] == count_parameters(SAModal(replace(TINY, adapters="none")))["trained"]


# ---- points ----


@pytest.mark.parametrize("choice", ["erosion", "random"])
def test_points_lie_in_the_mask_and_a_small_mask_is_not_eroded(choice: str) -> None:
    generator = torch.Generator().manual_seed(0)
    sampling = SAModalSampling(points=choice, num_points=200)
    small = np.zeros((20, 30), dtype=np.bool_)
    small[10:15, 3:8] = True  # 7 x 7 erodes all of it
    points = select_points(small, sampling, generator=generator).long()
    assert small[points[:, 1], points[:, 0]].all()
    assert len(points.unique(dim=0)) > 20
    large = np.zeros((20, 30), dtype=np.bool_)
    large[0:12, 20:30] = True
    points = select_points(large, sampling, generator=generator)
    edge = 3 if choice == "erosion" else 0
    assert points.amin(dim=0).tolist() == [20 + edge, edge]
    assert points.amax(dim=0).tolist() == [29 - edge, 11 - edge]
    with pytest.raises(InputError, match="mask: empty"):
        select_points(np.zeros((4, 4), dtype=np.bool_), sampling, generator=generator)


# ---- memory ----


class Shifting:
    """Moves each point by steps of its own."""

    def __init__(self, *steps: tuple[float, float]) -> None:
        self.steps = np.array(steps)

    def begin(self, frame: UInt8Array, points: Points, *, velocity: Points) -> TrackedPoints:
        del frame, velocity
        self.points = points
        return self

    def step(self, frame: UInt8Array) -> tuple[Points, BoolArray]:
        del frame
        self.points = self.points + self.steps
        return self.points, np.ones(len(self.points), dtype=np.bool_)


RGB = np.zeros((60, 100, 3), dtype=np.uint8)


def seen_at(left: int, top: int = 20, *, side: int = 11, points: int = 1) -> Seen:
    mask = np.zeros(RGB.shape[:2], dtype=np.bool_)
    mask[top : top + side, left : left + side] = True
    places = np.tile([left + side // 2, top + side // 2], (points, 1)).astype(np.float64)
    return Seen(RGB, places, mask, mask.astype(np.float32), 0.7)


def test_a_hidden_mask_moves_by_the_mean_of_its_points_and_keeps_its_area() -> None:
    tracker = Shifting((2.0, 1.0), (3.0, 1.25), (4.0, 1.5))  # mean 3, 1.25
    memory = PointMemory(SAModalSampling(), tracker)
    memory.see(seen_at(30, points=3))
    for gap, (right, down) in enumerate([(3, 1), (6, 2), (9, 4)], start=1):
        found = memory.hide(RGB)
        assert found is not None
        assert np.array_equal(found.mask, seen_at(30 + right, 20 + down).mask), gap
        assert found.mask.sum() == 121


@pytest.mark.parametrize(("clamp", "moved"), [("centroids", 8), ("points", 8), ("none", 20)])
def test_displacements_are_clamped_to_the_mean_step(clamp: str, moved: int) -> None:
    memory = PointMemory(SAModalSampling(clamp=clamp), Shifting((10.0, 0.0)))
    for left in (30, 34, 38, 42):  # 4 pixels a frame
        memory.see(seen_at(left))
    memory.hide(RGB)
    found = memory.hide(RGB)
    assert found is not None
    assert found.mask.any(axis=0).argmax() == 42 + moved


def test_one_visible_frame_gives_no_step_to_clamp_to() -> None:
    once = PointMemory(SAModalSampling(), Shifting((10.0, 0.0)))
    once.see(seen_at(30))  # no step is known, so nothing limits
    found = once.hide(RGB)
    assert found is not None
    assert found.mask.any(axis=0).argmax() == 40


def test_a_tracker_that_loses_its_points_is_replaced_by_constant_velocity() -> None:
    memory = PointMemory(SAModalSampling(), Shifting((float("nan"), 0.0)))
    for left in (30, 33):
        memory.see(seen_at(left))
    memory.hide(RGB)
    found = memory.hide(RGB)
    assert found is not None
    assert found.mask.any(axis=0).argmax() == 39
    half = PointMemory(SAModalSampling(), Shifting((float("nan"), 0.0), (2.0, 0.0)))
    half.see(seen_at(30, points=2))
    found = half.hide(RGB)
    assert found is not None
    assert found.mask.any(axis=0).argmax() == 32


def test_an_object_hidden_at_the_side_has_left_until_it_is_seen_again() -> None:
    still = Shifting((0.0, 0.0))
    for left in (0, 1, 88, 89):
        memory = PointMemory(SAModalSampling(), still)
        memory.see(seen_at(left))
        assert memory.hide(RGB) is None
        assert memory.hide(RGB) is None
        assert memory.vanished
        memory.see(seen_at(40))
        assert memory.hide(RGB) is not None
    inside, above = ((2, 20, False, True), (87, 20, False, True)), ((40, 0, False, True), (40, 0, True, False))
    for left, top, vertical, there in (*inside, *above):
        memory = PointMemory(SAModalSampling(vanish_vertical=vertical), still)
        memory.see(seen_at(left, top))
        assert (memory.hide(RGB) is not None) == there
    kept = PointMemory(SAModalSampling(vanish=False), still)
    kept.see(seen_at(0))
    assert kept.hide(RGB) is not None


def test_what_was_never_seen_stays_unknown() -> None:
    memory = PointMemory(SAModalSampling(), ConstantVelocity())
    assert memory.hide(RGB) is None
    assert memory.hide(RGB) is None


def test_moving_by_whole_pixels_fills_with_zero() -> None:
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert translate(values, 1, -1).tolist() == [[0, 4, 5, 6], [0, 8, 9, 10], [0, 0, 0, 0]]
    assert not translate(values, 4, 0).any()
    assert not translate(values, -(10**9), 0).any()


# ---- checkpoints ----


def test_checkpoints_hold_the_trained_parts_beside_a_pretrained_sam(tmp_path: Path, pixels: torch.Tensor) -> None:
    build_sam(SAM, seed=5).save_pretrained(tmp_path / "sam")
    model = SAModal(TINY, sam=load_sam(tmp_path / "sam"), seed=9)
    nn.init.normal_(model.sam.mask_decoder.iou_token.weight)
    sampling = SAModalSampling(num_points=2, tracker="lucas_kanade")
    save_s_amodal(model, tmp_path / "model", sam=tmp_path / "sam", sampling=sampling)
    names = load_file(tmp_path / "model/model.safetensors").keys()
    assert all(name.startswith(("adapters.", "sam.mask_decoder.")) for name in names)
    loaded, read = load_s_amodal(tmp_path / "model")
    assert read == sampling
    with torch.no_grad():
        assert torch.equal(loaded(pixels, POINTS)[0], model(pixels, POINTS)[0])

    build_sam(SAM, seed=6).save_pretrained(tmp_path / "other")
    with pytest.raises(InputError, match="its weights differ from those"):
        load_s_amodal(tmp_path / "model", sam=tmp_path / "other")
    with pytest.raises(InputError, match="not empty"):
        save_s_amodal(model, tmp_path / "model")


def test_half_precision_halves_the_file_alone(tmp_path: Path) -> None:
    save_s_amodal(SAModal(TINY), tmp_path / "s-amodal", dtype=torch.float16)
    save_sameo(Sameo(SAMEO), tmp_path / "sameo", dtype=torch.float16)
    save_c2f_seg(C2FSeg(C2F), tmp_path / "c2f-seg", dtype=torch.float16)
    for name, load in (("s-amodal", load_s_amodal), ("sameo", load_sameo), ("c2f-seg", load_c2f_seg)):
        written = load_file(tmp_path / name / "model.safetensors").values()
        assert {value.dtype for value in written if value.is_floating_point()} == {torch.float16}
        assert {value.dtype for value in load(tmp_path / name)[0].parameters()} == {torch.float32}


def test_checkpoints_without_a_pretrained_sam_are_whole(tmp_path: Path, pixels: torch.Tensor) -> None:
    model = SAModal(replace(TINY, train_encoder=True), seed=4)
    save_s_amodal(model, tmp_path / "model")
    loaded, _ = load_s_amodal(tmp_path / "model")
    with torch.no_grad():
        assert torch.equal(loaded(pixels, POINTS)[0], model(pixels, POINTS)[0])
    about = tmp_path / "model/checkpoint.json"
    assert '"method": "s-amodal"' in about.read_text()
    about.write_text(about.read_text().replace("s-amodal", "c2f-seg"))
    with pytest.raises(InputError, match="of c2f-seg, not of s-amodal; --method c2f-seg reads it"):
        load_s_amodal(tmp_path / "model")


# ---- CoTracker ----


class Predictor(nn.Module):
    """Called like CoTracker's; every point moves by one pixel right and down a frame."""

    def __init__(self, **settings: object) -> None:
        super().__init__()
        self.settings, self.model, self.lengths = settings, nn.Linear(1, 1), []

    def forward(self, video: torch.Tensor, *, queries: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        frames = video.shape[1]
        self.lengths.append(frames)
        steps = torch.arange(frames)[None, :, None, None]
        assert (queries[..., 0] == 0).all()
        return queries[:, None, :, 1:] + steps, torch.ones(1, frames, queries.shape[1], dtype=torch.bool)


def test_cotracker_is_given_the_gap_and_starts_anew_when_it_is_long() -> None:
    predictor = Predictor()
    track = CoTracker(predictor, memory=4).begin(RGB, np.array([[3.0, 5.0]]), velocity=np.zeros(2))
    found = [track.step(RGB)[0].tolist() for _ in range(7)]
    assert found == [[[3.0 + step, 5.0 + step]] for step in range(1, 8)]
    assert predictor.lengths == [2, 3, 4, 2, 3, 4, 2]


def test_cotracker_is_loaded_from_safetensors_or_one_line_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cotracker.predictor", None)
    with pytest.raises(InputError, match=r"CoTracker is not installed; `pip install git\+https.*non-commercial"):
        CoTracker.load(tmp_path / "weights.safetensors")
    module = ModuleType("cotracker.predictor")
    monkeypatch.setattr(module, "CoTrackerPredictor", Predictor, raising=False)
    monkeypatch.setitem(sys.modules, "cotracker", ModuleType("cotracker"))
    monkeypatch.setitem(sys.modules, "cotracker.predictor", module)
    wanted = nn.Linear(1, 1)
    save_file(wanted.state_dict(), tmp_path / "weights.safetensors")
    tracker = CoTracker.load(tmp_path / "weights.safetensors")
    assert tracker.predictor.settings["offline"] is True
    assert torch.equal(tracker.predictor.model.weight, wanted.weight)
    (tmp_path / "pickle.pth").touch()
    with pytest.raises(InputError, match=r"expected pickle\.safetensors"):
        CoTracker.load(tmp_path / "pickle.pth")

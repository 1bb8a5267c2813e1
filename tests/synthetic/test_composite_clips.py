"""Composites from a handful of cut-outs that the test draws: determinism, truth, shares, splits."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from amodal_diffusion.basics import InputError
from amodal_diffusion.synthetic.composites import compositing
from amodal_diffusion.synthetic.composites.clips import Composer, CompositeBatch, WholeClips
from amodal_diffusion.synthetic.composites.cutouts import (
    COMPOSITE_SPLITS,
    Cutout,
    CutoutSet,
    prepare_pictures,
    split_of,
    write_cutouts,
)
from amodal_diffusion.synthetic.composites.made import FAMILIES, draw, made_cutouts
from amodal_diffusion.synthetic.composites.poses import MODES, TARGET, Draws, draw_layouts, draw_modes
from amodal_diffusion.synthetic.composites.tool_errors import ErrorShares
from amodal_diffusion.synthetic.rng import Rng

SIZE = {"frames": 8, "height": 32, "width": 48}


def drawn(number: int) -> np.ndarray:
    """A disk or a box with a random color and, for every third, a hole; uint8 ``[40, 40, 4]``."""
    rows, columns = np.mgrid[0:40, 0:40] - 19.5
    solid = np.hypot(rows, columns) < 18 if number % 2 else (abs(rows) < 18) & (abs(columns) < 12)
    if number % 3 == 0:
        solid &= np.hypot(rows, columns) > 7
    picture = np.zeros((40, 40, 4), np.uint8)
    picture[..., :3] = Rng(number).array(3, 40, 220).astype(np.uint8)
    picture[..., 3] = 255 * solid
    return picture


@cache
def cutouts() -> CutoutSet:
    things = [
        (kind, Cutout(f"{kind}-{k}", f"word-{k}", "drawn 1", "own", f"{k:064d}", ("a.png",) * frames), pictures)
        for kind, frames in (("thing", 1), ("person", 2))
        for k in range(6)
        for pictures in [prepare_pictures([drawn(k + f) for f in range(frames)])]
    ]
    return CutoutSet.of(things).joined(made_cutouts("train", 2))


@cache
def composer(device: str = "cpu") -> Composer:
    return Composer(cutouts(), "train", device=device, **SIZE)


@cache
def some() -> CompositeBatch:
    return composer()(range(24))


def test_a_clip_does_not_depend_on_its_batch() -> None:
    for made in (composer(), Composer(cutouts(), "train", errors=ErrorShares(1.0, 1.0), **SIZE)):
        batch = made([3, 11, 4])
        single = made([11])
        for name in ("rgb", "modal", "amodal", "whole_rgb", "depth", "true_depth"):
            assert torch.equal(getattr(batch, name)[1:2], getattr(single, name)), name
        assert batch.records[1] == single.records[0]


def test_what_is_visible_lies_inside_the_whole_and_has_its_colors() -> None:
    batch = some()
    assert (batch.modal & ~batch.amodal).sum() == 0
    outside = ~batch.amodal[:, :, None].expand_as(batch.whole_rgb)
    assert (batch.whole_rgb[outside] == 255).all()
    inner = -torch.nn.functional.max_pool2d(-batch.modal.float(), 5, 1, 2) == 1  # no edge, whose colors are mixed
    inner = inner[:, :, None].expand_as(batch.rgb)
    difference = (batch.rgb.int() - batch.whole_rgb.int()).abs()[inner]
    assert len(difference) > 1000
    assert difference.float().mean() < 2


def test_what_is_in_front_is_nearer() -> None:
    batch = some()
    clip = next(k for k, record in enumerate(batch.records) if record.mode == "gone")
    hidden = batch.amodal[clip] & ~batch.modal[clip]
    visible = batch.true_depth[clip][batch.modal[clip]]
    assert batch.true_depth[clip][hidden].min() > visible.median()
    assert batch.true_depth.min() >= 0
    assert batch.true_depth.max() <= 1.1


def test_modes_have_their_shares_and_clips_do_what_their_mode_says() -> None:
    modes = np.bincount(draw_modes([(1800, seed) for seed in range(2000)]), minlength=len(MODES)) / 2000
    assert modes[MODES.index("open")] == pytest.approx(0.2, abs=0.03)
    batch = some()
    area, seen = batch.amodal.sum(dim=(2, 3)).numpy(), batch.modal.sum(dim=(2, 3)).numpy()
    gone = 0
    for clip, record in enumerate(batch.records):
        if record.mode == "open":
            assert (area[clip] == seen[clip]).all()
        if record.mode == "gone":
            gone += (seen[clip] == 0)[area[clip] > 0].any()
            assert ((seen[clip] == 0) & (area[clip] > 0)).mean() <= 0.63  # a trial at a small size decides for half
    assert gone >= 2


def test_what_moves_with_the_object_hides_the_same_part_in_every_frame() -> None:
    modes = np.full(20, MODES.index("paced"))
    draws = Draws([(5, seed) for seed in range(20)])
    layout = draw_layouts(cutouts(), draws, modes, frames=8, aspect=1.5)
    inverse = np.linalg.inv(layout.matrix[:, TARGET])
    relative = np.einsum("ntij,ntj->nti", inverse, layout.center[:, TARGET + 1] - layout.center[:, TARGET])
    assert np.ptp(relative, axis=1).max() <= 0.2  # in widths of the object: a slight drift
    assert (np.ptp(relative, axis=1).max(axis=1) < 1e-9).mean() > 0.3  # often none
    moves = np.ptp(layout.center[:, TARGET], axis=1).max(axis=1)
    assert (moves > 0.3).sum() >= 3  # though the object moves
    assert np.ptp(inverse @ layout.matrix[:, TARGET + 1], axis=1).max() < 1e-9


def test_holes_are_holes() -> None:
    ring = prepare_pictures([drawn(3)])
    assert ring[0][64, 64, 3] == 0
    cage = next(family for family in FAMILIES["holed"][0] if family.name == "cage")
    picture = draw(cage, Rng(1), "train", frames=1)[0][..., 3] >= 128
    filled = np.maximum.accumulate(picture, 1) & np.maximum.accumulate(picture[:, ::-1], 1)[:, ::-1]
    assert picture.sum() < 0.75 * filled.sum()


def test_bled_colors_leave_no_rim() -> None:
    prepared = prepare_pictures([drawn(1)])[0]
    assert len(np.unique(prepared[..., :3].reshape(-1, 3), axis=0)) == 1  # transparent pixels have the disk's color
    with pytest.raises(InputError, match="opaque"):
        prepare_pictures([np.zeros((8, 8, 4), np.uint8)])


def test_sampling_is_exact() -> None:
    pictures = torch.randint(0, 256, (1, 2, 128, 128)).float()
    u, v = torch.randint(64, 127 * 64, (2, 1, 20, 20), dtype=torch.int32)
    seen = compositing.sample(pictures, u, v)
    x, y = u[0].numpy() - 32, v[0].numpy() - 32  # pixels' centers are at odd halves
    column, row, fx, fy = x // 64, y // 64, x % 64, y % 64
    whole = pictures[0].long().numpy()
    rows = [whole[:, row + k, column] * (64 - fx) + whole[:, row + k, column + 1] * fx for k in (0, 1)]
    expected = (rows[0] * (64 - fy) + rows[1] * fy + 2048) // 4096
    assert (seen[0].long().numpy() == expected).all()


def test_no_category_is_in_two_splits(tmp_path: Path) -> None:
    Image.fromarray(prepare_pictures([drawn(1)])[0]).save(tmp_path / "0.png")
    found = [Cutout(str(k), f"word-{k // 2}", "drawn 1", "own", "0", ("0.png",)) for k in range(80)]
    write_cutouts(tmp_path, found, {"drawn": "1"})
    sets = {split: CutoutSet.read(tmp_path, split) for split in COMPOSITE_SPLITS}
    words = {split: {cutout.category for cutout in part.cutouts} for split, part in sets.items()}
    assert sum(len(part.cutouts) for part in sets.values()) == 80
    assert not words["train"] & (words["validation"] | words["test-v2"])
    assert sets["train"].versions == {"drawn": "1"}
    shares = np.mean([split_of(f"category {k}") == "train" for k in range(2000)])
    assert shares == pytest.approx(0.84, abs=0.03)


def test_occluders_are_pasted_into_frames_and_the_truth_stays() -> None:
    rgb = torch.full((1, 8, 3, 32, 48), 90, dtype=torch.uint8)
    masks = torch.zeros(1, 8, 32, 48, dtype=torch.bool)
    for frame in range(8):
        masks[0, frame, 8:24, 10 + 2 * frame : 26 + 2 * frame] = True
    hidden = 0
    for seed in range(4):
        batch = composer().paste(WholeClips(rgb, masks, torch.zeros(1, 8, 32, 48)), [seed])
        assert torch.equal(batch.amodal, masks)
        under = batch.whole_rgb.float()[masks[:, :, None].expand_as(rgb)]
        assert (under - 90).abs().max() <= 90 * 0.09  # the exposure alone changes
        pasted = (batch.rgb.float() - 90).abs().amax(dim=2) > 12
        assert not (pasted & batch.modal).float().mean() > 0.02
        hidden += int((masks & ~batch.modal).any())
    assert hidden >= 2


def test_errors_of_tools_leave_no_clip_without_a_mask() -> None:
    made = Composer(cutouts(), "train", errors=ErrorShares(1.0, 1.0), **SIZE)
    exact, rough = some(), made(range(6))
    changed = (rough.modal != exact.modal[:6]).flatten(1).any(dim=1)
    assert changed.float().mean() > 0.7  # where a mask is tiny, it stays
    assert rough.modal.flatten(1).any(dim=1).all()
    assert (rough.modal & ~rough.amodal).sum() == 0
    assert (rough.depth != rough.true_depth).any()
    assert torch.equal(rough.true_depth, exact.true_depth[:6])

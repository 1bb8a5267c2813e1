"""Scenes are complete, consistent and reproducible."""

from __future__ import annotations

import numpy as np
import pytest

from amodal_diffusion.basics import InputError
from amodal_diffusion.synthetic import Scene, Split, make_scene
from amodal_diffusion.synthetic.catalogue import CATALOGUES, SPLITS

SIZE = {"frames": 6, "height": 32, "width": 64}


@pytest.fixture(scope="module", params=SPLITS)
def scenes(request: pytest.FixtureRequest) -> list[Scene]:
    split: Split = request.param
    return [make_scene(seed, split=split, **SIZE) for seed in range(24)]


def test_every_pixel_belongs_to_one_object_at_most(scenes: list[Scene]) -> None:
    for scene in scenes:
        visible = np.stack([track.modal for track in scene.tracks])
        assert (visible.sum(axis=0) <= 1).all()
        for track in scene.tracks:
            assert not (track.modal & ~track.amodal).any()


def test_visible_pixels_show_the_whole_object(scenes: list[Scene]) -> None:
    for scene in scenes:
        assert scene.rgb is not None
        for track in scene.tracks:
            assert track.rgb is not None
            np.testing.assert_array_equal(scene.rgb[track.modal], track.rgb[track.modal])
            assert (track.rgb[~track.amodal] == 255).all()
            assert (track.rgb[track.amodal].min(axis=-1) < 255).all()


def test_what_hides_the_target_is_nearer(scenes: list[Scene]) -> None:
    for scene in scenes:
        target = scene.target
        for depth, modal, amodal in zip(scene.depth, target.modal, target.amodal, strict=True):
            hidden = amodal & ~modal
            if modal.any() and hidden.any():
                assert depth[hidden].min() > depth[modal].max()


def test_the_target_is_seen_and_track_ids_count_from_one(scenes: list[Scene]) -> None:
    for scene in scenes:
        assert scene.target.modal.any()
        assert [track.track_id for track in scene.tracks] == list(range(1, len(scene.tracks) + 1))


def test_the_same_arguments_give_the_same_scene_with_and_without_rgb() -> None:
    for seed in range(4):
        one, two = (make_scene(seed, split="train", **SIZE, with_rgb=painted) for painted in (True, False))
        again = make_scene(seed, split="train", **SIZE)
        assert two.rgb is None
        assert two.target.rgb is None
        np.testing.assert_array_equal(one.depth, two.depth)
        np.testing.assert_array_equal(one.rgb, again.rgb)
        for first, second in zip(one.tracks, two.tracks, strict=True):
            np.testing.assert_array_equal(first.modal, second.modal)
            np.testing.assert_array_equal(first.amodal, second.amodal)


def test_seeds_differ() -> None:
    first, second = (make_scene(seed, split="train", **SIZE) for seed in (0, 1))
    assert (first.target.amodal != second.target.amodal).any()


def test_a_fifth_hides_nothing_and_some_hide_everything_for_a_while() -> None:
    targets = [make_scene(seed, split="train", **SIZE, with_rgb=False).target for seed in range(100)]
    untouched = np.mean([(target.modal == target.amodal).all() for target in targets])
    vanished = np.mean([(target.amodal.any((1, 2)) & ~target.modal.any((1, 2))).any() for target in targets])
    assert 0.13 < untouched < 0.3
    assert 0.08 < vanished < 0.4


def test_objects_leave_the_frame() -> None:
    targets = [make_scene(seed, split="train", **SIZE, with_rgb=False).target for seed in range(30)]
    assert any(not target.amodal.any(axis=(1, 2)).all() for target in targets)
    assert any(target.amodal[:, :, 0].any() or target.amodal[:, :, -1].any() for target in targets)


def test_splits_share_no_family() -> None:
    shapes = [{f.name for f in (*c.targets, *c.things, *c.solids, *c.occluders)} for c in CATALOGUES.values()]
    textures = [set(c.textures) for c in CATALOGUES.values()]
    builders = [{f.build for f in (*c.targets, *c.things, *c.solids, *c.occluders)} for c in CATALOGUES.values()]
    for groups in (shapes, textures, builders):
        assert sum(len(group) for group in groups) == len(set().union(*groups))  # type: ignore[arg-type]


@pytest.mark.parametrize(("frames", "height", "width"), [(1, 32, 64), (3, 37, 53), (2, 96, 40)])
def test_any_size(frames: int, height: int, width: int) -> None:
    for seed in range(8):
        scene = make_scene(seed, split="train", frames=frames, height=height, width=width)
        assert scene.rgb is not None
        assert scene.rgb.shape == (frames, height, width, 3)
        assert scene.depth.shape == (frames, height, width)
        assert scene.depth.dtype == np.float32


def test_bad_arguments_are_named() -> None:
    with pytest.raises(InputError, match="split: expected one of train, validation, test-v1, got 'test'"):
        make_scene(0, split="test")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="seed: expected an integer of at least 0, got -1"):
        make_scene(-1, split="train")
    with pytest.raises(InputError, match="width: expected"):
        make_scene(0, split="train", width=0)

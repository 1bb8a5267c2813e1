"""Drawn clips: the truth fits the frames, at any size."""

from __future__ import annotations

import pytest

from amodal_diffusion.basics import InputError
from amodal_diffusion.synthetic.drawn import DRAWINGS, draw_clip


@pytest.mark.parametrize("name", DRAWINGS)
def test_the_object_is_hidden_in_part_and_the_truth_shows_all_of_it(name: str) -> None:
    clip = draw_clip(name, frames=16, height=48, width=96)
    assert clip.rgb.shape == clip.whole_rgb.shape == (16, 48, 96, 3)
    assert clip.modal.shape == clip.amodal.shape == clip.depth.shape == (16, 48, 96)
    assert not (clip.modal & ~clip.amodal).any()
    hidden = (clip.amodal & ~clip.modal).sum(axis=(1, 2)) / clip.amodal.sum(axis=(1, 2))
    assert 0.25 < hidden.max() < 0.8
    assert clip.modal.any(axis=(1, 2)).all()
    same = (clip.rgb[clip.modal] == clip.whole_rgb[clip.modal]).all(axis=-1)
    assert same.mean() > 0.75  # edges, whose colors are mixed, are the rest
    assert (clip.whole_rgb[~clip.amodal] == 255).mean() > 0.9


@pytest.mark.parametrize("name", DRAWINGS)
def test_what_hides_the_object_is_nearer(name: str) -> None:
    clip = draw_clip(name, frames=16, height=48, width=96)
    hidden = clip.amodal & ~clip.modal
    assert clip.depth[hidden].min() > clip.depth[clip.modal].max()


def test_an_unknown_drawing_is_refused() -> None:
    with pytest.raises(InputError, match="name: expected one of person, dog, kettle, got 'cat'"):
        draw_clip("cat")
    with pytest.raises(InputError, match="frames: expected an integer of at least 1"):
        draw_clip("dog", frames=0)

"""Copies from other frames take the place of what the network painted, and of nothing else."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from amodal_diffusion.pipelines.copies import Copies
from amodal_diffusion.propagation.colors import propagated_colors
from amodal_diffusion.types import BoolArray, FloatArray, UInt8Array
from tests.propagation.moving import FRAMES, Moving, moving


@dataclass(frozen=True)
class Frame:
    rgb: UInt8Array
    modal: BoolArray
    depth: FloatArray | None


def frames_of(clip: Moving) -> list[Frame]:
    return [Frame(*values) for values in zip(clip.rgb, clip.modal, clip.depth, strict=True)]


def test_a_frame_gets_better_where_it_is_hidden_and_stays_elsewhere() -> None:
    clip, copies = moving(), Copies()
    copies.look_ahead(5, frames_of(clip), list(clip.amodal))
    painted = np.full_like(clip.rgb, 120)
    for frame in range(FRAMES):
        laid = copies.lay_over(5 + frame, painted[frame], clip.hidden[frame])
        assert (laid[~clip.hidden[frame]] == 120).all()
        wrong = [np.abs(picture[clip.hidden[frame]] - clip.whole[frame][clip.hidden[frame]].astype(float)).mean()
                 for picture in (laid, painted[frame])]  # fmt: skip
        assert wrong[0] < 0.6 * wrong[1]
    assert (painted == 120).all()
    assert copies.tally["hidden"] == clip.hidden.sum()
    assert 0.5 * clip.hidden.sum() < copies.tally["copied"] <= clip.hidden.sum()


@pytest.mark.parametrize(("share", "counts"), [(0.0, False), (0.5, True)])
def test_the_network_is_asked_only_where_it_counts(share: float, counts: bool) -> None:
    clip = moving()
    assert Copies(painted_share=share).look_ahead(0, frames_of(clip), list(clip.amodal)) == counts
    assert not Copies(painted_share=share).look_ahead(0, frames_of(clip), list(clip.modal))  # hides nothing
    unseen = [Frame(rgb, np.zeros_like(modal), None) for rgb, modal in zip(clip.rgb, clip.modal, strict=True)]
    assert Copies(painted_share=share).look_ahead(0, unseen, list(clip.amodal))


def test_windows_fade_into_each_other() -> None:
    clip, copies = moving(), Copies()
    frames, wholes = frames_of(clip), list(clip.amodal)
    copies.look_ahead(0, frames[:5], wholes[:5])
    copies.look_ahead(3, frames[3:], wholes[3:])
    first = propagated_colors(clip.rgb[:5], clip.modal[:5], clip.amodal[:5], clip.depth[:5])[4]
    second = propagated_colors(clip.rgb[3:], clip.modal[3:], clip.amodal[3:], clip.depth[3:])[1]
    assert first is not None
    assert second is not None
    one, other = Copies(_known={4: first}), Copies(_known={4: first.faded(second, 2 / 3)})
    painted, hidden = np.zeros_like(clip.rgb[4]), clip.hidden[4]
    laid = copies.lay_over(4, painted, hidden)
    np.testing.assert_array_equal(laid, other.lay_over(4, painted, hidden))
    assert (laid != one.lay_over(4, painted, hidden)).any()


def test_where_nothing_was_ever_seen_the_painting_stays() -> None:
    clip, copies = moving(), Copies()
    frames = [Frame(rgb, np.zeros_like(modal), None) for rgb, modal in zip(clip.rgb, clip.modal, strict=True)]
    copies.look_ahead(0, frames, list(clip.amodal))
    painted = np.full_like(clip.rgb[0], 7)
    np.testing.assert_array_equal(copies.lay_over(0, painted, clip.amodal[0]), painted)
    assert copies.tally == {"hidden": float(clip.amodal[0].sum()), "copied": 0.0}


def test_a_window_in_which_nothing_is_hidden_takes_no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("amodal_diffusion.pipelines.copies.propagated_colors", None)  # would raise if it were called
    clip, copies = moving(), Copies()
    copies.look_ahead(0, frames_of(clip), list(clip.modal))
    painted = np.full_like(clip.rgb[0], 7)
    np.testing.assert_array_equal(copies.lay_over(0, painted, np.zeros_like(clip.modal[0])), painted)

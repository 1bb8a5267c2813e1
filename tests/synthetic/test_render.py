"""The scanline fill against point-in-polygon, and what overlapping parts and holes do."""

from __future__ import annotations

import numpy as np
from matplotlib.path import Path as Outline

from amodal_diffusion.synthetic.outlines import Part, box, ellipse, polygon
from amodal_diffusion.synthetic.render import fill, fill_shape


def test_random_stars_match_point_in_polygon() -> None:
    generator = np.random.default_rng(0)
    theta = np.sort(generator.random((6, 9)), axis=1) * 2 * np.pi
    radius = generator.uniform(4, 22, (6, 9))
    center = generator.uniform(-5, 45, (6, 1, 2))  # some leave the frame
    points = center + radius[..., None] * np.stack([np.cos(theta), np.sin(theta)], axis=-1)
    filled = fill([points], frames=6, height=30, width=40)
    centers = np.stack(np.meshgrid(np.arange(40) + 0.5, np.arange(30) + 0.5), axis=-1).reshape(-1, 2)
    expected = np.stack([Outline(outline).contains_points(centers).reshape(30, 40) for outline in points])
    np.testing.assert_array_equal(filled, expected)


def test_a_box_covers_the_pixels_whose_centers_it_holds() -> None:
    filled = fill([box(1.4, 0.6, 3.6, 2.0)], frames=1, height=4, width=5)[0]
    np.testing.assert_array_equal(np.argwhere(filled), [[1, 1], [1, 2], [1, 3]])


def test_overlaps_of_either_orientation_add_up() -> None:
    right, left = box(0, 0, 6, 6), box(3, 3, 9, 9)[:, ::-1]
    both = fill([right, left], frames=1, height=10, width=10)
    each = [fill([outline], frames=1, height=10, width=10) for outline in (right, left)]
    np.testing.assert_array_equal(both, each[0] | each[1])


def test_holes_are_cut_out_of_all_parts() -> None:
    parts = [Part(box(0, 0, 8, 8)), Part(box(4, 4, 12, 12)), Part(ellipse(6, 6, 2, 2), hole=True)]
    filled = fill_shape(parts, frames=1, height=12, width=12)[0]
    assert not filled[6, 6]
    assert filled[1, 1]
    assert filled[10, 10]


def test_nothing_and_flat_things_fill_nothing() -> None:
    assert not fill([], frames=2, height=3, width=4).any()
    assert not fill([polygon([(0, 1.5), (4, 1.5), (2, 1.5)])], frames=1, height=3, width=4).any()

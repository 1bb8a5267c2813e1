"""A frame as a graph of superpixels: colors, votes between graphs, the random walker, and the way back to pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage, sparse
from scipy.sparse.csgraph import connected_components, dijkstra
from scipy.sparse.linalg import spsolve
from skimage.color import rgb2lab
from skimage.registration import optical_flow_ilk
from skimage.segmentation import slic

from amodal_diffusion.frames.masks import bounds
from amodal_diffusion.types import BoolArray, FloatArray, UInt8Array

Values = npt.NDArray[np.float64]
LONGEST = 512
"""Longest side of a frame at working size, in pixels; smaller frames keep their size."""
SUPERPIXELS = 2000
_COMPACTNESS = 0.1
_CONTRAST = 9.0  # Lab difference at which neighbors are 0.6 as close as equal ones
_LEAST_LINK = 1e-3  # so that the graph stays connected
_STEP = 0.1  # of a path through superpixels of one color
_KNOWN = 1e3  # weight of a seed
_LUMA = np.array([0.299, 0.587, 0.114], np.float32) / 255


@dataclass(frozen=True)
class Superpixels:
    """Superpixels (SLIC) of a frame at working size; ``n`` of them, ``m`` pairs of neighbors.

    Attributes:
        labels: superpixel of each pixel, ``[h, w]``.
        gray: luma in [0, 1], float32 ``[h, w]``.
        colors: mean Lab colors, ``[n, 3]``.
        centers: mean rows and columns, in longest sides of the frame, ``[n, 2]``.
        areas: pixels, ``[n]``.
        border: whether a superpixel touches the frame's border, ``[n]``.
        pairs: neighbors, ``[m, 2]``.
        links: how likely neighbors belong together: common border times similarity of color, ``[m]``.
    """

    labels: npt.NDArray[np.intp]
    gray: FloatArray
    colors: Values
    centers: Values
    areas: Values
    border: BoolArray
    pairs: npt.NDArray[np.intp]
    links: Values

    @classmethod
    def of(cls, rgb: UInt8Array) -> Self:
        """Divide a frame, uint8 ``[H, W, 3]``."""
        scale = min(1.0, LONGEST / max(rgb.shape[:2]))
        height, width = (max(1, round(side * scale)) for side in rgb.shape[:2])
        small = np.asarray(Image.fromarray(rgb).resize((width, height), Image.Resampling.BOX))
        lab = rgb2lab(small)
        if (small == small[0, 0]).all():  # SLIC divides by the range of the colors
            labels = np.zeros((height, width), np.intp)
        else:
            count = max(1, min(SUPERPIXELS, height * width // 16))
            divided = slic(lab, count, _COMPACTNESS, max_num_iter=5, convert2lab=False, start_label=0)
            labels = np.unique(divided, return_inverse=True)[1].reshape(height, width)
        areas = np.bincount(labels.ravel()).astype(np.float64)
        maps = (*np.moveaxis(lab, -1, 0), *np.mgrid[:height, :width] / max(height, width))
        means = np.stack([np.bincount(labels.ravel(), values.ravel()) / areas for values in maps], axis=1)
        border = np.zeros(len(areas), np.bool_)
        for edge in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
            border[edge] = True
        pairs, lengths = _neighbors(labels)
        first, second = pairs.T
        contrast = ((means[first, :3] - means[second, :3]) ** 2).sum(axis=1) / _CONTRAST**2
        usual = np.median(lengths) if len(lengths) else 1.0
        links = lengths / usual * (np.exp(-contrast / 2) + _LEAST_LINK)
        return cls(labels, _luma(small), means[:, :3], means[:, 3:], areas, border, pairs, links)

    def mean(self, pixels: npt.NDArray[Any]) -> Values:
        """Mean of a map ``[h, w]`` in each superpixel, ``[n]``."""
        return np.bincount(self.labels.ravel(), pixels.ravel().astype(np.float64), len(self.areas)) / self.areas

    def at(self, x: float, y: float, *, size: tuple[int, int]) -> int:
        """The superpixel at a place of the frame.

        Args:
            x: pixels of the frame.
            y: pixels of the frame.
            size: height and width of the frame.
        """
        height, width = self.labels.shape
        row, column = min(height - 1, int(y * height / size[0])), min(width - 1, int(x * width / size[1]))
        return int(self.labels[row, column])

    def distances(self, starts: list[int]) -> Values:
        """Shortest path from any of some superpixels to each, along similar colors; ``[n]``, no unit."""
        first, second = self.pairs.T
        cost = np.sqrt(((self.colors[first] - self.colors[second]) ** 2).sum(axis=1)) / _CONTRAST + _STEP
        graph = sparse.coo_matrix((cost, (first, second)), (len(self.areas),) * 2).tocsr()
        return np.asarray(dijkstra(graph, directed=False, indices=starts, min_only=True))

    def walk(self, prior: Values, known: Values, *, trust: float) -> Values:
        """Random walker with priors (Grady 2005): probability that a walk from a superpixel ends in the object.

        Args:
            prior: probability by color and place, ``[n]``.
            known: 1 for seeds of the object, 0 for those of the background, NaN for the rest, ``[n]``.
            trust: weight of the prior of a superpixel of mean area, against links to its neighbors.

        Returns:
            ``[n]`` in [0, 1].
        """
        first, second = self.pairs.T
        seeds = ~np.isnan(known)
        weight = np.where(seeds, _KNOWN, trust * self.areas / self.areas.mean())
        both = np.r_[first, second], np.r_[second, first]
        links = sparse.coo_matrix((np.r_[self.links, self.links], both), (len(self.areas),) * 2).tocsr()
        degree = np.asarray(links.sum(axis=1)).ravel()
        system = (sparse.diags(degree + weight) - links).tocsc()
        return np.clip(np.atleast_1d(spsolve(system, weight * np.where(seeds, known, prior))), 0, 1)

    def components(self, chosen: BoolArray) -> npt.NDArray[np.intp]:
        """Number of the connected component of each chosen superpixel, ``[n]``; of the others, no meaning."""
        inner = self.pairs[chosen[self.pairs].all(axis=1)]
        graph = sparse.coo_matrix((np.ones(len(inner)), inner.T), (len(self.areas),) * 2)
        return np.asarray(connected_components(graph, directed=False)[1], np.intp)

    def contrast(self, chosen: BoolArray) -> float:
        """How sharp the border of a region is: mean over its length, 0 to 1."""
        first, second = self.pairs.T
        cut = chosen[first] != chosen[second]
        difference = ((self.colors[first] - self.colors[second])[cut] ** 2).sum(axis=1) / _CONTRAST**2
        return float((1 - np.exp(-difference / 2)).mean()) if cut.any() else 0.0


def _neighbors(labels: npt.NDArray[np.intp]) -> tuple[npt.NDArray[np.intp], Values]:
    """Pairs of superpixels that touch, and the length of their common border in pixels."""
    count = int(labels.max()) + 1
    keys = []
    for before, after in ((labels[:, :-1], labels[:, 1:]), (labels[:-1], labels[1:])):
        differ = before != after
        one, other = before[differ], after[differ]
        keys.append(np.minimum(one, other) * count + np.maximum(one, other))
    found, lengths = np.unique(np.concatenate(keys), return_counts=True)
    return np.stack([found // count, found % count], axis=1), lengths.astype(np.float64)


def closeness(features: Values, others: Values) -> Values:
    """Gaussian of the distances between two sets of features, in standard deviations, ``[n, k]``."""
    squared = (features**2).sum(axis=1)[:, None] + (others**2).sum(axis=1) - 2 * features @ others.T
    return np.asarray(np.exp(-np.maximum(squared, 0) / 2))


def flow_between(before: Superpixels, after: Superpixels) -> FloatArray:
    """Motion from each pixel of ``after`` back to ``before``: rows and columns, float32 ``[2, h, w]``."""
    height, width = after.gray.shape
    third = (max(1, width // 3), max(1, height // 3))
    if min(third) < 8:  # too small for the windows of the flow
        return np.zeros((2, height, width), np.float32)
    pictures = [
        np.asarray(Image.fromarray(frame.gray).resize(third, Image.Resampling.BOX)) for frame in (after, before)
    ]
    flow = optical_flow_ilk(*pictures, radius=6, num_warp=4, gaussian=True, dtype=np.float32)
    scales = height / third[1], width / third[0]
    full = [
        np.asarray(Image.fromarray(part).resize((width, height), Image.Resampling.BILINEAR)) * scale
        for part, scale in zip(flow, scales, strict=True)
    ]
    return np.clip(np.stack(full), -LONGEST / 8, LONGEST / 8).astype(np.float32)


def to_pixels(probability: FloatArray, rgb: UInt8Array) -> BoolArray:
    """Bring a probability to the frame's size, and its edge to that of the picture (guided filter, He et al. 2010).

    Args:
        probability: float32 ``[h, w]`` in [0, 1], at working size.
        rgb: the frame, uint8 ``[H, W, 3]``.

    Returns:
        bool ``[H, W]``.
    """
    height, width = rgb.shape[:2]
    full = np.asarray(Image.fromarray(probability).resize((width, height), Image.Resampling.BILINEAR))
    mask = np.zeros((height, width), np.bool_)
    (top, bottom), (left, right) = bounds(full > 0.05)
    if not bottom:
        return mask
    radius = 2 * max(1, round(max(height, width) / LONGEST)) + 1
    box = slice(max(0, top - 2 * radius), bottom + 2 * radius), slice(max(0, left - 2 * radius), right + 2 * radius)
    guide, values = _luma(rgb[box]), full[box]

    def blur(picture: npt.NDArray[Any]) -> FloatArray:
        return np.asarray(ndimage.uniform_filter(picture, 2 * radius + 1), np.float32)

    center, level = blur(guide), blur(values)
    slope = (blur(guide * values) - center * level) / (blur(guide * guide) - center**2 + np.float32(1e-3))
    mask[box] = blur(slope) * guide + blur(level - slope * center) > 0.5
    return mask if mask.any() else np.asarray(full > 0.5)  # the filter may wipe out what is smaller than its window


def _luma(rgb: UInt8Array) -> FloatArray:
    """Gray levels in [0, 1], float32 ``[H, W]``."""
    return np.asarray(rgb.astype(np.float32) @ _LUMA, np.float32)

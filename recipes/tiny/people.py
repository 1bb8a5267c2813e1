"""Clothed people who walk, run or stand, rendered from the body model of the Python package `anny`.

All arithmetic is in float64 from the body model to the pixel's index, so that pictures hardly ever differ between
machines, and a person depends on its number alone.
"""

from __future__ import annotations

import importlib.metadata
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from amodal_diffusion.basics import InputError
from amodal_diffusion.synthetic.rng import Float64, Rng
from amodal_diffusion.synthetic.textures import TRAIN, Texture, draw_texture
from amodal_diffusion.types import UInt8Array
from recipes.tiny.cutout_sources import Found

FRAMES = 12
"""Pictures of one cycle."""
_HEIGHT = 248  # pixels of a rendered body, twice those of a cut-out
_SAMPLES = np.array([(i, j, 4 - i - j) for i in range(5) for j in range(5 - i)]) / 4.0  # on a triangle, [15, 3]
_HEADROOM = 0.15  # of the height, around the body
_MOTIONS = ("walk", "walk", "walk", "run", "stand")
_SKIN = ((0.96, 0.80, 0.69), (0.89, 0.70, 0.55), (0.76, 0.57, 0.42), (0.58, 0.40, 0.28), (0.38, 0.25, 0.18))
_HAIR = ((0.08, 0.06, 0.05), (0.25, 0.15, 0.08), (0.45, 0.30, 0.15), (0.75, 0.60, 0.35), (0.55, 0.52, 0.50))
_PUFF = {"skin": 0.0, "hair": 0.022, "top": 0.014, "trousers": 0.016, "shoes": 0.01}  # meters between skin and cloth


def version() -> str:
    """Version of the installed package.

    Raises:
        InputError: if it is not installed.
    """
    try:
        return importlib.metadata.version("anny")
    except importlib.metadata.PackageNotFoundError:
        raise InputError("--people: needs the package anny; install it with `pip install anny`") from None


def walkers(count: int) -> Iterator[Found]:
    """Render people; each is a category of its own, so that no body is in two splits.

    Args:
        count: how many.
    """
    import anny

    model = anny.Anny()
    model.set_skinning_method("lbs")  # the default is another one where warp-lang is installed, with other pictures
    model = model.to(dtype=torch.float64)
    body = _Body(model)
    for number in range(count):
        pictures, facing = body.render(Rng(1800, number))
        yield Found(f"walker-{number:04d}", f"person-{number:04d}", None, pictures, "person", facing)


@dataclass(frozen=True)
class _Person:
    """Materials of the body's vertices, and the colors of their cloth."""

    phenotype: dict[str, float]
    material: np.ndarray
    colors: dict[str, Texture]


class BodyModel(Protocol):
    """What is used of `anny.Anny`."""

    bone_labels: list[str]
    phenotype_labels: list[str]
    faces: Tensor
    vertex_bone_indices: Tensor
    vertex_bone_weights: Tensor

    def __call__(self, *, pose_parameters: Tensor, phenotype_kwargs: dict[str, float]) -> dict[str, Tensor]:
        """The posed body; ``vertices`` are in meters, x to its left, y behind it, z up, ``[1, V, 3]``."""
        ...


class _Body:
    """The body model with what its vertices belong to.

    Args:
        model: `anny.Anny` in float64.
    """

    def __init__(self, model: BodyModel) -> None:
        self.model = model
        self.bones: list[str] = list(model.bone_labels)
        self.faces = np.asarray(model.faces)
        strongest = model.vertex_bone_weights.argmax(dim=1, keepdim=True)
        self.owner = np.array(self.bones)[model.vertex_bone_indices.gather(1, strongest)[:, 0].numpy()]

    def render(self, rng: Rng) -> tuple[list[UInt8Array], float]:
        """The pictures of a random person's cycle, uint8 ``[h, w, 4]`` each, and where it faces."""
        person = self._draw_person(rng)
        motion = rng.choice(_MOTIONS)
        yaw = rng.sign() * rng.uniform(1.0, 2.1) if rng.chance(0.65) else rng.uniform(-math.pi, math.pi)
        view = _turn("x", rng.uniform(0.0, 0.25)) @ _turn("z", yaw)
        sun = np.array([rng.uniform(-0.8, 0.8), -0.6, 0.6])
        light, shadow = sun / np.linalg.norm(sun), rng.uniform(0.25, 0.5)
        gait = _draw_gait(rng, motion)
        rest = self._vertices(person, {})
        paint = self._paint(person, rest)
        points = [self._vertices(person, self._pose(gait, frame / FRAMES)) for frame in range(FRAMES)]
        scale = _HEIGHT / np.ptp(rest[:, 2])
        pictures = []
        for vertices in points:
            normals = self._normals(vertices)
            cloth = np.array([_PUFF[name] for name in person.material])
            stands = vertices - np.array([0.0, 0.0, vertices[:, 2].min()])  # one foot is on the ground
            seen, turned = (stands + cloth[:, None] * normals) @ view.T, normals @ view.T
            bright = 1 - shadow + shadow * np.clip(turned @ light, -0.3, 1.0) * 1.3
            pictures.append(self._splat(seen * scale, paint, bright))
        return pictures, math.sin(yaw)

    def _draw_person(self, rng: Rng) -> _Person:
        phenotype = {name: rng.uniform(0.15, 0.85) for name in self.model.phenotype_labels}
        phenotype["age"] = rng.uniform(0.3, 0.6) if rng.chance(0.2) else rng.uniform(0.6, 1.0)
        sleeves, legs = rng.choice((1, 2, 2)), rng.choice((1, 2, 2, 2))
        material = np.full(len(self.owner), "skin", dtype=object)
        for index, bone in enumerate(self.owner):
            name = bone.split(".")[0]
            if name.startswith(("spine", "clavicle", "shoulder", "upperarm")) or (
                name.startswith("lowerarm") and sleeves == 2
            ):
                material[index] = "top"
            elif name.startswith(("root", "pelvis", "upperleg")) or (name.startswith("lowerleg") and legs == 2):
                material[index] = "trousers"
            elif name.startswith(("foot", "toe")):
                material[index] = "shoes"
        hair = self._hair(phenotype, rng)
        material[hair] = "hair"
        fabrics = {name: draw_texture(rng, TRAIN if rng.chance(0.5) else TRAIN[:2]) for name in ("top", "trousers")}
        if rng.chance(0.15):
            fabrics["trousers"] = fabrics["top"]  # an overall or a dress
        plain = {
            "skin": _flat(rng, rng.choice(_SKIN)),
            "hair": _flat(rng, rng.choice(_HAIR)),
            "shoes": draw_texture(rng, TRAIN[:1]),
        }
        return _Person(phenotype, material, {**fabrics, **plain})

    def _hair(self, phenotype: dict[str, float], rng: Rng) -> np.ndarray:
        """Vertices of the head above the forehead and behind the ears."""
        vertices = self._skin(phenotype, {})
        head = self.owner == "head"
        low, high = vertices[head].min(axis=0), vertices[head].max(axis=0)
        at = (vertices - low) / (high - low)  # y: 0 at the face
        line, length = rng.uniform(0.72, 0.84), rng.uniform(0.1, 0.5)
        return head & ((at[:, 2] > line) | ((at[:, 1] > 0.55) & (at[:, 2] > length)))

    def _skin(self, phenotype: dict[str, float], pose: dict[str, Float64]) -> Float64:
        transforms = torch.eye(4, dtype=torch.float64).repeat(1, len(self.bones), 1, 1)
        for bone, rotation in pose.items():
            transforms[0, self.bones.index(bone), :3, :3] = torch.from_numpy(rotation)
        with torch.no_grad():
            output = self.model(pose_parameters=transforms, phenotype_kwargs=phenotype)
        return np.asarray(output["vertices"][0].numpy())

    def _vertices(self, person: _Person, pose: dict[str, Float64]) -> Float64:
        return self._skin(person.phenotype, pose)

    def _pose(self, gait: dict[str, float], cycle: float) -> dict[str, Float64]:
        """Rotations of the bones at a time of the cycle in [0, 1)."""
        pose: dict[str, Float64] = {}
        for side, mirror, late in (("L", 1.0, 0.0), ("R", -1.0, 0.5)):
            phase = 2 * math.pi * (cycle + late)
            forward, swing = math.sin(phase), max(0.0, math.cos(phase)) ** 1.5
            pose[f"upperleg01.{side}"] = _turn("x", -gait["stride"] * forward - gait["crouch"])
            pose[f"lowerleg01.{side}"] = _turn("x", gait["crouch"] * 1.5 + gait["knee"] * swing)
            pose[f"foot.{side}"] = _turn("x", -0.3 * gait["stride"] * forward)
            raised = gait[f"raised.{side}"]
            down = _turn("y", mirror * (0.62 - raised))
            pose[f"upperarm01.{side}"] = _turn("x", gait["arms"] * forward) @ down
            pose[f"lowerarm01.{side}"] = _turn("x", -gait["elbow"] * (1 - 0.3 * forward) - 0.5 * raised)
        phase = 2 * math.pi * cycle
        pose["spine03"] = _turn("z", gait["twist"] * math.sin(phase)) @ _turn("x", gait["lean"])
        pose["head"] = _turn("z", gait["look"]) @ _turn("x", -0.7 * gait["lean"])
        return pose

    def _normals(self, vertices: Float64) -> Float64:
        corners = vertices[self.faces]
        flat = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        corner, count = self.faces.T.ravel(), len(vertices)
        normals = np.stack([np.bincount(corner, np.tile(flat[:, k], 3), count) for k in range(3)], axis=-1)
        return np.asarray(normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12))

    def _paint(self, person: _Person, rest: Float64) -> Float64:
        """Color of each sample, RGB in [0, 1], ``[faces * 15, 3]``; patterns of cloth lie on the rest pose."""
        at = (_SAMPLES @ rest[self.faces]).reshape(-1, 3)
        of_face = person.material[self.faces[:, 0]]
        material = np.repeat(of_face, len(_SAMPLES))
        paint = np.zeros((len(at), 3))
        for name, texture in person.colors.items():
            some = material == name
            paint[some] = texture.color(at[some, 0] + 0.3 * at[some, 1], at[some, 2])
        return paint

    def _splat(self, points: Float64, paint: Float64, bright: Float64) -> UInt8Array:
        """Draw samples of all faces, the nearest last, uint8 ``[h, w, 4]``.

        Args:
            points: vertices in pixels, x to the right, y away, z up, ``[V, 3]``.
            paint: color of each sample.
            bright: light on each vertex.
        """
        side = round(_HEIGHT * (1 + 2 * _HEADROOM))
        corners = points[self.faces]
        edge, other = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
        shown = edge[:, 2] * other[:, 0] - edge[:, 0] * other[:, 2] < 0  # those that face away are left out
        at = (_SAMPLES @ corners[shown]).reshape(-1, 3)
        light = (bright[self.faces[shown]] @ _SAMPLES.T).ravel()
        paint = paint.reshape(len(self.faces), -1, 3)[shown].reshape(-1, 3)
        column = np.floor(at[:, 0] + side / 2).astype(np.int64)
        row = np.floor(side * (1 - _HEADROOM / 2) - at[:, 2]).astype(np.int64)
        kept = (column >= 0) & (column < side) & (row >= 0) & (row < side)
        order = np.flatnonzero(kept)[np.argsort(-at[kept, 1], kind="stable")]
        picture = np.zeros((side * side, 4))
        pixel = row[order] * side + column[order]
        picture[pixel, :3] = paint[order] * light[order, None]  # later ones replace earlier ones
        picture[pixel, 3] = 1.0
        return _closed(picture.reshape(side, side, 4))


def _closed(picture: Float64) -> UInt8Array:
    """Fill pixels that no sample met but that the body surrounds."""
    solid = picture[..., 3] > 0
    whole = ndimage.binary_closing(solid, iterations=1) | solid
    nearest = ndimage.distance_transform_edt(~solid, return_distances=False, return_indices=True)
    rgb = picture[nearest[0], nearest[1], :3]
    return np.rint(np.clip(np.concatenate([rgb, whole[..., None]], axis=-1), 0, 1) * 255).astype(np.uint8)


def _draw_gait(rng: Rng, motion: str) -> dict[str, float]:
    """Amplitudes in radians of a cycle's motions."""
    fast, still = motion == "run", motion == "stand"
    gesture = rng.chance(0.6 if still else 0.1)
    return {
        "stride": rng.uniform(0.02, 0.08) if still else rng.uniform(0.6, 0.9) if fast else rng.uniform(0.3, 0.55),
        "knee": 0.05 if still else rng.uniform(1.2, 1.7) if fast else rng.uniform(0.6, 1.0),
        "crouch": rng.uniform(0.0, 0.25) if fast else rng.uniform(0.0, 0.08),
        "arms": rng.uniform(0.0, 0.2) if still else rng.uniform(0.6, 1.0) if fast else rng.uniform(0.25, 0.6),
        "elbow": rng.uniform(0.8, 1.5) if fast else rng.uniform(0.0, 0.4),
        "twist": rng.uniform(0.0, 0.15),
        "lean": -rng.uniform(0.1, 0.3) if fast else -rng.uniform(-0.03, 0.08),
        "look": rng.uniform(-0.4, 0.4),
        "raised.L": rng.uniform(0.6, 2.2) if gesture else 0.0,
        "raised.R": rng.uniform(0.6, 2.2) if gesture and rng.chance(0.5) else 0.0,
    }


def _turn(axis: str, angle: float) -> Float64:
    """Rotation about a coordinate axis, ``[3, 3]``."""
    first, second = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    matrix = np.eye(3)
    matrix[first, first] = matrix[second, second] = math.cos(angle)
    matrix[first, second], matrix[second, first] = -math.sin(angle), math.sin(angle)
    return matrix


def _flat(rng: Rng, color: tuple[float, float, float]) -> Texture:
    shade = rng.uniform(0.85, 1.1)
    return Texture(lambda u, _v: np.zeros(u.shape), np.clip(np.array([color, color]) * shade, 0, 1))

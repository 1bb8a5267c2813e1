"""ICC profiles of pictures: conversion to sRGB, and which profiles count as sRGB."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO

import numpy as np
from PIL import Image, ImageCms

_SIDE = 17  # points of the color cube along each channel
_SAME = 1  # of 255: a profile that moves no color further is sRGB with other rounding
_SPACES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}  # mode of the pictures that a profile's color space describes
_NAME_LENGTH = 80


@dataclass(frozen=True)
class ColorProfile:
    """What an ICC profile means for pictures.

    Attributes:
        name: its description.
        mode: of the pictures that it describes; None where it cannot be used, so that it is ignored.
        transform: to sRGB; None where the profile counts as sRGB.
    """

    name: str
    mode: str | None
    transform: ImageCms.ImageCmsTransform | None

    def converts(self, mode: str) -> bool:
        """Whether pixels of a picture change.

        Args:
            mode: Pillow's, of the picture.
        """
        return self.transform is not None and self.describes(mode)

    def describes(self, mode: str) -> bool:
        """Whether the profile is of a picture's color space; gray pictures may have a profile of RGB.

        Args:
            mode: Pillow's, of the picture.
        """
        if self.mode == "L":
            return mode in ("1", "L", "LA", "La")
        if self.mode == "CMYK":
            return mode == "CMYK"
        return self.mode is not None and mode not in ("CMYK", "LAB")


@lru_cache(maxsize=16)
def read_profile(data: bytes) -> ColorProfile:
    """Read a profile; one that is damaged or of another kind is ignored, and its name says so.

    Args:
        data: the profile as a file has it.
    """
    try:
        profile = ImageCms.ImageCmsProfile(BytesIO(data))
        name = _clean(ImageCms.getProfileDescription(profile))
        mode = _SPACES.get(profile.profile.xcolor_space.strip())
        if mode is None:
            return ColorProfile(f"{name} (of another color space, ignored)", None, None)
        transform = ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
        return ColorProfile(f"unreadable ({_clean(str(error))}, ignored)", None, None)
    return ColorProfile(name, mode, None if _is_srgb(transform, mode) else transform)


def to_srgb(picture: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert a picture to sRGB; alpha is dropped.

    Args:
        picture: decoded, of 8 bits or fewer a channel.
        profile: ICC profile, if it has one.

    Returns:
        RGB picture.
    """
    found = read_profile(profile) if profile else None
    if found is None or found.transform is None or not found.converts(picture.mode):
        return _lab_to_rgb(picture) if picture.mode == "LAB" else picture.convert("RGB")
    converted = ImageCms.applyTransform(picture.convert(found.mode), found.transform)
    if converted is None:
        raise ValueError("no picture comes of its ICC profile")
    return converted


def _lab_to_rgb(picture: Image.Image) -> Image.Image:
    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(picture, lab, srgb, outputMode="RGB")
    if converted is None:
        raise ValueError("no picture comes of its Lab colors")
    return converted


def _is_srgb(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Whether the colors of a cube, or all grays, stay where they are."""
    if mode == "CMYK":
        return False
    if mode == "L":
        before = np.arange(256, dtype=np.uint8)[None]  # [1, 256]
        expected = np.repeat(before[..., None], 3, axis=-1)
    else:
        levels = np.round(np.linspace(0, 255, _SIDE)).astype(np.uint8)
        expected = before = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(1, -1, 3)
    after = ImageCms.applyTransform(Image.fromarray(before), transform)
    return after is not None and int(np.abs(np.asarray(after).astype(int) - expected).max()) <= _SAME


def _clean(text: str) -> str:
    """One short line of a text from a file."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return line[:_NAME_LENGTH] or "without a name"

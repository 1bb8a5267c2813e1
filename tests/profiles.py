"""Small ICC profiles for tests, written by hand, with primaries and curves that are known."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]
WHITE_D50 = (0.9642, 1.0, 0.8249)
SRGB_TO_D50 = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])
P3_TO_D50 = np.array([[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]])
"""Linear RGB to XYZ of the profile connection space, as the profiles of sRGB and Display P3 have it."""


def matrix_profile(name: str, to_d50: Matrix) -> bytes:
    """A profile of RGB with the curve of sRGB."""
    curve = b"para" + struct.pack(">4xHxx5i", 3, *map(_fixed, (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)))
    columns = {key: _xyz(to_d50[:, place]) for place, key in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))}
    return _profile(b"RGB ", name, {**columns, b"rTRC": curve, b"gTRC": curve, b"bTRC": curve}, b"mntr")


def gray_profile(name: str, gamma: float) -> bytes:
    """A profile of gray: light is the value to the power of gamma."""
    return _profile(b"GRAY", name, {b"kTRC": b"curv" + struct.pack(">4xIHxx", 1, round(gamma * 256))}, b"mntr")


def cmyk_profile(name: str, lightness: Sequence[int]) -> bytes:
    """A profile of CMYK whose colors are grays: L* (of 255) of paper and of full black ink, between by the ink K."""
    corners = [lightness[index % 2] for index in range(16)]  # C changes slowest, K fastest
    table = b"".join(bytes((value, 128, 128)) for value in corners)
    ramp = bytes(range(256))
    head = b"mft1" + struct.pack(">4xBBBx", 4, 3, 2)
    identity = struct.pack(">9i", *map(_fixed, np.eye(3).ravel()))
    return _profile(b"CMYK", name, {b"A2B0": head + identity + ramp * 4 + table + ramp * 3}, b"prtr", space=b"Lab ")


def _profile(colors: bytes, name: str, tags: dict[bytes, bytes], kind: bytes, *, space: bytes = b"XYZ ") -> bytes:
    text = name.encode("utf-16-be")
    described = {
        b"desc": b"mluc" + struct.pack(">4xII2s2sII", 1, 12, b"en", b"US", len(text), 28) + text,
        b"wtpt": _xyz(WHITE_D50),
        **tags,
    }
    place, entries, body = 128 + 4 + 12 * len(described), b"", b""
    for key, content in described.items():
        entries += key + struct.pack(">II", place + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    size = place + len(body)
    head = struct.pack(">I4sI4s4s4s12s4s", size, b"lcms", 0x04000000, kind, colors, space, bytes(12), b"acsp")
    head += bytes(28) + struct.pack(">3i", *map(_fixed, WHITE_D50))
    return head.ljust(128, b"\0") + struct.pack(">I", len(described)) + entries + body


def _xyz(values: Sequence[float] | Matrix) -> bytes:
    return b"XYZ " + struct.pack(">4x3i", *map(_fixed, values))


def _fixed(value: float) -> int:
    return round(float(value) * 65536)

"""HDR and wide gamuts are read as a display shows them; BT.709 stays as it is to the bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from amodal_diffusion.io.video_reader import open_clip, read_clip
from tests.media import ffmpeg

Array = NDArray[np.float64]
TO_709 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]])
LUMA_2020 = np.array([0.2627, 0.6780, 0.0593])
SIGNALS = np.array([[0.0, 0, 0], [0.2, 0.2, 0.2], [0.5, 0.5, 0.5], [0.75, 0.75, 0.75], [0.6, 0.4, 0.3], [0.3, 0.5, 0.6],
                    [0.9, 0.9, 0.9]])  # fmt: skip


def display_of_hlg(signal: Array) -> Array:
    """BT.2100: inverse OETF, OOTF of gamma 1.2 at 1,000 cd/m2, in units of the white of 203 cd/m2."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    luma = np.maximum(scene @ LUMA_2020, 1e-9)[..., None]
    return np.asarray(1000 * luma**0.2 * scene / 203)


def display_of_pq(signal: Array) -> Array:
    """SMPTE ST 2084, in units of the white of 203 cd/m2."""
    m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
    power = signal ** (1 / m2)
    return np.asarray(10000 * (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1) / 203)


def shown(light: Array) -> Array:
    """8-bit BT.709 of BT.2020 light, by BT.1886."""
    return np.asarray(255 * np.clip(light @ TO_709.T, 0, 1) ** (1 / 2.4))


def encoded(path: Path, signal: Array, transfer: str) -> Path:
    """A clip of ten bits with bars of these signals."""
    frame = np.repeat(np.repeat(signal[None], 16, 0), 16, 1)  # [16, 16 N, 3]
    raw = path.with_suffix(".rgb")
    raw.write_bytes((frame * 65535).round().astype("<u2").tobytes() * 2)
    tags = f"setparams=color_primaries=bt2020:color_trc={transfer}:colorspace=bt2020nc"
    ffmpeg("-f", "rawvideo", "-pix_fmt", "rgb48le", "-s", f"{frame.shape[1]}x16", "-framerate", "8", "-i", raw,
           "-vf", f"scale=out_color_matrix=bt2020:out_range=tv,format=yuv444p10le,{tags}", "-c:v", "ffv1",
           "-colorspace", "bt2020nc", "-color_trc", transfer, "-color_primaries", "bt2020", path)  # fmt: skip
    return path


@pytest.mark.parametrize(
    ("transfer", "name", "display", "signals"),
    [
        ("arib-std-b67", "HLG", display_of_hlg, SIGNALS),
        ("smpte2084", "PQ", display_of_pq, np.where(SIGNALS == 0.3, 0.45, SIGNALS) * 0.58 / 0.75),  # within BT.709
    ],
)
@pytest.mark.slow  # the scaler takes seconds to make its table
def test_hdr_is_what_a_display_shows(
    tmp_path: Path,
    transfer: str,
    name: str,
    display: Callable[[Array], Array],
    signals: Array,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = encoded(tmp_path / "clip.mkv", signals, transfer)
    wanted = shown(display(signals))
    clip = open_clip(path)
    found = next(iter(clip))[8, 8::16].astype(float)
    assert np.abs(found - wanted).max() <= 10, (found, wanted)
    assert clip.source_color == f"BT.2020 {name}"
    assert f"colors are converted from BT.2020 {name} to BT.709" in caplog.text


def test_bt709_of_eight_bits_stays_as_it_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "clip.mkv"
    for tags in ((), ("-colorspace", "bt709", "-color_trc", "bt709", "-color_primaries", "bt709")):
        ffmpeg("-f", "lavfi", "-i", "testsrc2=size=64x48:rate=8:duration=0.5", "-pix_fmt", "yuv420p", *tags, path)
        with av.open(str(path)) as container:
            plain = [frame.to_ndarray(format="rgb24", threads=1) for frame in container.decode(video=0)]
        np.testing.assert_array_equal(read_clip(path)[0], np.stack(plain))
    assert caplog.text == ""
    assert open_clip(path).source_color == ""

"""Processor seconds of a frame of one object beside the networks: frames in, masks and layers out, in one thread.

A textured square slides behind a bar. What the networks take is measured apart and left out.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from amodal_diffusion import AmodalCompleter, VideoClip
from amodal_diffusion.io.images import write_mask_png, write_rgba_png
from amodal_diffusion.pipelines import amodal_segmentation, content_completion

FRAMES, HEIGHT, WIDTH, SIDE = 8, 1080, 1920, 480


def sliding_square() -> VideoClip:
    """A textured square of `SIDE` pixels, partly behind a bar in half of the frames."""
    texture = np.random.default_rng(0).integers(256, size=(SIDE // 16, SIDE // 16, 3), dtype=np.uint8)
    square = texture.repeat(16, axis=0).repeat(16, axis=1)
    rgb = np.full((FRAMES, HEIGHT, WIDTH, 3), 128, dtype=np.uint8)
    modal = np.zeros((FRAMES, HEIGHT, WIDTH), dtype=np.bool_)
    for frame in range(FRAMES):
        left = 100 + (WIDTH - SIDE - 200) * frame // FRAMES
        rgb[frame, 300 : 300 + SIDE, left : left + SIDE] = square
        modal[frame, 300 : 300 + SIDE, left : left + SIDE] = True
    rgb[:, :, 900:1020], modal[:, :, 900:1020] = 40, False
    return VideoClip(rgb, modal)


def main() -> None:
    """Print processor seconds per frame."""
    torch.set_num_threads(1)
    networks = 0.0

    def apart(work: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401
            nonlocal networks
            started = time.process_time()
            result = work(*arguments, **options)
            networks += time.process_time() - started
            return result

        return timed

    for stage in (amodal_segmentation, content_completion):
        stage.sample_windows = apart(stage.sample_windows)
    completer, clip = AmodalCompleter.from_pretrained("tiny", device="cpu"), sliding_square()
    started = time.process_time()
    result = completer(clip)
    around = time.process_time() - started - networks
    assert result.rgba is not None
    with TemporaryDirectory() as folder:
        started = time.process_time()
        for mask, layer in zip(result.amodal_mask, result.rgba, strict=True):
            write_mask_png(Path(folder) / "mask.png", mask)
            write_rgba_png(Path(folder) / "layer.png", layer)
        written = time.process_time() - started
    print(f"{FRAMES} frames of {WIDTH}x{HEIGHT}, one object, processor seconds per frame:")
    print(f"networks {networks / FRAMES:.3f}  around them {around / FRAMES:.3f}  PNG files {written / FRAMES:.3f}")


if __name__ == "__main__":
    main()

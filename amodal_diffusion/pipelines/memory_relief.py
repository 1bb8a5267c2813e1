"""When the memory of a device runs out: fewer objects in a network call, and fewer frames in a chunk of decoding."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from amodal_diffusion.models.latents import Autoencoder, decode_latents

Item = TypeVar("Item")
Result = TypeVar("Result")

logger = logging.getLogger(__name__)


class MemoryRelief:
    """What a pipeline computes at once: all that it is asked to, and half as much once memory has run out.

    Objects and chunk are halved once each, with a notice, and stay halved for later calls. The error of torch gets
    through where memory runs out once more.
    """

    def __init__(self) -> None:
        self._most_objects: int | None = None
        self._most_frames: int | None = None

    def in_parts(self, items: Sequence[Item], work: Callable[[Sequence[Item]], Sequence[Result]]) -> list[Result]:
        """Do work that takes several objects at once.

        Args:
            items: windows of objects.
            work: one result for each item of any part of them; called again with half of the items where memory runs
                out, so it must not depend on what an earlier call has changed.

        Raises:
            torch.OutOfMemoryError: if memory runs out with one object, or again after the items were halved.
        """
        results: list[Result] = []
        while len(results) < len(items):
            part = items[len(results) :][: self._most_objects]
            try:
                results += work(part)
                continue
            except torch.OutOfMemoryError:
                if self._most_objects is not None or len(part) == 1:
                    raise
            self._most_objects = len(part) // 2  # outside of `except`: the error keeps tensors of the call alive
            logger.warning(
                "out of memory with %d objects in one network call: now %d; --object-batch %d does so from the start",
                len(part),
                self._most_objects,
                self._most_objects,
            )
            _return_unused_memory()
        return results

    def decode(self, vae: Autoencoder, latents: Tensor, *, decode_chunk_size: int) -> Tensor:
        """Decode as :func:`~amodal_diffusion.models.latents.decode_latents` does.

        Args:
            vae: the autoencoder.
            latents: float ``[B, F, 4, h, w]``, multiplied by the scaling factor.
            decode_chunk_size: frames decoded together; half as many once memory has run out, which changes the colors
                of a temporal decoder near the ends of chunks.

        Returns:
            float32 ``[B, F, 3, H, W]``, about [-1, 1], not clipped.

        Raises:
            torch.OutOfMemoryError: if memory runs out with one frame, or again after the chunk was halved.
        """
        chunk = min(decode_chunk_size, latents.shape[1], self._most_frames or decode_chunk_size)
        try:
            return decode_latents(vae, latents, decode_chunk_size=chunk)
        except torch.OutOfMemoryError:
            if self._most_frames is not None or chunk == 1:
                raise
        self._most_frames = chunk // 2
        logger.warning(
            "out of memory while %d frames were decoded together: now %d, which can change hidden pixels slightly; "
            "--decode-chunk-size %d does so from the start",
            chunk,
            self._most_frames,
            self._most_frames,
        )
        _return_unused_memory()
        return decode_latents(vae, latents, decode_chunk_size=self._most_frames)


def _return_unused_memory() -> None:
    """Give memory that torch holds without using it back, so that larger pieces can be allocated."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()

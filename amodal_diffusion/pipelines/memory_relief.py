"""When the memory of a device runs out: fewer objects in a network call, and fewer frames in a chunk of decoding."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Generic, Self, TypeVar

import torch
from torch import Tensor

from amodal_diffusion.models.latents import Autoencoder, decode_latents
from amodal_diffusion.models.memory import is_out_of_memory

Item = TypeVar("Item")

logger = logging.getLogger(__name__)


class Attempt(Generic[Item]):
    """Work on some items, in a ``with`` block that ends early where memory runs out.

    Attributes:
        items: what the work takes together.
        out_of_memory: whether memory ran out, and the items have to be taken again in smaller parts.
    """

    def __init__(self, items: Sequence[Item], *, final: bool) -> None:
        """Take the items; a final attempt, and one of a single item, lets the error of torch through."""
        self.items = items
        self.out_of_memory = False
        self._final = final or len(items) == 1

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        """Note that memory ran out; the error, whose traceback keeps tensors alive, ends here."""
        self.out_of_memory = is_out_of_memory(error) and not self._final
        return self.out_of_memory


class MemoryRelief:
    """What a pipeline computes at once: all that it is asked to, and half as much once memory has run out.

    Objects and chunk are halved once each, with a notice, and stay halved until :meth:`reset`, which begins a clip. The
    error of torch gets through where memory runs out once more.
    """

    def __init__(self) -> None:
        self._most_objects: int | None = None
        self._most_frames: int | None = None

    @property
    def decode_chunk_size(self) -> int | None:
        """Frames that are decoded together since memory ran out; None if it did not."""
        return self._most_frames

    def reset(self) -> None:
        """Begin anew with all objects and frames that are asked for, so that no clip's result depends on another's."""
        self._most_objects = self._most_frames = None

    def parts(self, items: Sequence[Item]) -> Iterator[Attempt[Item]]:
        """Cut items into parts that a call of the network takes together, each an attempt that may be repeated.

        Args:
            items: windows of objects. The work on a part, ``with attempt: ...``, must not depend on what an earlier
                attempt has changed.

        Raises:
            torch.OutOfMemoryError: if memory runs out with one object, or again after the items were halved.
        """
        done = 0
        while done < len(items):
            attempt = Attempt(items[done:][: self._most_objects], final=self._most_objects is not None)
            yield attempt
            if not attempt.out_of_memory:
                done += len(attempt.items)
                continue
            self._most_objects = len(attempt.items) // 2
            logger.warning(
                "out of memory with %d objects in one network call: now %d; --object-batch %d does so from the start",
                len(attempt.items),
                self._most_objects,
                self._most_objects,
            )
            _return_unused_memory()

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
        except RuntimeError as error:
            if not is_out_of_memory(error) or self._most_frames is not None or chunk == 1:
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

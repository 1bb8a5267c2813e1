"""What many ways to sample a scene share, done once: motion estimation, and encoding the conditions."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Hashable, Iterator
from contextlib import ExitStack, contextmanager
from time import process_time
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from amodal_diffusion.pipelines import denoising
from amodal_diffusion.propagation import mask_prior

_MOTION, _ENCODING = (mask_prior, "temporal_mask_prior"), (denoising, "build_conditions")


class Once:
    """Keeps what was made of the same frames before.

    Attributes:
        seconds: of a processor, spent on what was made and not found.
    """

    def __init__(self, *, encoding: bool) -> None:
        """Begin with nothing.

        Args:
            encoding: keep conditions too, not only the temporal mask prior.
        """
        self.seconds = 0.0
        self._kept: dict[Hashable, Any] = {}
        self._functions = (_MOTION, _ENCODING) if encoding else (_MOTION,)

    @contextmanager
    def shared(self) -> Iterator[None]:
        """As long as this lasts, what is kept is not made again."""
        with ExitStack() as stack:
            for module, name in self._functions:
                stack.enter_context(patch.object(module, name, self._keeping(getattr(module, name))))
            yield

    def _keeping(self, work: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(work)

        def made_or_kept(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - whatever the function takes and gives
            given = signature.bind(*args, **kwargs).arguments
            given.pop("generator", None)  # seeded by the clip's own seed and the window's place, so never another
            key = (work.__name__, *((name, _key(value)) for name, value in given.items()))
            if key not in self._kept:
                started = process_time()
                self._kept[key] = work(*args, **kwargs)
                self.seconds += process_time() - started
            return self._kept[key]

        return made_or_kept


def _key(value: Any) -> Hashable:  # noqa: ANN401 - any argument
    """Arrays by content, all else as it is: networks are the same if they are the same object."""
    if isinstance(value, torch.Tensor):
        value = value.cpu().numpy()
    if isinstance(value, np.ndarray):
        return value.shape, value.dtype.str, hashlib.sha256(np.ascontiguousarray(value)).hexdigest()
    return value  # type: ignore[no-any-return]

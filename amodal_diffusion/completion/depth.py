"""The depth of a clip: from files, from a depth network, or none."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from amodal_diffusion.basics import InputError
from amodal_diffusion.completion.inputs import CompletionInputs
from amodal_diffusion.completion.request import CompletionRequest
from amodal_diffusion.io.depth_files import DepthTrack, SmallDepthFile
from amodal_diffusion.io.result_folder import OutputFolder
from amodal_diffusion.types import FloatArray

if TYPE_CHECKING:
    from amodal_diffusion.models.depth import DepthEstimator

STEP, _FILE = "depth", "estimated_depth.npy"
_BATCH = 4  # frames; a single 4K frame takes 25 MB

logger = logging.getLogger(__name__)


def load_estimator(
    request: CompletionRequest, default: str | None, *, found: Path | None, device: str
) -> DepthEstimator | None:
    """Load the depth network that the request names, or else the one that the checkpoint names.

    Args:
        request: the request; ``depth.depth_model`` may name a network.
        default: the network that the checkpoint names, if any; without ``found`` it is used if it is in the local
            cache.
        found: folder of the network, if it was looked for already.
        device: device of the network, such as ``cpu`` or ``cuda:0``.

    Returns:
        None if neither names a network, or the checkpoint's cannot be loaded; one line of the log says so.

    Raises:
        InputError: if the depth model that the request names cannot be loaded.
    """
    name = request.depth.depth_model or default
    if name is None:
        if not request.output.quiet:
            logger.info("depth: the model names no depth network, going without; see --depth and --depth-model")
        return None
    from amodal_diffusion.models.depth import DepthEstimator
    from amodal_diffusion.models.hub import DEPTH_MODELS

    try:
        estimator = DepthEstimator.from_pretrained(found or name, device=device, download=False)
    except InputError:
        if request.depth.depth_model is not None:
            raise
        logger.warning(
            "depth: the model's depth network cannot be loaded, and hidden parts are predicted less well without it; "
            "--depth-model %s adds it, --depth none silences this",
            next((short for short, known in DEPTH_MODELS.items() if known.repository == name), name),
        )
        return None
    if request.depth.depth_model is None:
        logger.info("depth: estimated by %s; --depth none goes without, --depth-model names another network", name)
    return estimator


def clip_depth(
    inputs: CompletionInputs, estimator: DepthEstimator | None, out: OutputFolder, *, quiet: bool
) -> DepthTrack | None:
    """Depth of the whole clip: the given depth, or else an estimate; None without both.

    Estimates are stored on disk first, because depth is scaled by the range of the whole clip. After an interruption
    the estimation continues behind the last whole batch, so that all batches stay the same.

    Args:
        inputs: the clip, and its depth if it was given.
        estimator: estimates depth if none was given.
        out: the opened result folder, which stores the estimates.
        quiet: show no progress bar.
    """
    if inputs.depth is not None or estimator is None:
        return inputs.depth
    clip = inputs.clip
    file = SmallDepthFile(out.work / _FILE, clip.num_frames, clip.height, clip.width)
    if not out.is_finished(STEP):
        with out.step(STEP, [_FILE], progress=_FILE):
            kept = 0
            while kept + _BATCH <= file.count() and file.digest(kept, _BATCH) == out.noted(STEP, _part(kept)):
                kept += _BATCH
            bar = tqdm(total=clip.num_frames, initial=kept, desc="depth", unit="frame", disable=quiet)

            def maps() -> Iterator[FloatArray]:
                frames = islice(clip, kept, None)
                while batch := list(islice(frames, _BATCH)):
                    yield estimator(np.stack(batch))
                    bar.update(len(batch))

            with bar:
                file.write(maps(), kept=kept, on_batch=lambda first, digest: out.note(STEP, {_part(first): digest}))
    return file.open()


def _part(first: int) -> str:
    """Name of a batch of estimates in the record of what is finished."""
    return f"{_FILE}:{first}"

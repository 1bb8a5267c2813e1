"""CoTracker as a point tracker. Its code and weights are non-commercial (CC-BY-NC 4.0): the user installs both."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from amodal_diffusion.basics import InputError
from amodal_diffusion.models.weights import find_device, load_strictly, read_state_dict
from amodal_diffusion.propagation.point_tracking import Points, TrackedPoints
from amodal_diffusion.types import BoolArray, UInt8Array

INSTALL = "pip install git+https://github.com/facebookresearch/co-tracker"


class CoTracker:
    """Tracks points through occlusions with CoTracker 3, from where they were last seen to each new frame.

    Args:
        predictor: CoTracker's `CoTrackerPredictor`, or what is called like it.
        device: where it runs.
        memory: number of frames that are tracked at once; after so many, tracking starts anew at the last of them.
    """

    def __init__(self, predictor: Any, *, device: str | torch.device = "cpu", memory: int = 60) -> None:  # noqa: ANN401
        if memory < 2:
            raise InputError(f"memory: expected at least 2 frames, got {memory}")
        self.device = find_device(device)
        self.predictor = predictor.to(self.device)
        self.memory = memory

    @classmethod
    def load(cls, weights: Path, *, device: str | torch.device = "cpu") -> Self:
        """Load the offline model.

        Args:
            weights: safetensors file of the published ``scaled_offline.pth``, which is a pickle and never opened here.
            device: where it runs.

        Raises:
            InputError: if CoTracker is not installed, or the file does not fit.
        """
        try:
            module = importlib.import_module("cotracker.predictor")
        except ImportError as error:
            raise InputError(
                f"tracker cotracker: CoTracker is not installed; `{INSTALL}` installs it (license CC-BY-NC 4.0, "
                "non-commercial), or choose constant_velocity or lucas_kanade"
            ) from error
        predictor = module.CoTrackerPredictor(checkpoint=None, offline=True, window_len=60, v2=False)
        load_strictly(predictor.model, read_state_dict(weights.parent, weights.stem), source=weights)
        return cls(predictor.eval(), device=device)

    def begin(self, frame: UInt8Array, points: Points, *, velocity: Points) -> TrackedPoints:
        """See `PointTracker`."""
        del velocity
        return _Tracked(self, frame, points)


class _Tracked:
    def __init__(self, tracker: CoTracker, frame: UInt8Array, points: Points) -> None:
        self._tracker, self._frames, self._points = tracker, [frame], points

    @torch.no_grad()
    def step(self, frame: UInt8Array) -> tuple[Points, BoolArray]:
        self._frames.append(frame)
        video = torch.from_numpy(np.stack(self._frames)).permute(0, 3, 1, 2)[None].float()  # [1, F, 3, H, W], 0..255
        times = np.zeros((len(self._points), 1))
        queries = torch.from_numpy(np.concatenate([times, self._points], axis=1))[None].float()  # [1, N, 3]: t, x, y
        device = self._tracker.device
        tracks, visible = self._tracker.predictor(video.to(device), queries=queries.to(device))
        found = np.asarray(tracks[0, -1].double().cpu().numpy())
        if len(self._frames) >= self._tracker.memory and np.isfinite(found).all():
            self._frames, self._points = [frame], found
        return found, np.asarray(visible[0, -1].cpu().numpy() > 0)

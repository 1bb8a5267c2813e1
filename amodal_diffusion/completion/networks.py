"""The networks of `complete`, each loaded once and reused for many clips."""

from __future__ import annotations

import logging
from functools import cached_property
from typing import TYPE_CHECKING, Any

from amodal_diffusion.completion.depth import load_estimator
from amodal_diffusion.completion.request import CompletionRequest
from amodal_diffusion.completion.scores import KeptScores
from amodal_diffusion.completion.segmentation import open_segmenter
from amodal_diffusion.models.libraries import quieten_libraries
from amodal_diffusion.types import STAGES, Stage

if TYPE_CHECKING:
    from amodal_diffusion.models.depth import DepthEstimator
    from amodal_diffusion.models.segmenters.protocol import Segmenter
    from amodal_diffusion.pipelines.completer import AmodalCompleter, CompletionConfig

logger = logging.getLogger(__name__)


class Networks:
    """The networks that a request needs.

    They can be reused for requests that differ only in clip, masks, objects, depth files and result folder.

    Attributes:
        completer: the stages that the request needs.
    """

    def __init__(self, request: CompletionRequest) -> None:
        """Load the stages and validate the request's settings.

        Args:
            request: names the models and the device.

        Raises:
            InputError: if a model cannot be loaded, or a setting does not fit it.
        """
        quieten_libraries(quiet=request.output.quiet)
        from amodal_diffusion.models.weights import find_device
        from amodal_diffusion.pipelines.completer import AmodalCompleter

        self._request = request
        self._segmenter: Segmenter | None = None
        self._scores = None if request.source.from_scores is None else KeptScores.open(request.source.from_scores)
        self._device = str(find_device(request.model.device))
        if self._scores is not None:
            self.completer: AmodalCompleter = AmodalCompleter.without_networks(self._scores.depth_model)
            self.config(request)  # checks the settings
            return
        stages: tuple[Stage, ...] = STAGES
        if not request.painted:
            stages = ("amodal_segmentation",)
        elif request.source.amodal_masks is not None:
            stages = ("content_completion",)
        self.completer = AmodalCompleter.from_pretrained(
            request.model.model,
            content_model=request.model.content_model,
            stages=stages,
            device=request.model.device,
            dtype=request.model.dtype,
            attention=request.model.attention,
        )
        self.config(request)  # checks the settings
        if request.sampling.preset is None and self.completer.config() == self.completer.config(preset="paper"):
            logger.warning(
                "model %s: sampled as in the paper; --preset default (corrected conditioning, fewer network rows) is "
                "faster, but was never measured with these weights",
                request.model.model,
            )

    @cached_property
    def estimator(self) -> DepthEstimator | None:
        """The depth network, loaded on first use; None if there is none.

        Raises:
            InputError: if a depth model that the request names cannot be loaded.
        """
        return load_estimator(self._request, self.completer.default_depth_model, device=self._device)

    def segmenter(self) -> Segmenter:
        """The network that predicts modal masks from prompts, loaded on first use.

        Raises:
            InputError: if it cannot be loaded.
            RuntimeError: if the request names no segmenter.
        """
        if self._segmenter is None:
            if self._request.clicks.segmenter is None:
                raise RuntimeError("the request names no segmenter")
            self._segmenter = open_segmenter(
                self._request.clicks.segmenter,
                device=self._device,
                dtype="auto",
                quiet=self._request.output.quiet,
            )
        return self._segmenter

    def config(self, request: CompletionRequest) -> CompletionConfig:
        """Sampling settings of the loaded stages for a request.

        Args:
            request: its own settings override those of its preset.

        Raises:
            InputError: if a setting does not fit a checkpoint, such as a height that its VAE's factor does not divide.
        """
        if self._scores is None:
            return self.completer.config(**request.sampling.changes())
        from amodal_diffusion.pipelines.completer import CompletionConfig

        chosen = request.sampling
        changes: dict[str, Any] = {} if chosen.mask_filters is None else {"mask_filters": chosen.mask_filters}
        if chosen.mask_threshold is not None:
            changes |= {"mask_threshold": chosen.mask_threshold, "expected_iou_weight": None}
        return CompletionConfig(self._scores.sampling.changed(changes), None)

"""The networks of both stages: where they run, in which precision, and which weights they have."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self

import torch

from amodal_diffusion.basics import InputError, Stage
from amodal_diffusion.models.method_folder import digest_of_weights
from amodal_diffusion.models.offloading import execution_device, place_networks
from amodal_diffusion.models.weights import find_device, joined_fingerprint
from amodal_diffusion.pipelines.amodal_segmentation import AmodalSegmentationPipeline
from amodal_diffusion.pipelines.content_completion import ContentCompletionPipeline
from amodal_diffusion.pipelines.denoising import ConditionedVideoPipeline
from amodal_diffusion.pipelines.shot_segmentation import network_of
from amodal_diffusion.types import AmodalSegmenter

logger = logging.getLogger(__name__)


class StageNetworks:
    """The loaded stages.

    Attributes:
        default_depth_model: the depth network that stage 1 was trained on, if any.
        segmenter: stage 1 if it is another method than diffusion; else None.
        warn_without_depth: whether the first call without depth says that the model was trained with it.
    """

    warn_without_depth = True

    def __init__(
        self,
        segmentation: AmodalSegmentationPipeline | AmodalSegmenter | None,
        content: ContentCompletionPipeline | None,
    ) -> None:
        """Take loaded pipelines.

        Args:
            segmentation: stage 1: the diffusion pipeline, or any other method, which sees each shot of an object at
                once; None if amodal masks will be given.
            content: stage 2; None if only masks are wanted.

        Raises:
            InputError: if both are None.
        """
        if segmentation is None and content is None:
            raise InputError("stages: expected at least one of amodal_segmentation and content_completion")
        self._segmentation, self._content = None, content
        self.segmenter: AmodalSegmenter | None = None
        if isinstance(segmentation, AmodalSegmentationPipeline):
            self._segmentation = segmentation
        else:
            self.segmenter = segmentation
        self._fingerprints: dict[Stage, str] = {}
        self.default_depth_model = None if self._segmentation is None else self._segmentation.settings.depth_model

    def notice_depth(self, *, given: bool) -> None:
        """Say once that depth is missing, if stage 1 was trained with it.

        Args:
            given: whether a caller gives depth, or needs none.
        """
        if given or self.default_depth_model is None or not self.warn_without_depth:
            return
        logger.warning(
            "depth: none was given, though the model was trained with it, and hidden parts are predicted less well; "
            "give depth=DepthEstimator.from_pretrained('%s')(frames), or set completer.warn_without_depth = False",
            self.default_depth_model,
        )
        self.warn_without_depth = False

    @contextmanager
    def watched(self, on_step: Callable[[Stage], None]) -> Iterator[None]:
        """Have a function called before each step of denoising, as long as the context lasts.

        Args:
            on_step: called with the stage; an exception that it raises ends the work.
        """
        hooks = [
            pipeline.unet.register_forward_pre_hook(lambda *_, stage=stage: on_step(stage))
            for stage, pipeline in self._pipelines.items()
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def fingerprints(self) -> dict[Stage, str]:
        """SHA-256 over the networks of each loaded stage, 64 hex digits."""
        for stage, pipeline in self._pipelines.items():
            if stage not in self._fingerprints:
                networks = [pipeline.unet, pipeline.vae, pipeline.image_encoder]
                self._fingerprints[stage] = joined_fingerprint(networks)
        network = network_of(self.segmenter)
        if network is not None and "amodal_segmentation" not in self._fingerprints:
            self._fingerprints["amodal_segmentation"] = digest_of_weights(network.state_dict())
        return dict(self._fingerprints)

    def to(self, device: str | torch.device | None = None, dtype: object = None) -> Self:
        """Move all networks to a device, as modules do.

        Args:
            device: torch's or its name; ``"auto"`` as for :meth:`from_pretrained`.
            dtype: refused, as networks get their precision when they are loaded.

        Raises:
            InputError: if the device cannot be used, a precision is given, or weights are offloaded.
        """
        if dtype is not None or device is None or isinstance(device, torch.dtype):
            given = device if dtype is None else dtype
            raise InputError(f"to: precision is chosen when networks are loaded: from_pretrained(..., dtype={given})")
        where = find_device(device)
        for pipeline in self._pipelines.values():
            if any(hasattr(part, "_hf_hook") for part in (pipeline.unet, pipeline.vae, pipeline.image_encoder)):
                raise InputError("to: the weights are offloaded to the CPU until they are needed; load them without")
            pipeline.to(where, silence_dtype_warnings=True)
        network = network_of(self.segmenter)
        if network is not None:
            network.to(where)
        return self

    def enable_model_cpu_offload(self, device: str | torch.device = "auto", *, gpu_id: int | None = None) -> None:
        """Keep one network at a time on a GPU, as ``offload="model"`` of :meth:`from_pretrained` does.

        Args:
            device: the GPU.
            gpu_id: number of the GPU, in place of `device`.

        Raises:
            InputError: if the device is the CPU or cannot be used.
        """
        where = find_device(device if gpu_id is None else f"cuda:{gpu_id}")
        if where.type == "cpu":
            raise InputError("enable_model_cpu_offload: moves weights to a GPU, and this runs on the CPU; leave it out")
        place_networks(list(self._pipelines.values()), where, "model", option="enable_model_cpu_offload")

    def __repr__(self) -> str:
        """The loaded stages, where they run and in which precision."""
        stages = [] if self.segmenter is None else [f"amodal_segmentation by {type(self.segmenter).__name__}"]
        stages += self._pipelines
        return f"{type(self).__name__}({', '.join(stages) or 'no networks'}; {self.device}, {self.dtype})"

    @property
    def device(self) -> str:
        """Where the networks run, such as ``cpu`` or ``cuda:0``."""
        pipelines, network = list(self._pipelines.values()), network_of(self.segmenter)
        if pipelines:
            return str(execution_device(pipelines[0].unet))
        return "cpu" if network is None else str(next(network.parameters()).device)

    @property
    def dtype(self) -> str:
        """Precision of the networks, such as ``float32``."""
        networks = [pipeline.unet for pipeline in self._pipelines.values()]
        dtype = networks[0].dtype if networks else torch.float32
        return str(dtype).removeprefix("torch.")

    @property
    def _pipelines(self) -> dict[Stage, ConditionedVideoPipeline]:
        """The loaded stages that are diffusion."""
        stages: dict[Stage, ConditionedVideoPipeline | None] = {
            "amodal_segmentation": self._segmentation,
            "content_completion": self._content,
        }
        return {stage: pipeline for stage, pipeline in stages.items() if pipeline is not None}

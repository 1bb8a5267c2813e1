"""The networks of both stages: how they are loaded, where they run, in which precision, and which weights they have."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import torch

from amodal_diffusion.basics import STAGES, InputError, Stage
from amodal_diffusion.config import Attention, Offload
from amodal_diffusion.models.acceleration import Acceleration, accelerate_networks
from amodal_diffusion.models.hub import check_names_stages
from amodal_diffusion.models.light_vae import find_vae
from amodal_diffusion.models.method_folder import digest_of_weights
from amodal_diffusion.models.offloading import execution_device, place_networks
from amodal_diffusion.models.stages import load_stages
from amodal_diffusion.models.unet import use_attention
from amodal_diffusion.models.weights import choose_dtype, find_device, joined_fingerprint
from amodal_diffusion.pipelines.amodal_segmentation import AmodalSegmentationPipeline
from amodal_diffusion.pipelines.completion_config import check_stages, refuse_unknown_loading
from amodal_diffusion.pipelines.content_completion import ContentCompletionPipeline
from amodal_diffusion.pipelines.denoising import ConditionedVideoPipeline
from amodal_diffusion.pipelines.methods import DIFFUSION, METHODS, StageNames
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

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path = "tiny",
        *,
        content_model: str | Path | None = None,
        method: str | None = None,
        vae: str | Path | None = None,
        stages: Sequence[Stage] = STAGES,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "auto",
        attention: Attention = "sdpa",
        offload: Offload = "none",
        acceleration: Acceleration | None = None,
        yes: bool = False,
        **unknown: object,
    ) -> Self:
        """Load a model.

        Args:
            model: a bundled name, a folder, or a hub id (``owner/name``, ``owner/name@REVISION``), with both stages or
                with the wanted one; ``"diffusion-vas"`` is both released checkpoints. A checkpoint of another method is
                stage 1 alone.
            content_model: where stage 2 is, if not in ``model``; ``"tiny"`` beside another method.
            method: of stage 1, a name of :data:`~amodal_diffusion.pipelines.methods.METHODS`; with ``"tiny"`` its
                bundled weights. None takes the one that the checkpoint is of.
            vae: light autoencoder (``AutoencoderTiny``) in place of the model's own, for the same latents: a folder, a
                hub id, or ``"tiny"`` for the hub's TAESD of Stable Video Diffusion's latents.
            stages: which to load.
            device: torch's or its name; ``"auto"`` is cuda if there is one, else mps, else cpu.
            dtype: torch's or its name, float32, float16 or bfloat16; ``"auto"`` is bfloat16 on a cuda card that has it,
                float16 on others, else float32.
            attention: ``"sdpa"`` is torch's fused attention, ``"plain"`` multiplies matrices, ``"xformers"`` is the
                extra of that name, for GPUs.
            offload: ``"none"`` keeps all weights on the device, ``"model"`` one network at a time, ``"sequential"`` one
                layer at a time; the networks of another method of stage 1 stay on the device.
            acceleration: options for speed on a GPU, see :class:`~amodal_diffusion.models.acceleration.Acceleration`;
                none of them when None.
            yes: download without asking. If False, the size and the license of what is not in the local cache are
                printed, and a question is asked on the terminal.
            unknown: refused, with what to give instead.

        Raises:
            InputError: if the model cannot be loaded or may not be downloaded, an argument, device or dtype is unknown,
                or xformers, the offload or an acceleration does not run here.
        """
        refuse_unknown_loading(unknown)
        check_stages(stages)
        where = find_device(device)
        acceleration = acceleration or Acceleration()
        acceleration.check(where, offload)
        precision = choose_dtype(dtype, where)
        wanted = [stage for stage in STAGES if stage in stages]
        found, folders = StageNames(model, content_model, method, wanted).find(yes=yes)
        if len(folders) > 1 and content_model is None and len(set(folders.values())) == 1:
            check_names_stages(folders["content_completion"])
        light = None if vae is None else find_vae(vae, yes=yes)
        segmentation: AmodalSegmentationPipeline | AmodalSegmenter | None = None
        content = None
        if found != DIFFUSION:
            segmentation = METHODS[found].open(folders.pop("amodal_segmentation"), device=where, yes=yes)
        loaded = load_stages(folders, dtype=precision, vae=light, share=offload != "sequential")
        if "amodal_segmentation" in loaded:
            segmentation = AmodalSegmentationPipeline.from_components(loaded["amodal_segmentation"])
        if "content_completion" in loaded:
            content = ContentCompletionPipeline.from_components(loaded["content_completion"])
        completer = cls(segmentation, content)
        if offload == "sequential":
            completer.fingerprints()  # which cannot be made of weights that are away
        for pipeline in completer._pipelines.values():
            use_attention(pipeline.unet, attention, option="attention")
            accelerate_networks(pipeline.unet, pipeline.vae, acceleration, where)
            pipeline.set_progress_bar_config(disable=True)
        place_networks(list(completer._pipelines.values()), where, offload, option="offload")
        return completer

    @classmethod
    def without_networks(cls, depth_model: str | None = None) -> Self:
        """A completer of frames that bring their scores or amodal masks; nothing is loaded, and nothing painted.

        Args:
            depth_model: becomes ``default_depth_model``.
        """
        completer = cls.__new__(cls)
        completer._segmentation = completer._content = completer.segmenter = None
        completer._fingerprints = {}
        completer.default_depth_model = depth_model
        return completer

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

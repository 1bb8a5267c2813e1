"""The networks of `complete`, each loaded once and reused for many clips."""

from __future__ import annotations

import logging
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amodal_diffusion.completion.depth import load_estimator
from amodal_diffusion.completion.request import CompletionRequest, check_method
from amodal_diffusion.completion.scores import KeptScores
from amodal_diffusion.completion.segmentation import open_segmenter
from amodal_diffusion.models.libraries import quieten_libraries
from amodal_diffusion.pipelines.methods import DIFFUSION

if TYPE_CHECKING:
    from amodal_diffusion.models.depth import DepthEstimator
    from amodal_diffusion.models.downloads import Source, Wanted
    from amodal_diffusion.models.segmenters.protocol import Segmenter
    from amodal_diffusion.pipelines.completer import AmodalCompleter, CompletionConfig

logger = logging.getLogger(__name__)


class Places:
    """The folders of the networks that a request needs, after one question for everything that has to be downloaded.

    Attributes:
        method: of stage 1.
        stages: folder of the model of each stage that runs.
        depth: folder of the depth network that the request names, or a released model has by default; None if neither
            does, or the latter is not here.
        segmenter: folder of the segmenter; None without prompts, or if it is a plug-in.
        vae: folder of the light autoencoder; None if the models use their own.
    """

    def __init__(self, request: CompletionRequest) -> None:
        """Look for the networks, and download what is not here.

        Args:
            request: names the models, and may answer the question.

        Raises:
            InputError: if a name is unknown, a checkpoint is of another method, an option does nothing beside its
                method, or a network is not here and cannot or may not be downloaded.
        """
        quieten_libraries(quiet=request.output.quiet)
        from amodal_diffusion.models.downloads import Wanted, fetch, folder_of
        from amodal_diffusion.models.light_vae import locate_vae

        model, given = request.model, request.source.amodal_masks is not None
        names = request.stage_names
        stages = names.places()
        depth = None if given or request.depth.depth != "auto" else _depth_place(request)
        segmenter = _segmenter_place(request)
        vae = None if model.vae is None or not stages else locate_vae(model.vae)
        places = [place for place in (*stages.values(), depth, segmenter, vae) if isinstance(place, Wanted)]
        found = fetch(places, yes=model.yes)
        self.method, self.stages = names.settle({stage: folder_of(place, found) for stage, place in stages.items()})
        check_method(request, self.method)  # of a hub id the download tells
        self.depth = found.get(depth) if isinstance(depth, Wanted) else depth
        self.segmenter = found.get(segmenter) if isinstance(segmenter, Wanted) else segmenter
        self.vae = found.get(vae) if isinstance(vae, Wanted) else vae

    def sources(self) -> dict[str, Source]:
        """Where the networks come from: the models by stage, and ``vae``; a user's own are left out."""
        from amodal_diffusion.models.downloads import read_source
        from amodal_diffusion.models.hub import stage_folder

        light = None if self.vae is None else read_source(self.vae)
        found: dict[str, Source] = {} if light is None else {"vae": light}
        for stage, model in self.stages.items():
            other = stage == "amodal_segmentation" and self.method != DIFFUSION
            own = None if other else stage_folder(model, stage)
            source = read_source(own or model) or read_source(model)
            if source is not None:
                found[stage] = source
        return found


def _depth_place(request: CompletionRequest) -> Path | Wanted | None:
    """The depth network that a request names, or that a released model has by default."""
    from dataclasses import replace

    from amodal_diffusion.models.downloads import Wanted
    from amodal_diffusion.models.hub import find_released, locate_depth, say_depth_license

    if request.depth.depth_model is not None:
        say_depth_license(request.depth.depth_model)
        return locate_depth(request.depth.depth_model)
    released = find_released(request.model.model)
    if released is None:
        return None
    place = locate_depth(released.depth_model)
    return replace(place, optional=True) if isinstance(place, Wanted) else place


def _segmenter_place(request: CompletionRequest) -> Path | Wanted | None:
    from amodal_diffusion.models.segmenters.loading import is_installed, locate_segmenter

    name = request.clicks.segmenter
    if name is None or request.clicks.prompts is None or is_installed(name):
        return None
    return locate_segmenter(name)


class Networks:
    """The networks that a request needs.

    They can be reused for requests that differ only in clip, masks, objects, depth files and result folder.

    Attributes:
        method: of stage 1.
        completer: the stages that the request needs.
        sources: repository and commit of downloaded models, see :meth:`Places.sources`.
    """

    def __init__(self, request: CompletionRequest, places: Places | None = None) -> None:
        """Load the stages and validate the request's settings.

        Args:
            request: names the models and the device.
            places: folders of the networks, where they were looked up before.

        Raises:
            InputError: if a model cannot be loaded, or a setting does not fit it.
        """
        quieten_libraries(quiet=request.output.quiet)
        from amodal_diffusion.models.acceleration import Acceleration
        from amodal_diffusion.models.weights import find_device

        chosen = request.model
        acceleration = Acceleration(chosen.compile, chosen.cuda_graphs, chosen.channels_last)
        acceleration.check(find_device(chosen.device), chosen.offload)  # before anything is downloaded
        self._places = places or Places(request)
        self.method = self._places.method
        from amodal_diffusion.pipelines.completer import AmodalCompleter

        self._request = request
        self._segmenter: Segmenter | None = None
        self._scores = None if request.source.from_scores is None else KeptScores.open(request.source.from_scores)
        self._device = str(find_device(request.model.device))
        self.sources = self._places.sources()
        if self._scores is not None:
            self.completer: AmodalCompleter = AmodalCompleter.without_networks(self._scores.depth_model)
            self.config(request)  # checks the settings
            return
        found = self._places.stages
        same = request.model.content_model is None and len(set(found.values())) == 1
        self.completer = AmodalCompleter.from_pretrained(
            next(iter(found.values())),
            content_model=None if same else found.get("content_completion"),
            vae=self._places.vae,
            stages=tuple(found),
            device=request.model.device,
            dtype=request.model.dtype,
            attention=request.model.attention,
            offload=request.model.offload,
            acceleration=acceleration,
            yes=request.model.yes,  # the checkpoint of another method may name pretrained weights
        )
        self.sources = self._places.sources()
        self.config(request)  # checks the settings
        asked = request.sampling.preset is not None or self.method != DIFFUSION
        if not asked and self.completer.config() == self.completer.config(preset="paper"):
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
        return load_estimator(
            self._request,
            self.completer.default_depth_model,
            found=self._places.depth,
            device=self._device,
        )

    def segmenter(self) -> Segmenter:
        """What predicts modal masks from prompts, loaded on first use.

        Raises:
            InputError: if it cannot be loaded.
        """
        if self._segmenter is None:
            place = self._places.segmenter
            self._segmenter = open_segmenter(
                self._request.clicks.segmenter if place is None else str(place),
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

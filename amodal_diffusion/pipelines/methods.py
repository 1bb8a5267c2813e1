"""Methods of stage 1 by name: bundled weights, how a checkpoint is opened, and which models the stages take.

A new method is one entry of :data:`METHODS`; docs/methods.md says what its page provides. Pages are imported when they
are used, so that the commands can list the names without torch.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amodal_diffusion.basics import STAGES, InputError, Stage
from amodal_diffusion.io.json_files import load_json

if TYPE_CHECKING:
    import torch

    from amodal_diffusion.models.downloads import Wanted
    from amodal_diffusion.types import AmodalSegmenter

DIFFUSION = "diffusion"
DEFAULT_MODEL = "tiny"
"""Name of the bundled weights: both stages of the diffusion model, or stage 1 of the method that is named beside it."""
OF_DIFFUSION = ("samples", "tta", "mask_threshold", "mask_filters")
"""Settings of masks that diffusion alone has."""
_ABOUT = "checkpoint.json"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Method:
    """A method of stage 1.

    Attributes:
        name: as ``--method`` takes it, and as ``checkpoint.json`` has it under ``method``.
        segmenter: ``page:Class`` in `pipelines`; the class is an `AmodalSegmenter` with a class method
            ``from_folder(folder, *, device)``.
        weights: folder of the bundled weights in `amodal_diffusion/weights`.
        uses_depth: whether depth changes its masks.
        downloads: whether ``from_folder`` may download pretrained weights, and takes ``yes`` for the answer.
    """

    name: str
    segmenter: str
    weights: str
    uses_depth: bool = False
    downloads: bool = False

    def open(self, folder: Path, *, device: str | torch.device = "auto", yes: bool = False) -> AmodalSegmenter:
        """Load a checkpoint.

        Args:
            folder: of this method.
            device: as for :func:`~amodal_diffusion.models.weights.find_device`.
            yes: download the pretrained weights that the checkpoint names without asking.

        Raises:
            InputError: if the folder holds something else, or is damaged.
        """
        page, name = self.segmenter.split(":")
        segmenter = getattr(import_module(f"amodal_diffusion.pipelines.{page}"), name)
        answers = {"yes": yes} if self.downloads else {}
        opened: AmodalSegmenter = segmenter.from_folder(folder, device=device, **answers)
        return opened

    @property
    def is_bundled(self) -> bool:
        """Whether weights of it come with the package."""
        return _weights(self.weights).is_dir()

    def bundled(self) -> Path:
        """Folder of the bundled weights; a notice says that they are tiny.

        Raises:
            InputError: if none are bundled.
        """
        if not self.is_bundled:
            raise InputError(
                f"method {self.name}: no weights of it are bundled; name the folder or hub id of a checkpoint "
                "(--model, --methods)"
            )
        if self.name != DIFFUSION:
            logger.warning(
                "method %s: its bundled weights are tiny and were trained on generated clips; --model names others",
                self.name,
            )
        return _weights(self.weights)


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(DIFFUSION, "diffusion_segmenter:DiffusionSegmenter", DEFAULT_MODEL, uses_depth=True),
        Method("c2f-seg", "c2f_seg:C2FSegmenter", "c2f-seg"),
        Method("s-amodal", "s_amodal:SAModalSegmenter", "s-amodal", downloads=True),
        Method("sameo", "sameo:SameoSegmenter", "sameo"),
    )
}
"""All methods of stage 1, by name."""


def method_of(folder: Path, wanted: str | None = None) -> str:
    """Name of the method that a checkpoint is of.

    Args:
        folder: with ``checkpoint.json``; a folder without one, or whose file names no method, is of diffusion.
        wanted: the method that is expected; any when None.

    Raises:
        InputError: if the method is unknown or another than the expected one.
    """
    found, path = DIFFUSION, folder / _ABOUT
    if path.is_file():
        try:
            about = load_json(path)
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: expected JSON ({error}); restore the file") from error
        found = about.get("method", DIFFUSION) if isinstance(about, Mapping) else DIFFUSION
    if not isinstance(found, str) or found not in METHODS:
        raise InputError(f"model {folder}: holds a checkpoint of {found}; this version reads {', '.join(METHODS)}")
    if wanted is not None and found != wanted:
        raise InputError(f"model {folder}: holds a checkpoint of {found}, not of {wanted}; --method {found} reads it")
    return str(found)


@dataclass(frozen=True)
class StageNames:
    """The models of the stages as a user names them.

    Attributes:
        model: of stage 1, and of stage 2 if it is of diffusion and there is no ``content_model``.
        content_model: of stage 2.
        method: of stage 1; when None, the one that the checkpoint is of.
        stages: which run.
    """

    model: str | Path = DEFAULT_MODEL
    content_model: str | Path | None = None
    method: str | None = None
    stages: Sequence[Stage] = STAGES

    def __post_init__(self) -> None:
        """Check the method."""
        if self.method is not None and self.method not in METHODS:
            raise InputError(f"method: expected one of {', '.join(METHODS)}, got {self.method}")

    @property
    def known_method(self) -> str:
        """The method, as far as it is known without a download: diffusion of a hub id."""
        if self.method is not None:
            return self.method
        named, place = self._bundled(), self.local()
        if named is not None:
            return named.name
        return DIFFUSION if place is None else method_of(place)

    def local(self) -> Path | None:
        """Folder of stage 1's model that is bundled or the user's own; None if it is neither."""
        named = self._bundled()
        if named is not None:
            folder = _weights(named.weights)
        else:
            bundled = _weights(str(self.model))
            folder = bundled if Path(self.model).name == str(self.model) and bundled.is_dir() else Path(self.model)
        return folder if folder.is_dir() else None

    def places(self) -> dict[Stage, Path | Wanted]:
        """Where the models are, without asking the hub.

        Raises:
            InputError: if there is no such model, or a folder holds another method's checkpoint.
        """
        from amodal_diffusion.models.hub import locate_model

        found: dict[Stage, Path | Wanted] = {}
        content = self.content_model or self.model
        if "amodal_segmentation" in self.stages:
            named = self._bundled()
            place = locate_model(self.model, stage=STAGES[0]) if named is None else named.bundled()
            found["amodal_segmentation"] = place
            method = self.method or DIFFUSION
            if isinstance(place, Path):
                method = method_of(place, self.method)
            if method != DIFFUSION:
                content = self.content_model or DEFAULT_MODEL
        if "content_completion" in self.stages:
            found["content_completion"] = locate_model(content, stage=STAGES[1])
        return found

    def settle(self, folders: Mapping[Stage, Path]) -> tuple[str, dict[Stage, Path]]:
        """The method of stage 1, and the folder of each stage, once everything is here.

        Args:
            folders: of :meth:`places`.

        Raises:
            InputError: if a download turns out to be another method's checkpoint.
        """
        from amodal_diffusion.models.hub import find_model

        settled = dict(folders)
        if "amodal_segmentation" not in folders:
            return DIFFUSION, settled
        method = method_of(folders["amodal_segmentation"], self.method)
        if method != DIFFUSION and self.content_model is None and "content_completion" in folders:
            settled["content_completion"] = find_model(DEFAULT_MODEL)
        return method, settled

    def find(self, *, yes: bool = False) -> tuple[str, dict[Stage, Path]]:
        """As :meth:`settle`, after one question for everything that has to be downloaded.

        Args:
            yes: download without asking.

        Raises:
            InputError: as :meth:`places` and :meth:`settle`, or if something may not be downloaded.
        """
        from amodal_diffusion.models.downloads import Wanted, fetch, folder_of

        places = self.places()
        found = fetch([place for place in places.values() if isinstance(place, Wanted)], yes=yes)
        return self.settle({stage: folder_of(place, found) for stage, place in places.items()})

    def _bundled(self) -> Method | None:
        """The method whose bundled weights are named: by its own name, or by ``tiny`` beside ``method``."""
        name = self.method if self.model == DEFAULT_MODEL else self.model
        return METHODS.get(name) if isinstance(name, str) and name != DIFFUSION else None


def segmenter_settings(segmenter: AmodalSegmenter) -> dict[str, Any]:
    """How a loaded method is sampled, as JSON values; nothing of a segmenter without settings."""
    sampling = getattr(segmenter, "sampling", None)
    return {} if sampling is None else asdict(sampling)


def _weights(name: str) -> Path:
    return Path(str(files("amodal_diffusion") / "weights" / name))

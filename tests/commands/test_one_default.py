"""One default: command, Python, evaluation and validation make the same masks; and that of the released layout."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from accelerate.state import AcceleratorState, GradientState, PartialState
from safetensors.torch import load_file, save_file

from amodal_diffusion.basics import STAGES
from amodal_diffusion.cli import main
from amodal_diffusion.config import MASK_FILTERS
from amodal_diffusion.evaluation.methods import ModelOptions, build_methods
from amodal_diffusion.models.hub import load_stage
from amodal_diffusion.pipelines.completer import AmodalCompleter
from amodal_diffusion.training.checkpoints import export
from amodal_diffusion.training.distributed import Termination, make_accelerator
from amodal_diffusion.training.settings import DataSettings, TrainingSettings, ValidationSettings
from amodal_diffusion.training.validation import Validator
from amodal_diffusion.types import BoolArray, VideoClip
from tests.commands.folders import amodal_masks, discs_behind_a_bar
from tests.factories import SAMPLING, tiny_components
from tests.media import write_frames, write_masks

FRAMES = 6
DEFAULT = SAMPLING.changed(
    {"height": 16, "width": 32, "fit": "crop", "temporal_prior": True, "mask_filters": MASK_FILTERS, "tta": 2}
)


@pytest.fixture(autouse=True)
def _fresh_accelerate() -> Iterator[None]:
    """Accelerate keeps its settings for the whole process."""
    yield
    for state in (AcceleratorState, GradientState, PartialState):
        state._reset_state()


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Stage 1 as training exports it."""
    components = tiny_components()
    export(replace(components, settings=replace(components.settings, sampling=DEFAULT)), tmp_path / "export")
    return tmp_path / "export"


def test_every_way_gives_the_same_masks(tmp_path: Path, checkpoint: Path) -> None:
    # Validation, of its first clip, whose number is the seed
    data = DataSettings(frames=FRAMES, height=16, width=32, scene_height=40, scene_width=72)
    settings = TrainingSettings(
        output=tmp_path / "run", data=data, sampling=DEFAULT, validation=ValidationSettings(clips=1, pictures=0)
    )
    validator = Validator(settings, make_accelerator("no"), Termination())
    predictions = validator._predict(load_stage(checkpoint, stage="amodal_segmentation"), validator.clips)
    assert predictions is not None
    (validated,) = predictions
    sample, found = validated.sample, {"validation": validated.mask}
    assert sample.rgb is not None
    assert sample.depth is not None

    # Python
    clip = VideoClip(sample.rgb, sample.modal)
    completer = AmodalCompleter.from_pretrained(checkpoint, stages=["amodal_segmentation"], device="cpu")
    found["Python"] = completer(clip, depth=sample.depth).amodal_mask

    # The command
    np.save(tmp_path / "depth.npy", sample.depth)
    given = ["--masks", write_masks(tmp_path / "masks", sample.modal), "--depth", tmp_path / "depth.npy", "-q"]
    out = tmp_path / "out"
    arguments = [write_frames(tmp_path / "frames", sample.rgb), *given, "--model", checkpoint, "--stages", "masks"]
    assert main(["complete", *map(str, arguments), "--device", "cpu", "--out", str(out)]) == 0
    found["command"] = amodal_masks(out, "1")

    # Evaluation, of a clip whose seed is 0
    target: Any = SimpleNamespace(clip=clip, depth=sample.depth, seed=lambda _: 0)
    (method,) = build_methods([f"{checkpoint}@depth"], ModelOptions(device="cpu"))
    found["evaluation"] = method.predict(target)

    assert (found["Python"] & ~sample.modal).any()
    assert not _differing(found)
    other = completer(clip, depth=sample.depth, seed=1).amodal_mask
    assert _differing({**found, "another seed": other}) == ["another seed"]


def _differing(found: dict[str, BoolArray]) -> list[str]:
    return [name for name, mask in found.items() if mask.tobytes() != found["Python"].tobytes()]


@pytest.fixture
def released(tmp_path: Path) -> dict[str, Path]:
    """A folder for each stage in the layout of the released checkpoints: `conv_in2` in the UNet, no settings."""
    folders = {}
    for stage in STAGES:
        parts, folder = tiny_components(stage), tmp_path / stage.replace("_", "-")
        for name, part in (("vae", parts.vae), ("image_encoder", parts.image_encoder), ("scheduler", parts.scheduler)):
            part.save_pretrained(folder / name)
        parts.unet.save_pretrained(folder / "unet")
        weights, config = folder / "unet/diffusion_pytorch_model.safetensors", folder / "unet/config.json"
        state = {name.replace("conv_in.", "conv_in2."): value for name, value in load_file(weights).items()}
        kept = {f"conv_in.{name}": value[:, :8] if value.ndim > 1 else value
                for name, value in tiny_components(stage).unet.conv_in.state_dict().items()}  # fmt: skip
        save_file({**state, **{name: value.contiguous() for name, value in kept.items()}}, weights)
        config.write_text(json.dumps({**json.loads(config.read_text()), "in_channels": 8}))
        folders[stage] = folder
    return folders


@pytest.mark.filterwarnings("error::UserWarning")
def test_released_checkpoints_are_sampled_as_in_the_paper(
    tmp_path: Path, model: Path, released: dict[str, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    first, second = released.values()
    clip = discs_behind_a_bar(tmp_path, first, 2, {"cup": 0})
    size = ["--height", "16", "--width", "32", "--steps", "1", "-q"]
    command = ["complete", *clip, "--content-model", str(second), *size]
    assert main([*command, "--out", str(tmp_path / "paper")]) == 0
    notice = (
        f"warning: model {first}: sampled as in the paper; --preset default (corrected conditioning, fewer network "
        "rows) is faster, but was never measured with these weights\n"
    )
    assert capfd.readouterr().err == notice
    for sampling in json.loads((tmp_path / "paper" / "summary.json").read_text())["sampling"].values():
        assert (sampling["conditioning"], sampling["guidance_scale"], sampling["fit"]) == ("released", 1.5, "stretch")
        assert (sampling["scheduler"], sampling["decode_chunk_size"], sampling["num_frames"]) == ("euler", 8, 25)
        assert sampling["beyond"]["mask_filters"] == []
        assert not any(sampling["beyond"][name] for name in ("skip_unoccluded", "color_propagation", "temporal_prior"))

    assert main([*command, "--preset", "default", "--stages", "masks", "--out", str(tmp_path / "default")]) == 0
    assert capfd.readouterr().err == ""
    sampling = json.loads((tmp_path / "default" / "summary.json").read_text())["sampling"]["amodal_segmentation"]
    assert (sampling["conditioning"], sampling["scheduler"]) == ("corrected", "dpmpp")
    own = [text if not text.startswith("--model=") else f"--model={model}" for text in clip]
    assert main(["complete", *own, "--stages", "masks", "-q", "--out", str(tmp_path / "own")]) == 0
    assert capfd.readouterr().err == ""

"""The one command that makes the bundled model: a rehearsal at small size, its estimate, and weights to go on from."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderTiny
from safetensors.torch import save_file

from amodal_diffusion import AmodalCompleter
from amodal_diffusion.basics import STAGES, InputError
from amodal_diffusion.config import SamplingConfig
from amodal_diffusion.data.composites import CompositeDataset, CompositeOptions
from amodal_diffusion.models.hub import load_stage
from amodal_diffusion.parsing import save_settings
from amodal_diffusion.training.data_settings import CompositeSettings, DataSettings
from amodal_diffusion.training.networks import build_unet
from amodal_diffusion.training.settings import TrainingSettings
from amodal_diffusion.types import VideoClip
from recipes.tiny.make_model import Maker, MakeSettings, main
from recipes.tiny.shared_autoencoder import SharedAutoencoderSettings, build_autoencoder
from recipes.tiny.start_weights import model_folder
from tests.factories import tiny_cutouts_folder
from tests.training.conftest import tiny_settings

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """The recipe's files at a size that a test can afford."""
    folder = tmp_path / "recipe"
    folder.mkdir()
    autoencoder = SharedAutoencoderSettings(
        channels=8, encoder_blocks=(0, 0, 1), decoder_blocks=(1, 0, 0), clips=1, frames=3, frame_height=32,
        frame_width=48, size=32, temporal_prior=False, made=1, validation_clips=1, steps=3, mixed_precision="no",
        save_every=2,
    )  # fmt: skip
    save_settings(autoencoder, folder / "autoencoder.yaml")
    for stage in STAGES:
        settings = _stage_settings()
        save_settings(replace(settings, stage=stage), folder / f"{stage}.yaml")
    return folder


def _stage_settings() -> TrainingSettings:
    plain = tiny_settings(Path("none"), steps=2, batch_size=1, global_batch_size=2)
    composites = CompositeSettings(Path("cutouts"), height=32, width=48, made=1)
    data = DataSettings(clips=20, frames=3, height=32, width=32, composites=composites)
    sampling = SamplingConfig(num_inference_steps=1, guidance_scale=1.0, height=32, width=32, num_frames=3, fit="crop")
    return replace(plain, model=replace(plain.model, vae=None), data=data, sampling=sampling)


@pytest.fixture
def command(tmp_path: Path, recipe: Path) -> Callable[..., int]:
    cutouts = tiny_cutouts_folder(tmp_path / "cutouts")

    def run(*more: str, out: str = "made") -> int:
        return main([f"--cutouts={cutouts}", f"--recipe={recipe}", f"--out={tmp_path / out}", *more])

    return run


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_rehearsal_in_pieces(command: Callable[..., int], tmp_path: Path, capfd: Capture) -> None:
    out = tmp_path / "made"
    assert command("--minutes=1e-6") == 0
    assert "not finished, the same command goes on" in capfd.readouterr().out
    assert not (out / "model").exists()
    assert command() == 0
    assert f"{out}: finished" in capfd.readouterr().out
    sample = CompositeDataset(tmp_path / "cutouts", 1, 3, 32, 48, options=CompositeOptions(made=1))[0]
    assert sample.rgb is not None
    completer = AmodalCompleter.from_pretrained(out / "model", device="cpu")
    result = completer(VideoClip(sample.rgb, sample.modal))
    assert result.amodal_rgb is not None
    paper = completer.config(preset="paper", num_inference_steps=2)
    assert paper.amodal_segmentation is not None
    assert paper.amodal_segmentation.guidance_scale == 1.5

    before = (out / "pieces.jsonl").read_text()
    assert command() == 0  # nothing is left to do
    assert (out / "pieces.jsonl").read_text() == before
    stages = [json.loads(line)["stage"] for line in before.splitlines()]
    assert stages == ["autoencoder", "autoencoder", *STAGES]

    assert command(f"--start={out / 'model'}", "--estimate", out="second") == 0
    printed = capfd.readouterr().out
    assert re.findall(r"^(.*): \d+\.\d\d hours$", printed, flags=re.MULTILINE) == [*STAGES, "in all"]
    assert "--optimizer.learning_rate=0.0005" in printed
    assert not (tmp_path / "second/estimate").exists()


def test_what_a_stage_starts_from(recipe: Path, tmp_path: Path) -> None:
    maker = Maker(MakeSettings(cutouts=tmp_path, out=tmp_path / "made", recipe=recipe, launch=Path("two.yaml")))
    words = maker.stage_command(STAGES[0], Path("out"), Path("vae"), "--max_minutes=2")
    assert words[1:4] == ["-m", "accelerate.commands.launch", "--config_file"]
    assert {"--model.vae=vae", "--max_minutes=2", "--batch_size=1", f"--data.composites.folder={tmp_path}"} < set(words)
    maker.start = Path("start")
    words = maker.stage_command(STAGES[1], Path("out"), Path("vae"))
    assert {"--model.base=start", "--optimizer.learning_rate=0.0005"} < set(words)
    assert not any(word.startswith("--model.vae") for word in words)
    assert maker.autoencoder_done()


@pytest.mark.slow
def test_a_stage_that_fails_ends_the_command(command: Callable[..., int], tmp_path: Path, capfd: Capture) -> None:
    (tmp_path / "cutouts/index.json").unlink()
    assert command() == 2
    errors = capfd.readouterr().err.splitlines()
    assert "index.json: no such file" in errors[-2]
    assert errors[-1].startswith("error: autoencoder: ended with status 2")


def test_loose_files_become_a_model(recipe: Path, tmp_path: Path) -> None:
    start = tmp_path / "start"
    start.mkdir()
    with pytest.raises(InputError, match=r"expected a model folder, or one with vae\.safetensors"):
        model_folder(start, {}, tmp_path / "none")
    vae = build_autoencoder(SharedAutoencoderSettings(channels=8, encoder_blocks=(0, 0, 1), decoder_blocks=(1, 0, 0)))
    _save_loose(vae, start / "vae.safetensors")
    maker = Maker(MakeSettings(cutouts=tmp_path, out=tmp_path / "made", recipe=recipe))
    with pytest.raises(InputError, match=r"expected mask_unet_\*\.safetensors, got none"):
        model_folder(start, maker.stages, tmp_path / "none")
    unet = build_unet(maker.stages[STAGES[0]].model.unet, seed=3)
    for name in ("mask_unet_a", "content_unet_a"):
        _save_loose(unet, start / f"{name}.safetensors")
    model = model_folder(start, maker.stages, tmp_path / "model")
    loaded = load_stage(model, stage="content_completion")
    expected = unet.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in loaded.unet.state_dict().items())
    assert loaded.settings.sampling == maker.stages["content_completion"].sampling
    assert model_folder(start, maker.stages, tmp_path / "model") == model
    assert model_folder(model, maker.stages, tmp_path / "other") == model


def _save_loose(network: torch.nn.Module, path: Path) -> None:
    unwanted = ("_", "block_out_channels") if isinstance(network, AutoencoderTiny) else ("_",)
    config = {name: value for name, value in network.config.items() if not name.startswith(unwanted)}
    tensors = {name: value.contiguous() for name, value in network.state_dict().items()}
    save_file(tensors, path, metadata={"config": json.dumps(config)})

"""A run small enough for a test: the stock classes at tiny widths on 4 frames of 16x32 pixels."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState, GradientState, PartialState

from amodal_diffusion.config import SamplingConfig
from amodal_diffusion.training.loop import TrainingResult
from amodal_diffusion.training.settings import (
    DataSettings,
    ImageEncoderSettings,
    ModelSettings,
    OptimizerSettings,
    TrainingSettings,
    UNetSettings,
    ValidationSettings,
)
from amodal_diffusion.training.setup import train
from tests.factories import tiny_vae

MakeSettings = Callable[..., TrainingSettings]


@pytest.fixture(scope="session", autouse=True)
def frozen_imports() -> None:
    """Every run ends with a search for garbage: it need not go through all that was imported."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def fresh_accelerate() -> Iterator[None]:
    """Accelerate keeps its settings for the whole process: each test starts without any."""
    yield
    reset_accelerate()


def reset_accelerate() -> None:
    for state in (AcceleratorState, GradientState, PartialState):
        state._reset_state()


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    with single_thread():
        yield


@contextmanager
def single_thread() -> Iterator[None]:
    """As many as the processes that tests start have: sums depend on their number to the bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def fit(settings: TrainingSettings) -> TrainingResult:
    """Train in this process as in a fresh one."""
    reset_accelerate()
    return train(settings)


@pytest.fixture(scope="session")
def vae_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vae")
    tiny_vae().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, vae_folder: Path) -> TrainingSettings:
    """A run of four steps that nothing disturbed, with every checkpoint; tests only read it."""
    settings = tiny_settings(
        vae_folder,
        output=tmp_path_factory.mktemp("finished") / "run",
        batch_size=1,
        gradient_accumulation_steps=2,
        checkpoint_every=1,
        keep_checkpoints=9,
    )
    with single_thread():
        assert fit(settings).finished
    reset_accelerate()
    return settings


@pytest.fixture
def make_settings(tmp_path: Path, vae_folder: Path) -> MakeSettings:
    def make(**changes: object) -> TrainingSettings:
        return tiny_settings(vae_folder, **{"output": tmp_path / "run", **changes})

    return make


def tiny_settings(vae_folder: Path, **changes: object) -> TrainingSettings:
    values: dict[str, object] = {
        "steps": 4,
        "batch_size": 2,
        "checkpoint_every": 100,
        "log_every": 1,
        "tracker": "none",
        "model": ModelSettings(
            unet=UNetSettings((32,), (0,), 1, 1, (1,), 16, 8),
            new_image_encoder=ImageEncoderSettings(32, 16, 16, 1, 2),
            vae=vae_folder,
            trainable="all",
        ),
        "data": DataSettings(clips=6, frames=4, height=16, width=32, guide_dropout=0.5),
        "optimizer": OptimizerSettings(learning_rate=1e-3, warmup_steps=2, schedule="cosine", ema_decay=0.9),
        "validation": ValidationSettings(every=0, clips=3, pictures=1),
        "sampling": SamplingConfig(num_inference_steps=2, guidance_scale=1.0, height=16, width=32, num_frames=4),
    }
    return TrainingSettings(**{**values, **changes})  # type: ignore[arg-type]

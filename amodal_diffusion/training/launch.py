"""A training run in processes of its own on one machine; several are started by `accelerate launch`."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import yaml

from amodal_diffusion.basics import InputError
from amodal_diffusion.parsing import load_settings
from amodal_diffusion.pipelines.methods import DIFFUSION
from amodal_diffusion.training.programs import program_of
from amodal_diffusion.training.settings import TrainingSettings

PROGRAM = "amodal_diffusion.training"


def launch(config: Path, values: Sequence[str], *, processes: int | None = None, dry_run: bool = False) -> int:
    """Train in processes of their own, and wait for them.

    Ctrl-C asks the processes to end after the current step, with a checkpoint, as SIGTERM does.

    Args:
        config: YAML file of the settings.
        values: ``KEY=VALUE``, in place of the file's.
        processes: one for each GPU when None, or else one.
        dry_run: print the settings and exit.

    Returns:
        exit status of the run: 0, 2 after a mistake, 130 after Ctrl-C.

    Raises:
        InputError: if there is no such file, a value is no ``KEY=VALUE``, or a setting is wrong.
    """
    if not config.is_file():
        raise InputError(f"config: {config}: no such file; `amodal-diffusion configs DIR` writes the shipped ones")
    wrong = next((value for value in values if "=" not in value or value.startswith("-")), None)
    if wrong is not None:
        raise InputError(f"--set: expected KEY=VALUE, such as steps=2000, got {wrong}")
    if any(value.startswith("config=") for value in values):
        raise InputError(f"--set: expected a setting, got config; give the file in place of {config}")
    _check_settings(config, values)
    arguments = ["--config", str(config), *(f"--{value}" for value in values), *(["--dry_run=true"] if dry_run else [])]
    count, gpus = (1, 0) if dry_run else _count(processes)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", PROGRAM, *arguments]
        if count > 1:
            file = Path(folder) / "accelerate.yaml"
            file.write_text(yaml.safe_dump(_accelerate_config(count, gpus)), encoding="utf-8")
            launcher = ["accelerate.commands.launch", "--config_file", str(file), "-m", PROGRAM]
            command = [sys.executable, "-m", *launcher, *arguments]
        return _wait(subprocess.Popen(command, start_new_session=True))  # so that Ctrl-C reaches this process alone


def _check_settings(config: Path, values: Sequence[str]) -> None:
    """Tell a mistake in the settings of a diffusion stage before torch is imported; other methods' need torch.

    Raises:
        InputError: if there is one.
    """
    if program_of(config) != DIFFUSION:
        return
    notices = logging.getLogger(load_settings.__module__)
    notices.disabled = True  # the run gives them
    try:
        load_settings(TrainingSettings, config, dict(value.split("=", 1) for value in values))
    except InputError as error:
        given = str(error)
        raise InputError(f"--set: {given.replace('--', '')}" if given.startswith("--") else given) from error
    finally:
        notices.disabled = False


def _count(processes: int | None) -> tuple[int, int]:
    """Number of processes, and of GPUs.

    Raises:
        InputError: if there are fewer GPUs than processes, but some.
    """
    import torch

    gpus = torch.cuda.device_count()
    if processes is not None and 0 < gpus < processes:
        raise InputError(f"--processes: expected at most {gpus}, one for each GPU, got {processes}")
    return int(processes or max(gpus, 1)), gpus


def _accelerate_config(processes: int, gpus: int) -> dict[str, object]:
    """Settings of `accelerate launch`; without GPUs the processes meet on the CPU."""
    return {
        "compute_environment": "LOCAL_MACHINE",
        "distributed_type": "MULTI_GPU",
        "use_cpu": gpus == 0,
        "num_machines": 1,
        "machine_rank": 0,
        "num_processes": processes,
        "main_process_port": 0,  # any free one, so that runs on one machine do not meet
        "mixed_precision": "no",  # the settings of the run decide
    }


def _wait(process: subprocess.Popen[bytes]) -> int:
    try:
        return process.wait()
    except KeyboardInterrupt:
        sys.stderr.write("\nends after this step, with a checkpoint; the same command goes on from there\n")
        if os.name == "posix":
            process.send_signal(signal.SIGTERM)
        else:
            process.terminate()
        process.wait()
        return 130

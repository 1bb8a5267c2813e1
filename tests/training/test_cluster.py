"""The Slurm script of docs/training.md starts what it says, and goes back into the queue when it should."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from accelerate.commands.launch import launch_command_parser

from amodal_diffusion.parsing import parse_settings
from amodal_diffusion.training.settings import TrainingSettings

ROOT = Path(__file__).resolve().parents[2]

SRUN = '#!/bin/sh\nfor node in 0 1; do SLURM_NODEID=$node "$@"; done\n'
SCONTROL = """#!/bin/sh
if [ "$1" = show ]; then printf 'head-node\\nother-node\\n'; else echo "$@" >> "$HERE/requeued"; fi
"""
ACCELERATE = f"""#!{sys.executable}
import json, os, sys
with open(os.environ["HERE"] + "/launches", "a") as file:
    file.write(json.dumps(sys.argv[1:]) + "\\n")
"""


@pytest.fixture
def script() -> str:
    (block,) = re.findall(r"^```sh\n(.*?)^```", (ROOT / "docs/training.md").read_text(), flags=re.DOTALL | re.MULTILINE)
    return block


def submit(script: str, folder: Path, last_line: str) -> list[list[str]]:
    """Run a batch script on two machines that are not there; what each would have launched."""
    for name, content in (("srun", SRUN), ("scontrol", SCONTROL), ("accelerate", ACCELERATE)):
        (folder / name).write_text(content)
        (folder / name).chmod(0o755)
    run = folder / "runs/sailvos_stage1_mask"
    run.mkdir(parents=True)
    (run / "log.jsonl").write_text(f'{{"step": 7, "loss": 1.0}}\n{last_line}\n')
    environment = {
        "PATH": f"{folder}:{os.environ['PATH']}",
        "HERE": str(folder),
        "SLURM_JOB_ID": "42",
        "SLURM_NNODES": "2",
        "SLURM_JOB_NODELIST": "node[0-1]",
    }
    subprocess.run(["bash", "-c", script], cwd=folder, env=environment, check=False, timeout=60)
    return [json.loads(line) for line in (folder / "launches").read_text().splitlines()]


def test_each_machine_starts_its_share_of_one_run(script: str, tmp_path: Path) -> None:
    launches = submit(script, tmp_path, '{"step": 8, "loss": 1.0}')
    assert len(launches) == 2
    for rank, (command, *arguments) in enumerate(launches):
        assert command == "launch"
        launch = launch_command_parser().parse_args(arguments)
        assert (launch.num_machines, launch.num_processes, launch.machine_rank) == (2, 8, rank)
        assert launch.main_process_ip == "head-node"
        assert (ROOT / launch.config_file).is_file()
        assert (ROOT / launch.training_script).is_file()
        words = [str(ROOT / word) if word.startswith("configs/") else word for word in launch.training_script_args]
        settings = parse_settings(TrainingSettings, words)
        assert settings.output == Path("runs/sailvos_stage1_mask")
        assert settings.batches_per_step(launch.num_processes) == 1
    assert not (tmp_path / "requeued").exists()


def test_a_run_that_was_asked_to_end_is_queued_again(script: str, tmp_path: Path) -> None:
    submit(script, tmp_path, json.dumps({"event": "terminated", "step": 8}))
    assert (tmp_path / "requeued").read_text() == "requeue 42\n"

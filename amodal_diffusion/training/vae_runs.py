"""What the runs of both autoencoders share: the learning rate over the steps, and states to go on from."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from accelerate import Accelerator


def cosine_schedule(step: int, steps: int) -> float:
    """Share of the peak learning rate at a step: up over the first 2 % of the steps, then down to 0 as a cosine."""
    warmup = max(1, steps // 50)
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1.0 + float(np.cos(np.pi * (step - warmup) / max(1, steps - warmup))))


def save_state(accelerator: Accelerator, out: Path, step: int) -> None:
    """Write the state beside the others and rename it; then the others go."""
    final = out / "checkpoints" / f"{step:08d}"
    partial = final.with_name(f"{final.name}.partial")
    accelerator.wait_for_everyone()
    accelerator.save_state(str(partial))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        partial.rename(final)
        for other in final.parent.iterdir():
            if other != final:
                shutil.rmtree(other)
    accelerator.wait_for_everyone()


def load_newest_state(accelerator: Accelerator, out: Path) -> int:
    """Load the run's newest state, if there is one; the first step to do."""
    folders = sorted(path for path in (out / "checkpoints").glob("*") if path.name.isdigit())
    if not folders:
        return 0
    accelerator.load_state(str(folders[-1]))
    return int(folders[-1].name)

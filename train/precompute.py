"""Run the frozen networks once, before training: `accelerate launch train/precompute.py --config FILE`.

It takes the settings of training; `--out DIR` names another folder, `--verify` checks what is there. The same command
goes on where it stopped.
"""

import sys

from amodal_diffusion.basics import InputError
from amodal_diffusion.parsing import dump_settings, parse_settings
from amodal_diffusion.training.distributed import make_accelerator
from amodal_diffusion.training.log import log_to_terminal, refuse
from amodal_diffusion.training.networks import build_components
from amodal_diffusion.training.precompute import PrecomputeSettings, Scenes, Tracks, fill, open_output, verify


def encode(settings: PrecomputeSettings) -> bool:
    """Encode, or check with `--verify`; False if the check found something missing or damaged."""
    # 1. The folder and the processes of this launch, which share the clips.
    storage = open_output(settings)
    accelerator = make_accelerator(settings.mixed_precision, cpu=settings.cpu)

    # 2. The frozen networks: VAE and image encoder.
    components = build_components(settings)
    components.vae.to(accelerator.device)
    components.image_encoder.to(accelerator.device)

    # 3. Of an annotation file's tracks, what is the same in every epoch; generated scenes whole.
    of_tracks = bool(settings.data.sources)
    ahead = Tracks(settings, storage, components) if of_tracks else Scenes(settings, storage, components)

    # 4. Encode what is missing. An entry's name is a digest of all that it follows from, so none is out of date.
    sound = True
    if settings.verify:
        sound = verify(ahead, storage, accelerator)
    else:
        fill(ahead, storage, accelerator, skip_bad=settings.on_bad_sample == "skip")

    # 5. End together.
    accelerator.wait_for_everyone()
    accelerator.end_training()
    return sound


def main() -> int:
    """Read the command line and return the exit status: 1 is a check that failed, 2 one line ``error: ...``."""
    log_to_terminal()
    try:
        settings = parse_settings(PrecomputeSettings, sys.argv[1:], description="Encode a run's clips once, before it.")
        if settings.dry_run:
            sys.stdout.write(dump_settings(settings))
            return 0
        return 0 if encode(settings) else 1
    except (InputError, OSError) as error:
        return refuse(error)


if __name__ == "__main__":
    sys.exit(main())

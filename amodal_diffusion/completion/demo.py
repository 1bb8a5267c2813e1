"""What `demo` does: complete a generated clip, and compare the result and the baselines with the ground truth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse.typing import NonNegativeInt

from amodal_diffusion.basics import InputError
from amodal_diffusion.completion.request import CompletionRequest, DepthChoice, ModelChoice, Output, Source
from amodal_diffusion.options import option

if TYPE_CHECKING:
    from amodal_diffusion.evaluation.benchmarks.base import MaskTarget
    from amodal_diffusion.types import AmodalResult

DEFAULT_SEED = 255  # a mushroom slides behind a fence: partly but never fully occluded
OBJECT = "1"


@dataclass(frozen=True)
class Demo:
    """Demo.

    Attributes:
        out: result folder
        seed: seed of the generated scene
        model: bundled model, folder, or Hugging Face Hub ID
        device: auto, cpu, cuda, cuda:1 or mps; auto prefers a GPU
        overwrite: replace earlier results of this program in DIR
        quiet: show no progress bars
    """

    out: Path = option(Path("out/demo"), metavar="DIR")
    seed: NonNegativeInt = option(DEFAULT_SEED, metavar="N")
    model: str = option("tiny", metavar="NAME")
    device: str = option("auto", metavar="NAME")
    overwrite: bool = option(False)
    quiet: bool = option(False, short="-q")


def run_demo(demo: Demo) -> str:
    """Generate a scene, write its frames, masks and depth to ``DIR-scene``, and complete it into ``DIR``.

    Args:
        demo: the options of the command.

    Returns:
        a table of IoU with the ground truth, and the paths of the files.

    Raises:
        InputError: if an option is wrong, the model cannot be loaded, or the result folder is not empty.
    """
    from amodal_diffusion.completion.clip import complete_clip
    from amodal_diffusion.completion.layout import SHEET
    from amodal_diffusion.evaluation.benchmarks.scenes import scene_track
    from amodal_diffusion.evaluation.track_files import read_completion, write_track

    if demo.out.is_dir() and any(demo.out.iterdir()) and not demo.overwrite:
        raise InputError(
            f"out: {demo.out}: not empty; choose another folder, or --overwrite to replace earlier results"
        )
    track = scene_track(demo.seed)
    scene = demo.out.with_name(f"{demo.out.name}-scene")
    files = write_track(track, scene, overwrite=demo.overwrite)
    request = CompletionRequest(
        source=Source(clip=files.frames, masks=files.masks),
        output=Output(out=demo.out, overwrite=demo.overwrite, quiet=demo.quiet),
        model=ModelChoice(model=demo.model, device=demo.device),
        depth=DepthChoice(depth=str(files.depth)),
    )
    out = complete_clip(request, extras={SHEET: lambda folder: _write_sheet(track, folder)})
    table = _compare(track, read_completion(out, object_name=OBJECT), demo.model)
    return f"{table}\n\npictures: {out / SHEET}\nresults:  {out}\nscene:    {scene}"


def _write_sheet(track: MaskTarget, folder: Path) -> None:
    """Write the contact sheet into a result folder."""
    from PIL import Image

    from amodal_diffusion.completion.layout import SHEET
    from amodal_diffusion.evaluation.track_files import read_completion
    from amodal_diffusion.frames.drawing import draw_completion

    result = read_completion(folder, object_name=OBJECT)
    Image.fromarray(draw_completion(track.clip, track.amodal_mask, result)).save(folder / SHEET)


def _compare(track: MaskTarget, result: AmodalResult, model: str) -> str:
    """A table of IoU with the ground truth, whole and hidden part, of the baselines and the model."""
    from amodal_diffusion.evaluation.methods import BASELINES, build_methods
    from amodal_diffusion.metrics import score_track

    predictions = {method.name: method.predict(track) for method in build_methods(BASELINES)}
    predictions[model] = result.amodal_mask
    width = max(map(len, predictions))
    lines = [f"{'IoU with the truth':{width}}  whole  hidden part"]
    for name, mask in predictions.items():
        scores = score_track(mask, track.clip.modal_mask, track.amodal_mask)
        lines.append(f"{name:{width}}  {scores.miou:5.3f}  {scores.miou_occ:5.3f}")
    return "\n".join(lines)

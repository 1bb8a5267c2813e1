"""`amodal-diffusion demo`: make a scene of the test split, complete it, and show how close that came to the truth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse.typing import NonNegativeInt

if TYPE_CHECKING:
    from jsonargparse import Namespace

    from amodal_diffusion.config import CommandParser
    from amodal_diffusion.evaluation.benchmarks.base import MaskTarget
    from amodal_diffusion.types import AmodalResult

SUMMARY = "complete a partly hidden object in a generated clip and compare it with the truth"
SHEET = "contact_sheet.png"
DEFAULT_SEED = 255  # a mushroom that slides behind a fence: partly hidden in every frame, never wholly
OBJECT = "1"


def add_arguments(parser: CommandParser) -> None:
    """Declare the command's options.

    Args:
        parser: of this subcommand.
    """
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path("out/demo"), help="folder of the results")
    parser.add_argument("--seed", metavar="N", type=NonNegativeInt, default=DEFAULT_SEED, help="which scene to make")
    parser.add_argument("--model", metavar="NAME", default="tiny", help="a bundled name, a folder, or a hub id")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")
    parser.add_argument("--overwrite", action="store_true", help="replace earlier results of this program in DIR")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress bars")


def run(args: Namespace) -> None:
    """Do the work.

    The scene's frames, masks and depth lie in ``DIR-scene`` beside the results, as an example of input.

    Args:
        args: what :func:`add_arguments` declares.

    Raises:
        InputError: if an option is wrong, the model cannot be loaded, or something is in the way.
    """
    from amodal_diffusion.completion.clip import complete_clip
    from amodal_diffusion.completion.request import CompletionRequest
    from amodal_diffusion.evaluation.benchmarks.scenes import scene_track
    from amodal_diffusion.evaluation.track_files import read_completion, write_track
    from amodal_diffusion.types import InputError

    if args.out.is_dir() and any(args.out.iterdir()) and not args.overwrite:
        raise InputError(
            f"out: {args.out}: not empty; choose another folder, or --overwrite to replace earlier results"
        )
    track = scene_track(args.seed)
    scene = args.out.with_name(f"{args.out.name}-scene")
    files = write_track(track, scene, overwrite=args.overwrite)
    request = CompletionRequest(
        clip=files.frames,
        masks=files.masks,
        out=args.out,
        depth=str(files.depth),
        model=args.model,
        device=args.device,
        overwrite=args.overwrite,
        quiet=args.quiet,
    )
    out = complete_clip(request, extras={SHEET: lambda folder: _write_sheet(track, folder)})
    print(_compare(track, read_completion(out, object_name=OBJECT), args.model))
    print(f"\npictures: {out / SHEET}\nresults:  {out}\nscene:    {scene}")


def _write_sheet(track: MaskTarget, folder: Path) -> None:
    """Write the contact sheet into a folder of results."""
    from PIL import Image

    from amodal_diffusion.evaluation.track_files import read_completion
    from amodal_diffusion.frames.drawing import draw_completion

    result = read_completion(folder, object_name=OBJECT)
    Image.fromarray(draw_completion(track.clip, track.amodal_mask, result)).save(folder / SHEET)


def _compare(track: MaskTarget, result: AmodalResult, model: str) -> str:
    """Lay out the IoU with the truth of the model and the baselines, of the whole object and of its hidden part."""
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

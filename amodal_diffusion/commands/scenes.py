"""`amodal-diffusion scenes`: write procedural clips with complete ground truth in the SAIL-VOS sequence layout."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import Namespace
from jsonargparse.typing import NonNegativeInt, PositiveInt

from amodal_diffusion.completion.request import package_version
from amodal_diffusion.config import CommandParser

if TYPE_CHECKING:
    from amodal_diffusion.io.result_folder import OutputFolder
    from amodal_diffusion.synthetic.splits import SceneSeries

SUMMARY = "write procedural clips with complete ground truth"
ANNOTATIONS = "annotations.json"
STEPS = 16
"""Into how many steps the painting is cut; each writes the manifest of all files anew."""


def add_arguments(parser: CommandParser) -> None:
    """Declare the command line.

    Args:
        parser: of this subcommand.
    """
    parser.add_argument("out", metavar="OUT", type=Path, help="folder of the clips and annotations.json, new or empty")
    parser.add_argument("--count", metavar="N", type=PositiveInt, required=True, help="how many clips")
    parser.add_argument(
        "--split", choices=["train", "validation", "test-v1"], default="train", help="which families of shapes"
    )
    parser.add_argument("--seed", type=NonNegativeInt, default=0, help="which series of clips")
    parser.add_argument(
        "--frames", type=PositiveInt | None, default=None, help="of a clip (default: 25, of test-v1 16)"
    )
    parser.add_argument("--height", type=PositiveInt, default=64, help="pixels")
    parser.add_argument("--width", type=PositiveInt, default=128, help="pixels")
    parser.add_argument(
        "--masks", action="store_true", help="write masks as pictures too, as `amodal-diffusion prepare` reads them"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace earlier results of this program in OUT")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress bars")


def run(args: Namespace) -> None:
    """Write the clips; a run that is broken off goes on when it is started again.

    Args:
        args: as parsed.

    Raises:
        InputError: if an option is wrong or OUT is not empty.
    """
    from amodal_diffusion.io.result_folder import OutputFolder
    from amodal_diffusion.synthetic import splits
    from amodal_diffusion.synthetic.splits import SceneSeries

    frames = args.frames or (splits.FRAMES if args.split == "test-v1" else 25)
    series = SceneSeries(
        args.split, length=args.count, frames=frames, height=args.height, width=args.width, seed=args.seed
    )
    settings = {"command": "scenes", **vars(series), "masks": args.masks, "version": package_version()}
    folder = OutputFolder(args.out, inputs={}, settings=settings, overwrite=args.overwrite)
    with folder.opened():
        if not folder.is_finished(ANNOTATIONS):
            with folder.step(ANNOTATIONS, [ANNOTATIONS]) as work:
                _annotate(series, work / ANNOTATIONS, quiet=args.quiet)
        objects = _objects_by_scene(folder.work / ANNOTATIONS)
        _paint(series, objects, folder, masks=args.masks, quiet=args.quiet)
        folder.commit()
    print(f"{args.out}: {series.length} clips; {ANNOTATIONS} lists {sum(map(len, objects.values()))} tracks")


def _annotate(series: SceneSeries, path: Path, *, quiet: bool) -> None:
    from tqdm import tqdm

    from amodal_diffusion.data.records import write_records
    from amodal_diffusion.data.scene_export import scene_records

    numbers = tqdm(range(series.length), desc="masks", unit="clip", disable=quiet)
    scenes = ((number, series.scene(number, with_rgb=False)) for number in numbers)
    write_records(path, (record for number, scene in scenes for record in scene_records(scene, number=number)))


def _objects_by_scene(path: Path) -> dict[str, list[int]]:
    """Scene name -> ids of its visible objects, in the order of the file."""
    from amodal_diffusion.data.records import read_records

    objects: dict[str, list[int]] = {}
    for record in read_records(path):
        objects.setdefault(record.image_file_names[0].split("/")[0], []).append(record.obj_id)
    return objects


def _paint(
    series: SceneSeries, objects: dict[str, list[int]], folder: OutputFolder, *, masks: bool, quiet: bool
) -> None:
    from tqdm import tqdm

    from amodal_diffusion.data.scene_export import scene_files, write_scene

    names, ids = list(objects), list(objects.values())
    size = -(-series.length // STEPS)
    with tqdm(total=series.length, desc="frames", unit="clip", disable=quiet) as bar:
        for start in range(0, series.length, size):
            part = range(start, min(start + size, series.length))
            step = f"clips from {start}"
            if folder.is_finished(step):
                bar.update(len(part))
                continue
            files = [
                path
                for index in part
                for path in scene_files(names[index], frames=series.frames, object_ids=ids[index], masks=masks)
            ]
            with folder.step(step, files) as work:
                for index in part:
                    write_scene(series.scene(index, with_rgb=True), work, object_ids=ids[index], masks=masks)
                    bar.update()

"""`amodal-diffusion score`: score prediction files of this or another program against annotations."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import Namespace

from amodal_diffusion.completion.request import package_version
from amodal_diffusion.config import CommandParser

if TYPE_CHECKING:
    from amodal_diffusion.evaluation.exports import Format

SUMMARY = "score prediction files of this or another program"
RESULTS, TRACKS = "summary.json", "tracks.jsonl"


def add_arguments(parser: CommandParser) -> None:
    """Declare the command line.

    Args:
        parser: of this subcommand.
    """
    parser.add_argument(
        "predictions",
        metavar="PREDICTIONS",
        nargs="+",
        type=Path,
        help='JSON: masks or boxes by "(image_id, obj_id)" as published, or a result list of COCO or YouTube-VIS; '
        "several files are samples of one method",
    )
    parser.add_argument(
        "--annotations", type=Path, required=True, help="JSON list of tracks, of SAIL-VOS's layout or of TAO-Amodal's"
    )
    parser.add_argument("--out", type=Path, required=True, help=f"folder for {RESULTS}, {TRACKS} and exports")
    parser.add_argument(
        "--export", metavar="FORMAT,...", type=str, default="",
        help="write the first file's masks as well, modal masks added: coco, youtube-vis, davis",
    )  # fmt: skip
    parser.add_argument(
        "--track-ids", metavar="JSON", type=Path | None, default=None,
        help="TAO-Amodal: first track of each video, where predictions number the tracks of a video from 1",
    )  # fmt: skip
    parser.add_argument(
        "--skip-missing", action="store_true", help="leave out tracks without a prediction, and say which"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace earlier results of this program in OUT")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress bar")


def run(args: Namespace) -> None:
    """Score, write and print.

    Args:
        args: as parsed.

    Raises:
        InputError: if a file is not as described, a prediction is missing, or OUT is not empty.
    """
    from amodal_diffusion.evaluation.exports import exported_files, read_formats
    from amodal_diffusion.evaluation.rescoring import stream_records
    from amodal_diffusion.evaluation.results import json_text
    from amodal_diffusion.io.result_folder import InputRecord, OutputFolder
    from amodal_diffusion.types import InputError

    for path in (args.annotations, *args.predictions):
        if not path.is_file():
            raise InputError(f"{path}: no such file")
    formats = read_formats(args.export)
    inputs = {f"predictions_{number}": path for number, path in enumerate(args.predictions)}
    folder = OutputFolder(
        args.out,
        inputs={name: InputRecord.of(path) for name, path in {"annotations": args.annotations, **inputs}.items()},
        settings={"command": "score", "export": formats, "version": package_version()},
        overwrite=args.overwrite,
    )
    with folder.opened():
        exported = exported_files(formats, lambda: stream_records(args.annotations))
        with folder.step("scores", [RESULTS, TRACKS, *exported]) as work:
            summary = _score(args, work, formats)
            (work / RESULTS).write_text(json_text({"version": package_version(), **summary}), encoding="utf-8")
        folder.commit()
    _print(summary)
    print(f"\n{args.out / RESULTS}")


def _score(args: Namespace, work: Path, formats: list[Format]) -> dict[str, object]:
    """Score what the files are: a result list, boxes, or masks."""
    from amodal_diffusion.data.index import stream_entries
    from amodal_diffusion.evaluation.rescoring import TrueInstances, kind_of_results, score_instances, stream_records
    from amodal_diffusion.types import InputError

    first = next(stream_entries(args.annotations), None)
    boxes = isinstance(first, Mapping) and "amodal_bboxes" in first
    kind = None if boxes else kind_of_results(args.predictions[0])
    if (boxes or kind) and (formats or len(args.predictions) > 1):
        raise InputError("predictions, export: boxes and result lists are scored one file at a time and not exported")
    if boxes:
        return _score_boxes(args, work)
    if kind is None:
        return _score_masks(args, work, formats)
    return score_instances(args.predictions[0], kind, TrueInstances.of(stream_records(args.annotations)))


def _score_masks(args: Namespace, work: Path, formats: list[Format]) -> dict[str, object]:
    from amodal_diffusion.evaluation.exports import open_export
    from amodal_diffusion.evaluation.prediction_files import PredictionFile
    from amodal_diffusion.evaluation.rescoring import MaskRescoring, stream_records

    with ExitStack() as stack:
        files = [stack.enter_context(PredictionFile(path)) for path in args.predictions]
        exports = [stack.enter_context(closing(open_export(name, work))) for name in formats]
        rescoring = MaskRescoring(files, exports=exports, skip_missing=args.skip_missing)
        _write_tracks(rescoring.tracks(stream_records(args.annotations)), args, work)
        return rescoring.record()


def _score_boxes(args: Namespace, work: Path) -> dict[str, object]:
    from amodal_diffusion.data.tao_amodal import read_first_tracks, stream_tao_records
    from amodal_diffusion.evaluation.prediction_files import PredictionFile
    from amodal_diffusion.evaluation.rescoring import BoxRescoring

    first_tracks = {} if args.track_ids is None else read_first_tracks(args.track_ids)
    with PredictionFile(args.predictions[0]) as file:
        rescoring = BoxRescoring(file, first_tracks, skip_missing=args.skip_missing)
        _write_tracks(rescoring.tracks(stream_tao_records(args.annotations)), args, work)
        return rescoring.record()


def _write_tracks(tracks: Iterable[dict[str, object]], args: Namespace, work: Path) -> None:
    """Write the scores of each track on a line as it comes."""
    from tqdm import tqdm

    from amodal_diffusion.evaluation.results import json_text

    with (work / TRACKS).open("w", encoding="utf-8") as file:
        for track in tqdm(tracks, desc="tracks", unit="track", disable=args.quiet):
            file.write(json_text(track, indent=None))


def _print(summary: dict[str, Any]) -> None:
    """Say the main figures."""
    from amodal_diffusion.metrics import THRESHOLDS

    for key in ("strict", "released"):
        if key in summary:
            scores = summary[key]
            print(
                f"{key:9} mIoU {_figure(scores['miou'])} over {scores['frames']} frames, "
                f"mIoU_occ {_figure(scores['miou_occ'])} over {scores['occluded_frames']}"
            )
    if "boxes" in summary:
        boxes = summary["boxes"]
        above = ", ".join(f"{threshold:g} {_figure(boxes[f'above_{threshold:g}'])}" for threshold in THRESHOLDS)
        print(f"boxes     IoU {_figure(boxes['miou'])}; share of frames above {above}")
    for key, name in (("ap", "AP"), ("video_ap", "vAP")):
        if key in summary:
            scores = summary[key]
            print(
                f"{name} {_figure(scores['ap'])}, {name}50 {_figure(scores['ap50'])}, "
                f"{name}75 {_figure(scores['ap75'])}, AR {_figure(scores['ar100'])}; {scores['instances']} true "
                f"instances, {scores['left_out']} more are hidden too much to count"
            )
    skipped = summary.get("tracks", {}).get("skipped", {})
    if skipped:
        print(f"{len(skipped)} track(s) without a prediction were left out; {RESULTS} names them")


def _figure(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4f}"

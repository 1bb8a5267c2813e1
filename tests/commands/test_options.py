"""The options of `complete`: groups of the help, YAML, names of version 0.1; checked on what they ask for, not run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from amodal_diffusion.cli import main
from amodal_diffusion.commands import complete
from amodal_diffusion.completion.request import RENAMED, CompletionRequest, Source
from amodal_diffusion.options import subcommand_parser

MOST = 28  # options that `--help` shows, the clip among them
VALUES: dict[str, Any] = {
    "masks": "masks",
    "object": "cup",
    "amodal_masks": "amodal",
    "from_scores": "scored",
    "allow_truncated": True,
    "mask_type": "labels",
    "bit_depth": 12,
    "cuts": [24, 80],
    "point": ["1,2@0", "2:3,4@1"],
    "negative_point": ["5,6@0"],
    "box": ["1,2,3,4@0"],
    "text": ["person", "red car"],
    "segmenter": "facebook/sam2.1-hiera-tiny",
    "dry_run": True,
    "out": "elsewhere",
    "stages": "masks",
    "formats": ["webm", "coco"],
    "layer_frames": [1, 5],
    "over_color": "seagreen",
    "margin": 0.25,
    "alpha": "premultiplied",
    "soft_edge": 2,
    "audio": True,
    "overwrite": True,
    "quiet": True,
    "model": "mine",
    "content_model": "other",
    "method": "sameo",
    "vae": "light",
    "device": "cuda:1",
    "dtype": "bfloat16",
    "attention": "xformers",
    "offload": "model",
    "compile": True,
    "cuda_graphs": True,
    "channels_last": True,
    "yes": True,
    "depth": "depth.npy",
    "depth_inverse": True,
    "depth_model": "net",
    "preset": "fast",
    "steps": 3,
    "guidance": 2.5,
    "seed": 7,
    "samples": 5,
    "skip_unoccluded": False,
    "scheduler": "heun",
    "height": 64,
    "width": 96,
    "fit": "crop",
    "resample": "cv2",
    "conditioning": "released",
    "mask_threshold": 0.25,
    "mask_filters": ["depth", "area"],
    "mask_propagation": True,
    "color_propagation": False,
    "seam_blending": True,
    "tta": 2,
    "shrink_mask": 3,
    "object_batch": 3,
    "decode_chunk_size": 5,
    "encode_chunk_size": 6,
}
"""A value of each option that is not its default."""
COMMAS = ("cuts", "formats", "layer_frames", "mask_filters")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[CompletionRequest]:
    """Requests that reach the work, which is not done."""
    requests: list[CompletionRequest] = []

    def note(request: CompletionRequest) -> Path:
        requests.append(request)
        return request.output.out

    monkeypatch.setattr(Source, "check_paths", lambda _: None)
    monkeypatch.setattr("amodal_diffusion.completion.clip.complete_clip", note)
    monkeypatch.setattr("amodal_diffusion.completion.memory.memory_report", note)
    monkeypatch.setattr("amodal_diffusion.completion.report.describe_result", lambda out, **_: out)
    return requests


def ask(*arguments: str) -> None:
    assert main(["complete", "clip.mp4", "--out", "out", *arguments]) == 0


def as_flags(name: str, value: Any) -> list[str]:
    flag = "--" + name.replace("_", "-")
    if value is True:
        return [flag]
    if value is False:
        return [flag.replace("--", "--no-", 1)]
    if name in COMMAS:
        return [flag, ",".join(map(str, value))]
    return [flag, *map(str, value if isinstance(value, list) else [value])]


def in_file(folder: Path, values: dict[str, Any]) -> list[str]:
    path = folder / "options.yaml"
    path.write_text(yaml.safe_dump(values))
    return ["--config", str(path)]


def helped(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, set[str]]:
    """Options of a help by title of their group."""
    with pytest.raises(SystemExit) as stop:
        main(["complete", *arguments])
    assert stop.value.code == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert not re.search(r"<class|<function|default: null|NoneType", printed.out)
    groups: dict[str, set[str]] = {}
    for line in printed.out.splitlines()[1:]:
        if line.endswith(":") and not line.startswith(" "):
            groups[title := line.removesuffix(":")] = set()
        elif groups and (found := re.match(r"  (?:-\w(?: [A-Z]+)?, )?(--[\w-]+|CLIP)", line)):
            groups[title].add(found[1])
    return groups


def test_two_lists_under_the_same_groups(capsys: pytest.CaptureFixture[str]) -> None:
    short, full = helped(capsys, "--help"), helped(capsys, "--help-all")
    every = {option for group in full.values() for option in group}
    assert sum(map(len, short.values())) <= MOST < len(every)
    assert list(short) == list(full)
    assert {"Input", "Output", "Model", "Depth", "Sampling"} <= short.keys()
    assert all(short[title] <= full[title] for title in full)
    ours = {"--" + name.replace("_", "-") for name in VALUES}
    assert every == ours | {"CLIP", "--help", "--help-all", "--config"}
    assert not every & RENAMED.keys()


def test_every_option_has_a_value_here() -> None:
    parser = subcommand_parser("")
    complete.add_arguments(parser)
    known = {action.dest for action in parser._actions} - {"help", "help_all", "config", "clip"}
    assert known == VALUES.keys()
    assert parser.advanced <= known


@pytest.mark.parametrize("name", VALUES)
def test_on_the_command_line_and_in_a_file(tmp_path: Path, asked: list[CompletionRequest], name: str) -> None:
    value = VALUES[name]
    ask()
    ask(*as_flags(name, value))
    plain, flagged = asked
    assert flagged != plain
    filed_arguments = in_file(tmp_path, {name: value})
    if name == "out":  # a flag would beat the file
        assert main(["complete", "clip.mp4", *filed_arguments]) == 0
    else:
        ask(*filed_arguments)
    assert asked[2] == flagged


def test_a_file_of_all_options(tmp_path: Path, asked: list[CompletionRequest]) -> None:
    assert main(["complete", *in_file(tmp_path, {"clip": "clip.mp4", **VALUES})]) == 0
    assert main(["complete", "clip.mp4", *(text for entry in VALUES.items() for text in as_flags(*entry))]) == 0
    assert asked[0] == asked[1]


@pytest.mark.parametrize(
    ("name", "filed", "flags"),
    [("steps", 9, ["--steps", "3"]), ("mask_filters", ["area"], ["--mask-filters", "none"]),
     ("skip_unoccluded", True, ["--no-skip-unoccluded"]), ("formats", ["coco"], ["--formats=png"]),
     ("object_batch", 2, ["--objects-at-once", "4"]), ("point", ["1,2@0"], ["--point", "3,4@0", "--point", "5,6@0"])],
)  # fmt: skip
def test_flags_beat_the_file_in_any_order(
    tmp_path: Path, asked: list[CompletionRequest], name: str, filed: Any, flags: list[str]
) -> None:
    file = in_file(tmp_path, {name: filed})
    ask(*flags)
    ask(*file, *flags)
    ask(*flags, *file)
    assert asked[0] == asked[1] == asked[2]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (["--expand", "0.5"], ["--margin", "0.5"]),
        (["--spans", "auto"], ["--skip-unoccluded"]),
        (["--spans=all"], ["--no-skip-unoccluded"]),
        (["--guards", "behind,attached"], ["--mask-filters", "depth,components"]),
        (["--guards=growth"], ["--mask-filters=area"]),
        (["--guards", "all"], ["--mask-filters", "all"]),
        (["--guards", "none"], ["--mask-filters", "none"]),
        (["--copies", "on"], ["--color-propagation"]),
        (["--copies", "off"], ["--no-color-propagation"]),
        (["--solver", "dpmpp"], ["--scheduler", "dpmpp"]),
        (["--objects-at-once", "3"], ["--object-batch", "3"]),
    ],
)
def test_options_of_version_0_1(asked: list[CompletionRequest], old: list[str], new: list[str]) -> None:
    ask()
    ask(*old)
    ask(*new)
    assert asked[0] != asked[1] == asked[2]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--spans", "some"], "error: --spans: expected one of auto, all, got some\n"),
        (["--copies"], "error: --copies: expected one of on, off, got nothing\n"),
        (["--steps", "0"], "error: --steps: expected a whole number, at least 1, got '0'\n"),
        (["--mask-filters", ","],
         "error: --mask-filters: expected all, none or some of depth, components, area, got nothing\n"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_one_line(arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        ask(*arguments)
    assert stop.value.code == 2
    assert capsys.readouterr().err == line


@pytest.mark.parametrize(("option", "value"), [("formats", ["mov"]), ("steps", 0), ("stepps", 3)])
def test_a_mistake_in_a_file_is_one_line(
    tmp_path: Path, option: str, value: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        ask(*in_file(tmp_path, {option: value}))
    error = capsys.readouterr().err
    assert (stop.value.code, error.count("\n")) == (2, 1)
    assert error.startswith("error: ")
    assert option in error
    assert "<class" not in error

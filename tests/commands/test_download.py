"""`--model diffusion-vas` and `download`, from a small hub of our own: consent, resuming, revisions, no network."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub.constants as hub_constants
import pytest
from huggingface_hub import file_download

from amodal_diffusion import AmodalCompleter
from amodal_diffusion.app.completer import PageCompleter
from amodal_diffusion.basics import STAGES, InputError
from amodal_diffusion.cli import main
from amodal_diffusion.completion.request import ModelChoice
from amodal_diffusion.evaluation.methods import ModelOptions, build_methods
from amodal_diffusion.models.checkpoint import read_settings
from amodal_diffusion.models.hub import DEPTH_MODELS, RELEASED, load_stage
from amodal_diffusion.pipelines.methods import StageNames
from tests.factories import tiny_depth_folder, tiny_released_folder
from tests.media import moving_disc, write_frames, write_masks
from tests.methods import WRITE
from tests.small_hub import Repository, SmallHub

Files = dict[str, bytes]
FIRST, SECOND = RELEASED["diffusion-vas"].stages.values()
SMALL, LARGE = (DEPTH_MODELS[name].repository for name in ("small", "large"))
UNET = "unet/diffusion_pytorch_model.fp16.safetensors"
RGB, MASK = moving_disc(3, 24, 40)
ONE_STEP = ("--steps", "1", "--guidance", "1", "--height", "16", "--width", "32", "--device", "cpu", "-q")


def files_of(folder: Path) -> Files:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Files]:
    """Files of both checkpoints in the released layout, and of a depth network, by repository."""
    root = tmp_path_factory.mktemp("released")
    extra = {
        "README.md": b"# model",
        "code.py": b"raise SystemExit",
        "unet/weights.bin": b"\x80\x04",
        "optimizer/state.bin": b"",
    }
    stages = {
        name: files_of(tiny_released_folder(root / stage, stage)) | extra
        for stage, name in zip(STAGES, (FIRST, SECOND), strict=True)
    }
    depth = files_of(tiny_depth_folder(root / "depth"))
    return {**stages, SMALL: depth, LARGE: depth}


@pytest.fixture
def hub(released: dict[str, Files], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallHub]:
    """A hub with these repositories, and an empty cache."""
    small = SmallHub()
    for name, files in released.items():
        small.repositories[name] = Repository("apache-2.0" if name == SMALL else None)
        small.repositories[name].commit(files)
    with small.serving():
        monkeypatch.setattr(hub_constants, "ENDPOINT", small.endpoint)
        template = small.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(hub_constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(hub_constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(hub_constants, "HF_HUB_OFFLINE", False)
        monkeypatch.chdir(tmp_path)
        yield small


@pytest.fixture
def clip(tmp_path: Path) -> list[str]:
    """Arguments of `complete` for a clip of three frames."""
    write_masks(tmp_path / "masks", MASK)
    return [str(write_frames(tmp_path / "frames", RGB)), "--masks", str(tmp_path / "masks"), *ONE_STEP]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """The one line of a command's error."""
    capsys.readouterr()
    assert main([str(word) for word in arguments]) == 2
    errors = re.findall(r"error: .*", capsys.readouterr().err)
    assert len(errors) == 1
    return errors[0]


def complete(clip: list[str], out: Path, *options: str | Path) -> dict[str, Any]:
    assert main(["complete", *clip, "--out", str(out), *map(str, options)]) == 0
    summary: dict[str, Any] = json.loads((out / "summary.json").read_text())
    return summary


def test_one_name_gets_both_checkpoints_and_the_depth_network(
    hub: SmallHub, clip: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = complete(clip, tmp_path / "out", "--model", "diffusion-vas", "--yes")
    heads = {name: repository.find("main") for name, repository in hub.repositories.items()}
    assert summary["downloaded"] == {
        "amodal_segmentation": {"repository": FIRST, "commit": heads[FIRST]},
        "content_completion": {"repository": SECOND, "commit": heads[SECOND]},
        "depth_model": {"repository": SMALL, "commit": heads[SMALL]},
    }
    assert (summary["depth"], summary["sampling"]["amodal_segmentation"]["fit"]) == ("estimated", "stretch")
    said = capsys.readouterr().err.splitlines()
    told = {line.split()[1].rstrip(","): line for line in said if line.startswith("download: ")}
    assert heads[FIRST][:12] in told[FIRST]  # type: ignore[index]
    assert "license: none on its page; derived from Stable Video Diffusion" in told[FIRST]
    assert "license: apache-2.0" in told[SMALL]
    fp16 = [path for path in hub.repositories[FIRST].commits[str(heads[FIRST])] if path.endswith(".fp16.safetensors")]
    assert len(fp16) == 3
    weights = [path for path in hub.downloads() if path.endswith(".safetensors")]
    assert sorted(weights) == sorted([*fp16, *fp16, "model.safetensors"])
    assert not [path for path in hub.downloads() if not path.endswith((".json", ".safetensors"))]
    assert sum("sampled as in the paper" in line for line in said) == 1

    hub.asked.clear()
    complete(clip, tmp_path / "again", "--model", "diffusion-vas")  # neither asks nor downloads
    assert not hub.downloads()
    assert "download: " not in capsys.readouterr().err


@pytest.mark.parametrize("answer", ["n\n", "what\nno\n", ""], ids=["n", "no", "end of input"])
def test_a_no_downloads_nothing(
    answer: str, hub: SmallHub, clip: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    error = refused(capsys, "complete", *clip, "--out", "out", "--model", "diffusion-vas")
    assert error == "error: download: refused, nothing was downloaded; the same command asks again"
    assert not hub.downloads()


def test_a_yes_downloads(
    hub: SmallHub, clip: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal("y\n"))
    complete(clip, tmp_path / "out", "--model", "diffusion-vas")
    assert capsys.readouterr().err.count("download these files? [y/n] ") == 1
    assert hub.downloads()


@pytest.mark.parametrize(
    "command",
    [
        ["complete", "--model", "diffusion-vas"],
        ["complete", "--model", f"{FIRST}@main", "--stages", "masks"],
        ["batch", "--model", "diffusion-vas"],
        ["app", "--model", "diffusion-vas"],
        ["evaluate", "--methods", "modal,diffusion-vas@depth", "--limit", "1"],
        ["download", "diffusion-vas"],
        ["complete", "--depth-model", "small"],
    ],
    ids=lambda command: " ".join(command[:3]),
)
def test_without_a_terminal_and_a_yes_nothing_is_downloaded(
    command: list[str], hub: SmallHub, clip: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "list.jsonl").write_text(json.dumps({"clip": clip[0], "masks": clip[2]}) + "\n")
    name, *options = command
    first = {"complete": clip, "batch": [str(tmp_path / "list.jsonl"), *clip[3:]]}.get(name, [])
    if name == "batch":
        first = ["--input", *first]
    out = [] if name == "app" else ["--out", str(tmp_path / "out")]
    error = refused(capsys, name, *first, *options, *out)
    assert "download: expected a yes, and there is no terminal to ask on; add --yes (yes=True in Python)" in error
    assert not hub.downloads()
    assert not (tmp_path / "out").exists() or name == "batch"


def test_python_the_page_batch_and_evaluate_take_the_name(hub: SmallHub, clip: list[str], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a yes"):
        AmodalCompleter.from_pretrained("diffusion-vas", device="cpu")
    hub.repositories[FIRST].revisions["v1"] = hub.repositories[SECOND].revisions["v1"] = "missing"
    with pytest.raises(InputError, match=f"model diffusion-vas@v2: the hub gives no revision {FIRST}@v2; check"):
        AmodalCompleter.from_pretrained("diffusion-vas@v2", device="cpu")
    for name in (FIRST, SECOND):
        hub.repositories[name].revisions["v1"] = str(hub.repositories[name].find("main"))
    completer = AmodalCompleter.from_pretrained("diffusion-vas@v1", device="cpu", yes=True)
    assert completer.default_depth_model == SMALL
    assert completer.config() == completer.config(preset="paper")

    page = PageCompleter(ModelChoice(model="diffusion-vas@v1", device="cpu", yes=True))
    assert page.description == "diffusion-vas@v1 on cpu"
    (tmp_path / "list.jsonl").write_text(json.dumps({"clip": clip[0], "masks": clip[2], "name": "one"}) + "\n")
    listed = ["--input", str(tmp_path / "list.jsonl"), "--out", str(tmp_path / "batch"), *ONE_STEP]
    assert main(["batch", *listed, "--model", "diffusion-vas@v1"]) == 0
    assert json.loads((tmp_path / "batch/one/summary.json").read_text())["depth"] == "estimated"

    hub.asked.clear()
    methods = build_methods(["diffusion-vas", "diffusion-vas@v1@depth"], ModelOptions(device="cpu"))
    assert [(method.name, method.uses_depth) for method in methods] == [
        ("diffusion-vas", False),
        ("diffusion-vas@v1@depth", True),
    ]
    described: Any = methods[1].describe(paints=True)
    assert described["content_completion"]["downloaded"]["repository"] == SECOND
    assert not hub.downloads()


def test_a_folder_for_machines_without_internet(
    hub: SmallHub,
    clip: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "model"
    assert main(["download", "diffusion-vas", "--out", str(folder), "--yes", "-q"]) == 0
    assert capsys.readouterr().out == f"{folder}\n"
    for stage, name in RELEASED["diffusion-vas"].stages.items():
        settings = read_settings(folder / stage)
        assert (settings.stage, settings.default_preset, settings.sampling.fit) == (stage, "paper", "stretch")
        source = json.loads((folder / stage / "source.json").read_text())
        assert source == {"repository": name, "commit": hub.repositories[name].find("main"), "revision": "main"}
    monkeypatch.setattr(hub_constants, "HF_HUB_OFFLINE", True)
    summary = complete(clip, tmp_path / "out", "--model", folder)
    assert summary["depth"] == "estimated"
    for name, repository in (("content_completion", SECOND), ("depth_model", SMALL)):
        assert summary["downloaded"][name]["commit"] == hub.repositories[repository].find("main")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").touch()
    error = refused(capsys, "download", FIRST, "--out", tmp_path / "other", "--yes")
    assert error.endswith("not empty, and not from an earlier download; choose another folder")


def test_any_repository_and_depth_network(
    hub: SmallHub, tmp_path: Path, released: dict[str, Files], capsys: pytest.CaptureFixture[str]
) -> None:
    hub.repositories["me/mine"] = Repository("mit")
    hub.repositories["me/mine"].commit(released[SECOND])
    asked = ["download", "me/mine", "--out", str(tmp_path / "mine"), "--yes", "-q"]
    assert main(asked) == 0
    assert "the same command with --stage writes it down" in capsys.readouterr().err
    assert main([*asked, "--stage", "content_completion", "--depth", "large"]) == 0
    assert read_settings(tmp_path / "mine").stage == "content_completion"
    assert "license: none on its page; CC-BY-NC-4.0" in (said := capsys.readouterr().err)
    assert "excludes commercial use; the paper used this network" in said
    assert "me/mine" not in said  # it is here already
    assert (tmp_path / "mine" / "depth" / "model.safetensors").is_file()
    assert load_stage(tmp_path / "mine", stage="content_completion").settings.default_preset == "paper"
    error = refused(capsys, "download", "tiny", "--yes")
    assert "folder here; nothing to download" in error


def test_a_broken_connection_goes_on_where_it_broke(
    hub: SmallHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_download.time, "sleep", lambda _: None)
    monkeypatch.setattr(hub_constants, "DOWNLOAD_CHUNK_SIZE", 100)
    hub.cuts[UNET] = (1, 1000)
    assert main(["download", FIRST, "--out", str(tmp_path / "model"), "--yes", "-q"]) == 0
    ranges = [wanted for method, path, wanted in hub.asked if method == "GET" and path.endswith(UNET)]
    assert ranges == [None, "bytes=1000-"]
    assert (tmp_path / "model" / UNET).read_bytes() == hub.repositories[FIRST].commits[
        str(hub.repositories[FIRST].find("main"))
    ][UNET]


@pytest.mark.parametrize("out", [(), ("--out", "model")], ids=["cache", "folder"])
def test_the_same_command_goes_on_with_what_is_not_whole(
    out: tuple[str, ...],
    hub: SmallHub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(file_download.time, "sleep", lambda _: None)
    hub.cuts[UNET] = (100, 0)
    error = refused(capsys, "download", FIRST, *out, "--yes", "-q")
    assert f"the download of {FIRST} stopped" in error
    assert error.endswith("the same command goes on with the files that are not whole yet")
    whole = {path for path in hub.downloads() if path != UNET}
    hub.cuts.clear()
    hub.asked.clear()
    assert main(["download", FIRST, *out, "--yes", "-q"]) == 0
    assert UNET in hub.downloads()
    assert not whole.intersection(hub.downloads())
    assert f"{FIRST}, commit" in capsys.readouterr().err  # the rest was told of, too


@pytest.mark.slow
def test_a_revision_that_moved_is_told_of(
    hub: SmallHub, clip: list[str], tmp_path: Path, released: dict[str, Files], capsys: pytest.CaptureFixture[str]
) -> None:
    masks = [*clip, "--stages", "masks", "--depth", "none"]
    complete(masks, tmp_path / "first", "--model", FIRST, "--yes")
    before = hub.repositories[FIRST].find("main")
    after = hub.repositories[FIRST].commit({**released[FIRST], "README.md": b"# better words"})
    hub.asked.clear()
    capsys.readouterr()
    summary = complete(masks, tmp_path / "second", "--model", FIRST)  # nothing changed that is needed: no question
    assert f"is now commit {after}, was {before}" in capsys.readouterr().err
    assert summary["downloaded"]["amodal_segmentation"]["commit"] == after
    assert not hub.downloads()

    index = json.loads(released[FIRST]["model_index.json"])
    newest = hub.repositories[FIRST].commit({**released[FIRST], "model_index.json": json.dumps([index]).encode()})
    error = refused(capsys, "complete", *masks, "--out", tmp_path / "third", "--model", FIRST)
    assert error.endswith(f"the cache has {FIRST}@{after}")
    complete(masks, tmp_path / "third", "--model", f"{FIRST}@{after}")
    assert "is now commit" not in capsys.readouterr().err
    complete(masks, tmp_path / "fourth", "--model", FIRST, "--yes")
    assert f"is now commit {newest}, was {after}" in capsys.readouterr().err
    assert hub.downloads() == ["model_index.json"]


def test_a_folder_whose_revision_moved(
    hub: SmallHub, tmp_path: Path, released: dict[str, Files], capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["download", FIRST, "--out", str(tmp_path / "model"), "--yes", "-q"]
    assert main(asked) == 0
    before = hub.repositories[FIRST].find("main")
    after = hub.repositories[FIRST].commit({**released[FIRST], "scheduler/more.json": b"{}"})
    assert main(asked) == 0
    assert f"is now commit {after}, was {before}" in capsys.readouterr().err
    assert json.loads((tmp_path / "model" / "source.json").read_text())["commit"] == after
    assert (tmp_path / "model" / "scheduler" / "more.json").is_file()


@pytest.mark.slow
def test_work_does_not_go_on_with_another_commit(
    hub: SmallHub,
    clip: list[str],
    tmp_path: Path,
    released: dict[str, Files],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    masks = [*clip, "--stages", "masks", "--depth", "none", "--model", FIRST, "--out", str(tmp_path / "out")]
    with monkeypatch.context() as patch:
        patch.setattr("amodal_diffusion.completion.clip.write_previews", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            main(["complete", *masks, "--yes"])
    begun = hub.repositories[FIRST].find("main")
    hub.repositories[FIRST].commit({**released[FIRST], "README.md": b"# better words"})
    error = refused(capsys, "complete", *masks)
    assert f"begun with commit {begun} of {FIRST}, which is now" in error
    assert main(["complete", *masks[:-3], f"{FIRST}", *masks[-2:], "--overwrite"]) == 2  # still another commit


@pytest.mark.parametrize("part", ["unet", "vae"])
def test_a_missing_variant(
    part: str, hub: SmallHub, tmp_path: Path, released: dict[str, Files], capsys: pytest.CaptureFixture[str]
) -> None:
    plain, half = (f"{part}/diffusion_pytorch_model{variant}.safetensors" for variant in ("", ".fp16"))
    files = {path: content for path, content in released[FIRST].items() if not path.endswith(".bin")}
    hub.repositories[FIRST].commit({path: content for path, content in files.items() if path != half})
    assert main(["download", FIRST, "--out", str(tmp_path / "plain"), "--yes", "-q"]) == 0
    fetched = [path for path in hub.downloads() if path.endswith(".safetensors")]
    assert plain in fetched
    assert sum("fp16" in path for path in fetched) == 2
    assert load_stage(tmp_path / "plain", stage="amodal_segmentation").settings.stage == "amodal_segmentation"

    neither = {path: content for path, content in files.items() if path not in (plain, half)}
    hub.repositories[FIRST].commit({**neither, plain.replace("safetensors", "bin"): b"\x80\x04"})
    hub.asked.clear()
    error = refused(capsys, "download", FIRST, "--yes")
    assert f"expected safetensors, plain or fp16, found {plain.replace('safetensors', 'bin')}; pickle files" in error
    assert not hub.downloads()


@pytest.mark.usefixtures("hub")
def test_without_a_network(
    clip: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    masks = [*clip, "--stages", "masks", "--depth", "none"]
    with monkeypatch.context() as patch:
        patch.setattr(hub_constants, "HF_HUB_OFFLINE", True)
        error = refused(capsys, "complete", *masks, "--out", tmp_path / "out", "--model", "diffusion-vas", "--yes")
    assert "model diffusion-vas: the hub cannot be reached" in error
    assert "`amodal-diffusion download diffusion-vas --out DIR`, then give DIR instead" in error
    assert not (tmp_path / "out").exists()

    complete(masks, tmp_path / "first", "--model", FIRST, "--yes")
    for name, value in (("HF_HUB_OFFLINE", True), ("ENDPOINT", "http://127.0.0.1:9")):
        with monkeypatch.context() as patch:
            patch.setattr(hub_constants, name, value)
            summary = complete(masks, tmp_path / name, "--model", FIRST)
        assert summary["downloaded"]["amodal_segmentation"]["repository"] == FIRST
    (cached,) = (tmp_path / "cache").rglob(f"snapshots/*/{UNET}")
    cached.unlink()  # as if the download had been interrupted
    monkeypatch.setattr(hub_constants, "HF_HUB_OFFLINE", True)
    assert "the hub cannot be reached" in refused(capsys, "complete", *masks, "--out", "out", "--model", FIRST)


@pytest.mark.slow
def test_depth_that_is_not_here_is_gone_without(
    hub: SmallHub, clip: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["download", "diffusion-vas", "--depth", "none", "--yes", "-q"]) == 0
    hub.asked.clear()
    summary = complete(clip, tmp_path / "out", "--model", "diffusion-vas", "--stages", "masks")
    assert summary["depth"] == "none"
    assert not hub.downloads()
    assert "--depth-model small adds it, --depth none silences this" in capsys.readouterr().err
    summary = complete(clip, tmp_path / "large", "--model", "diffusion-vas", "--depth-model", "large", "--yes")
    assert summary["downloaded"]["depth_model"]["repository"] == LARGE
    assert capsys.readouterr().err.count("CC-BY-NC-4.0, excludes commercial use") == 1


@pytest.mark.parametrize("name", ["nobody/nothing", "nobody/nothing@v1"])
def test_what_the_hub_does_not_have_is_one_line(
    name: str, hub: SmallHub, clip: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    error = refused(capsys, "complete", *clip, "--out", "out", "--model", name, "--yes")
    assert f"model {name}: the hub gives no repository {name}; check the name" in error
    hub.repositories[FIRST].gated = True
    error = refused(capsys, "complete", *clip, "--out", "out", "--model", FIRST, "--content-model", SECOND, "--yes")
    assert "if it is private or gated, ask for access on its page and log in with `hf auth login`" in error


def test_a_download_tells_the_method(
    hub: SmallHub, clip: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    WRITE["sameo"](tmp_path / "sameo")
    hub.repositories["lab/sameo"] = Repository()
    commit = hub.repositories["lab/sameo"].commit(files_of(tmp_path / "sameo"))
    bare = [*clip[:3], "--device", "cpu", "-q", "--stages", "masks", "--model", "lab/sameo", "--yes"]
    assert main(["complete", *bare, "--out", str(tmp_path / "out")]) == 0
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert summary["method"] == "sameo"
    assert summary["downloaded"] == {"amodal_segmentation": {"repository": "lab/sameo", "commit": commit}}
    wrong = refused(capsys, "complete", *bare, "--out", "other", "--method", "c2f-seg")
    assert "holds a checkpoint of sameo, not of c2f-seg; --method sameo reads it" in wrong
    idle = refused(capsys, "complete", *bare, "--out", "other", "--steps", "1")
    assert "--steps: is for diffusion, which --stages masks with sameo does not use" in idle
    assert not (tmp_path / "other").exists()
    assert not (tmp_path / "other.partial").exists()
    method, folders = StageNames("lab/sameo").find()
    assert (method, folders["content_completion"].name) == ("sameo", "tiny")  # a checkpoint of SAMEO has no stage 2


@pytest.mark.slow  # two processes that import torch
def test_a_killed_process_goes_on(hub: SmallHub, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "amodal_diffusion", "download", FIRST, "--out", str(tmp_path / "model"), "--yes"]
    settings = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}
    environment = {**os.environ, **settings}
    hub.cuts[UNET] = (100, 0)  # it waits between its attempts, with the other files whole
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) as process:
        while len(hub.downloads()) < 9:
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    assert not (tmp_path / "model" / "source.json").exists()
    hub.cuts.clear()
    hub.asked.clear()
    subprocess.run(command, env=environment, check=True, capture_output=True)
    assert UNET in hub.downloads()
    assert len(hub.downloads()) <= 2
    assert load_stage(tmp_path / "model", stage="amodal_segmentation").settings.default_preset == "paper"

"""`batch` with inputs by URL and results in a bucket, in this process: memory:// stands for a storage service."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest

from amodal_diffusion.basics import InputError
from amodal_diffusion.cli import main
from amodal_diffusion.completion import clip_work, run_record
from amodal_diffusion.completion.networks import Places
from amodal_diffusion.completion.ray_actor import ClipActor, Setup
from amodal_diffusion.completion.request import CompletionRequest, DepthChoice, ModelChoice, Output, Source
from amodal_diffusion.completion.run_record import RunIdentity, claimed, run_file, weights_of
from amodal_diffusion.completion.storage_options import StorageOptions
from amodal_diffusion.completion.stored_clips import ClipStorage
from amodal_diffusion.data.clip_list import read_clip_list
from amodal_diffusion.io.retries import UnavailableError
from amodal_diffusion.io.storage import join, read_bytes, remove, write_bytes
from amodal_diffusion.io.transfers import list_files, names_below, upload_folder
from tests.media import moving_disc, write_frames, write_masks

TOLD = ("manifest.json", "summary.json", "object.json", "run.json", "failures.json")
"""Files that tell when and where they were made."""


@dataclass(frozen=True)
class Bucket:
    """Clips in memory, and the same on the disk.

    Attributes:
        url: folder of the clips, the list and the results.
        local: folder of the same clips.
        options: of the command.
    """

    url: str
    local: Path
    options: list[str]

    @property
    def out(self) -> str:
        return f"{self.url}/out"

    def batch(self, *options: str, rows: list[dict[str, str]] | None = None, out: str | None = None) -> int:
        """Run the command on a list in the bucket; its exit status."""
        lines = [json.dumps(row) for row in rows or self.rows()]
        write_bytes(f"{self.url}/list.jsonl", "\n".join(lines).encode())
        given = ["--input", f"{self.url}/list.jsonl", "--out", out or self.out, *self.options]
        return main(["batch", *given, "--scratch", str(self.local / "scratch"), *options])

    def rows(self) -> list[dict[str, str]]:
        """Two clips, one with depth."""
        first, second = ({"clip": f"{self.url}/{name}/frames", "masks": f"{self.url}/{name}/masks"} for name in "ab")
        return [{**first, "name": "a"}, {**second, "depth": f"{self.url}/b/depth.npy", "name": "deep"}]

    def objects(self) -> dict[str, bytes]:
        """What is in the bucket below the results."""
        return {file.name: read_bytes(join(self.out, file.name)) for file in list_files(self.out)}


@pytest.fixture
def bucket(tmp_path: Path, model: Path) -> Bucket:
    rgb, mask = moving_disc(3, 24, 40)
    url = f"memory://{uuid4().hex}"
    for index, name in enumerate("ab"):
        write_frames(tmp_path / name / "frames", np.roll(rgb, index, axis=1))
        write_masks(tmp_path / name / "masks", np.roll(mask, index, axis=1))
        if name == "b":
            np.save(tmp_path / name / "depth.npy", np.linspace(0, 1, mask.size, dtype=np.float32).reshape(mask.shape))
        upload_folder(tmp_path / name, f"{url}/{name}", last=names_below(tmp_path / name)[-1])
    options = ["--model", str(model), "--device", "cpu", "--stages", "masks", "-q"]
    return Bucket(url, tmp_path, options)


def test_clips_from_and_results_to_a_bucket(bucket: Bucket, capfd: pytest.CaptureFixture[str]) -> None:
    missing = {"clip": f"{bucket.url}/none.mp4?X-Amz-Signature=5d1f00ba", "masks": f"{bucket.url}/a/masks"}
    assert bucket.batch(rows=[bucket.rows()[1], missing]) == 1
    printed = capfd.readouterr()
    name = f"{bucket.url.removeprefix('memory://')}_none"
    error = f"{bucket.url}/none.mp4: there is no such file or object"
    assert f"failed: {name}: {error}\n" in printed.err
    assert printed.out.startswith("1 completed, 0 finished before, 1 failed")
    assert f"results: {bucket.out}\n" in printed.out
    objects = bucket.objects()
    failure = {"name": name, "clip": f"{bucket.url}/none.mp4", "error": error, "trace": None}
    assert json.loads(objects["failures.json"]) == [failure]
    assert json.loads(objects["deep/summary.json"])["clip"]["path"] == f"{bucket.url}/b/frames"
    manifest = json.loads(objects["deep/manifest.json"])
    assert {key: manifest["inputs"][key]["path"] for key in ("clip", "masks", "depth")} == {
        "clip": f"{bucket.url}/b/frames", "masks": f"{bucket.url}/b/masks", "depth": f"{bucket.url}/b/depth.npy"
    }  # fmt: skip
    assert manifest["settings"]["depth"] == f"{bucket.url}/b/depth.npy"
    assert not list((bucket.local / "scratch").iterdir())
    hidden = ("5d1f00ba", str(bucket.local / "scratch"))
    assert not any(text.encode() in data for text in hidden for data in objects.values())
    assert not any(text in printed.err + printed.out for text in hidden)


@pytest.mark.slow
def test_half_an_upload_is_begun_anew(bucket: Bucket, capfd: pytest.CaptureFixture[str]) -> None:
    missing = {"clip": f"{bucket.url}/none", "masks": f"{bucket.url}/a/masks"}
    assert bucket.batch(rows=[*bucket.rows(), missing]) == 1
    objects = bucket.objects()
    remove(f"{bucket.out}/a/manifest.json")
    before = {file.name: file.version for file in list_files(f"{bucket.out}/deep")}
    assert bucket.batch() == 1  # no list of files says that those below `a` are the program's
    assert "has files of others, such as " in capfd.readouterr().err
    files = {"files": [name.removeprefix("a/") for name in objects]}
    write_bytes(f"{bucket.out}/a/manifest.json.partial", json.dumps(files).encode())
    assert bucket.batch() == 0
    assert capfd.readouterr().out.startswith("1 completed, 1 finished before, 0 failed")
    assert {file.name: file.version for file in list_files(f"{bucket.out}/deep")} == before
    assert set(objects) - set(bucket.objects()) == {"failures.json"}


@pytest.mark.slow
def test_the_results_are_those_of_local_files(bucket: Bucket) -> None:
    assert bucket.batch() == 0
    lines = "a/frames\ta/masks\t\t\ta\nb/frames\tb/masks\tb/depth.npy\t\tdeep\n"
    (bucket.local / "list.txt").write_text(lines)
    local = ["--input", f"file://{bucket.local}/list.txt", "--out", f"file://{bucket.local}/out"]
    assert main(["batch", *local, *bucket.options]) == 0
    files = {name: (bucket.local / "out" / name).read_bytes() for name in names_below(bucket.local / "out")}
    objects = bucket.objects()
    assert set(files) == set(objects)
    for name, data in files.items():
        assert name.rpartition("/")[2] in TOLD or objects[name] == data, name


@pytest.mark.slow
def test_changed_inputs_are_noticed_with_check_inputs(bucket: Bucket, capfd: pytest.CaptureFixture[str]) -> None:
    assert bucket.batch() == 0
    assert bucket.batch("--check-inputs") == 0
    assert "0 completed, 2 finished before" in capfd.readouterr().out
    picture = f"{bucket.url}/a/masks/{list_files(f'{bucket.url}/a/masks')[0].name}"
    write_bytes(picture, read_bytes(picture))  # another version of the same size
    assert bucket.batch() == 0
    assert bucket.batch("--check-inputs") == 1
    assert f"failed: a: out: {bucket.out}/a: made with other masks; --overwrite replaces it" in capfd.readouterr().err
    assert bucket.batch("--check-inputs", "--overwrite") == 0
    assert "1 completed, 1 finished before" in capfd.readouterr().out
    assert bucket.batch("--check-inputs") == 0


@pytest.mark.slow
def test_other_settings_replace_results_only_with_overwrite(bucket: Bucket, capfd: pytest.CaptureFixture[str]) -> None:
    assert bucket.batch("--formats", "masks-mp4") == 0
    videos = [name for name in bucket.objects() if name.endswith(".mp4") and "amodal" in name]
    assert videos
    assert bucket.batch() == 2
    assert f"out: {bucket.out}/run.json: begun with other formats" in capfd.readouterr().err
    one = [row for row in bucket.rows() if row["name"] == "a"]
    assert bucket.batch("--overwrite", rows=one) == 0
    assert not [name for name in bucket.objects() if name in videos and name.startswith("a/")]
    capfd.readouterr()
    assert bucket.batch() == 1  # run.json is that of the new settings; the other clip is not
    assert f"failed: deep: out: {bucket.out}/deep: made with other formats" in capfd.readouterr().err
    assert bucket.batch("--overwrite") == 0
    assert "1 completed, 1 finished before" in capfd.readouterr().out


@pytest.mark.slow
def test_files_of_others_stay(bucket: Bucket, capfd: pytest.CaptureFixture[str]) -> None:
    write_bytes(f"{bucket.out}/a/thesis.pdf", b"mine")
    assert bucket.batch("--overwrite") == 1
    assert f"failed: a: out: {bucket.out}/a: has files of others, such as thesis.pdf" in capfd.readouterr().err
    assert read_bytes(f"{bucket.out}/a/thesis.pdf") == b"mine"


@pytest.mark.slow
def test_results_in_a_folder_of_clips_from_a_bucket(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    out = bucket.local / "out"
    assert bucket.batch(out=str(out)) == 0
    assert json.loads((out / "a/summary.json").read_text())["clip"]["path"] == f"{bucket.url}/a/frames"
    monkeypatch.setattr(ClipStorage, "fetch", lambda *_, **__: pytest.fail("copied in vain"))
    capfd.readouterr()
    assert bucket.batch(out=str(out)) == 0
    assert "0 completed, 2 finished before" in capfd.readouterr().out
    assert bucket.batch("--check-inputs", out=str(out)) == 0


@pytest.mark.slow
def test_an_upload_that_fails_is_listed_and_leaves_no_marker(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise UnavailableError(f"{bucket.out}/a/x: cannot be written after 3 retries (SlowDown)")

    with monkeypatch.context() as patch:
        patch.setattr("amodal_diffusion.completion.stored_clips.upload_folder", fail)
        assert bucket.batch() == 1
    assert "cannot be written after 3 retries (SlowDown)" in capfd.readouterr().err
    assert not any(name.endswith("manifest.json") for name in bucket.objects())
    assert not list((bucket.local / "scratch").iterdir())
    assert bucket.batch() == 0


@pytest.mark.slow
def test_an_error_of_the_program_tells_no_secrets(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    secret = "X-Amz-Signature=5d1f00ba"
    write_bytes(f"{bucket.url}/clip.mp4?{secret}", b"no video")  # a bucket's names may have a question mark

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError(f"cannot open {bucket.url}/clip.mp4?{secret}")

    monkeypatch.setattr(clip_work, "complete_clip", fail)
    row = {"clip": f"{bucket.url}/clip.mp4?{secret}", "masks": f"{bucket.url}/a/masks", "name": "clip"}
    assert bucket.batch(rows=[row]) == 1
    failures = bucket.objects()["failures.json"].decode()
    assert "Traceback" in failures
    assert "5d1f00ba" not in failures + capfd.readouterr().err


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"clip": "a/frames"}, "line 1: clip: a/frames: a list that comes from a URL may name URLs only"),
        ({"masks": "file:///etc/passwd"}, "masks: file:///etc/passwd: a list that comes from a URL may name URLs only"),
        ({"depth": "/etc/passwd"}, "depth: /etc/passwd: a list that comes from a URL may name URLs only"),
        ({"clip": "https://evil.org/a.mp4?sig=5d1f00ba"}, "clip: https://evil.org/a.mp4: https needs --allow-host"),
        ({"clip": "zip://a.mp4::s3://bucket/a.zip"}, "chained URLs (::) are not read"),
        ({"clip": "ftp://host/a.mp4"}, "ftp://host/a.mp4: expected a path or one of s3://"),
        ({"clip": "s3://key:5d1f00ba@bucket/a.mp4"}, "s3://bucket/a.mp4: a URL must not hold a user name"),
    ],
)
def test_a_list_that_names_what_it_may_not_is_refused_before_any_work(
    bucket: Bucket, capfd: pytest.CaptureFixture[str], row: dict[str, str], problem: str
) -> None:
    assert bucket.batch("--allow-host", "data.example.org", rows=[{**bucket.rows()[0], **row}]) == 2
    error = capfd.readouterr().err
    assert error.startswith(f"error: input: {bucket.url}/list.jsonl: line 1: ")
    assert problem in error
    assert "5d1f00ba" not in error
    with pytest.raises(InputError):
        list_files(bucket.out)


def test_one_line_for_a_list_or_a_bucket_that_is_wrong(bucket: Bucket, capfd: pytest.CaptureFixture[str]) -> None:
    given = ["--input", f"{bucket.url}/none.csv", "--out", bucket.out, *bucket.options]
    assert main(["batch", *given]) == 2
    assert capfd.readouterr().err == f"error: {bucket.url}/none.csv: there is no such file or object\n"
    with pytest.raises(SystemExit):
        bucket.batch(out="https://host/out")
    assert "--out: https://host/out: https is for input only" in capfd.readouterr().err
    assert bucket.batch(out="gs://bucket/out") == 2
    assert "gs:// needs the package gcsfs; pip install 'amodal-diffusion[gs]'" in capfd.readouterr().err
    capfd.readouterr()
    assert main(["complete", "https://host/clip.mp4?sig=5d1f00ba", "--masks", "m"]) == 2
    said = "error: https://host/clip.mp4: `amodal-diffusion batch` reads URLs; give a path here\n"
    assert capfd.readouterr().err == said
    paths = [str(bucket.local / "a/frames"), "--masks", str(bucket.local / "a/masks")]
    assert main(["complete", *paths, "--out", "s3://bucket/out"]) == 2
    assert "--out: s3://bucket/out: expected a folder; `amodal-diffusion batch` writes to" in capfd.readouterr().err


@pytest.mark.slow
def test_a_worker_drops_what_it_fetched_for_another_one(bucket: Bucket, model: Path) -> None:
    """With room for one clip, a clip that was fetched in vain must not keep the next one waiting."""
    base = CompletionRequest(
        Source(clip=Path()),
        Output(out=bucket.out, quiet=True, stages="masks"),
        model=ModelChoice(model=str(model), device="cpu"),
        depth=DepthChoice(depth="none"),
    )
    write_bytes(f"{bucket.out}/token", b"token")
    scratch = bucket.local / "scratch"
    storage = StorageOptions(scratch=scratch, scratch_limit=13_000)
    weights = weights_of(Places(base))
    setup = Setup(base, base.network_inputs(), weights, 1, Path.cwd(), f"{bucket.out}/token", "token", storage)
    actor = ClipActor()
    assert actor.begin(replace(setup, token="other")) == (
        f"out: {bucket.out}: not the bucket that the driver sees; give all machines the same access"
    )
    assert actor.begin(setup) is None
    first, second = read_clip_list(tuple(bucket.rows()))
    actor.fetch(second)
    assert list(scratch.rglob("depth.npy"))
    assert actor.complete(first).status == "completed"
    assert not list(scratch.rglob("depth.npy"))
    assert actor.complete(second).status == "completed"
    actor.close()
    assert not list(scratch.iterdir())


def test_one_driver_at_a_time_in_a_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_record, "_LOOK_AGAIN", 0.0)
    file, identity = run_file(f"memory://{uuid4().hex}/out"), RunIdentity({"seed": 0}, "1.0", {})
    with claimed(file, identity, overwrite=False, take_over=False) as first:
        first.binds = True
        first.check()
        with (
            pytest.raises(InputError, match=r"memory://.*/out/run\.json: a run is at work"),
            claimed(file, identity, overwrite=False, take_over=False),
        ):
            pass
        assert not file.create("another")
        with claimed(file, identity, overwrite=False, take_over=True) as second:
            second.check()
            with pytest.raises(InputError, match="another run has taken over"):
                first.check()
    text = file.read()
    assert text is not None
    assert json.loads(text)["driver"] is None
    with (
        pytest.raises(InputError, match="begun with other seed"),
        claimed(file, RunIdentity({"seed": 1}, "1.0", {}), overwrite=False, take_over=False),
    ):
        pass

"""`batch` as users start it, with clips in and results to an S3 server: one process, an accelerate launch, Ray."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest

from tests.https_server import SIGNATURE, Site, make_certificate
from tests.media import encode, moving_disc, write_frames, write_masks
from tests.s3_server import BUCKET, Proxy, client, environment, s3_server
from tests.training.launching import LAUNCH, run, started

pytestmark = pytest.mark.slow
PROGRAM = (sys.executable, "-m", "amodal_diffusion")
WHOLE = 1 << 40  # bytes of an answer that is not cut
TOLD = ("manifest.json", "summary.json", "object.json", "run.json", "failures.json")
"""Files that tell when and where they were made."""


@dataclass
class Footage:
    """Clips on an S3 server, whose answers are cut on the way.

    Attributes:
        port: of the server itself.
        proxy: before it.
        options: of the command but its output.
        site: https server with one of the clips.
    """

    port: int
    proxy: Proxy
    options: list[str]
    site: Site

    def batch(self, out: str, *options: str, program: tuple[str, ...] = PROGRAM, status: int = 0) -> str:
        """Run the command, some of whose answers are cut and refused; what it printed."""
        self.proxy.cuts[:] = [0, 300, *[WHOLE] * 6, 150, *[WHOLE] * 6, 500, *[WHOLE] * 2]
        self.proxy.answers[:] = [503]
        printed = run(*program, "batch", *self.options, "--out", f"s3://{BUCKET}/{out}", *options, status=status)
        assert not self.proxy.cuts
        assert not self.proxy.answers
        return printed

    def names(self, out: str) -> list[str]:
        """Names of what is in the bucket below the results, asked for past the package."""
        pages = client(self.port).get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{out}/")
        return [entry["Key"].removeprefix(f"{out}/") for page in pages for entry in page.get("Contents", ())]

    def objects(self, out: str) -> dict[str, bytes]:
        """Likewise, with the content."""
        s3 = client(self.port)
        return {name: s3.get_object(Bucket=BUCKET, Key=f"{out}/{name}")["Body"].read() for name in self.names(out)}


def results(objects: dict[str, bytes]) -> dict[str, bytes]:
    return {name: data for name, data in objects.items() if name.rpartition("/")[2] not in TOLD}


@pytest.fixture(scope="module")
def server() -> Iterator[int]:
    with s3_server() as port:
        yield port


@pytest.fixture
def footage(server: int, tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Footage]:
    """Three clips: folders of pictures, one with depth, and a video over https with a signed URL."""
    rgb, mask = moving_disc(3, 24, 40)
    prefix, rows = uuid4().hex, []
    for index, name in enumerate("abc"):
        write_frames(tmp_path / name / "frames", np.roll(rgb, index, axis=1))
        write_masks(tmp_path / name / "masks", np.roll(mask, index, axis=1))
        url = f"s3://{BUCKET}/{prefix}/{name}"
        rows.append({"clip": f"{url}/frames", "masks": f"{url}/masks", "name": name})
    np.save(tmp_path / "b/depth.npy", np.linspace(0, 1, mask.size, dtype=np.float32).reshape(mask.shape))
    rows[1]["depth"] = f"s3://{BUCKET}/{prefix}/b/depth.npy"
    encode(tmp_path / "c.mp4", rgb)
    for path in tmp_path.rglob("*.*"):
        client(server).upload_file(str(path), BUCKET, f"{prefix}/{path.relative_to(tmp_path)}")
    make_certificate(tmp_path / "localhost.pem")
    site = Site(files={"/c.mp4": (tmp_path / "c.mp4").read_bytes()}, signed={"/c.mp4"}, redirects={})
    with Proxy(server).running() as proxy, site.running(tmp_path / "localhost.pem"):
        rows[2]["clip"] = site.url(f"/c.mp4?{SIGNATURE}")
        text = "".join(json.dumps(row) + "\n" for row in rows)
        client(server).put_object(Bucket=BUCKET, Key=f"{prefix}/list.jsonl", Body=text.encode())
        for name, value in environment(proxy.port).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "localhost.pem"))
        monkeypatch.setenv("no_proxy", "localhost,127.0.0.1")
        options = ["--input", f"s3://{BUCKET}/{prefix}/list.jsonl", "--allow-host", f"localhost:{site.port}"]
        options += ["--model", str(model), "--device", "cpu", "--stages", "masks", "--cores-per-worker", "1"]
        yield Footage(server, proxy, [*options, "--scratch", str(tmp_path / "scratch")], site)


def test_every_engine_gives_the_same_results(footage: Footage, tmp_path: Path) -> None:
    printed = footage.batch("one")
    assert "3 completed, 0 finished before, 0 failed; 1 process(es)" in printed
    one = footage.objects("one")
    assert {"a/manifest.json", "b/manifest.json", "c/manifest.json", "run.json"} <= set(one)
    assert json.loads(one["c/summary.json"])["clip"]["path"] == f"https://localhost:{footage.site.port}/c.mp4"
    assert "0 completed, 3 finished before" in footage.batch("one")
    printed += footage.batch("launch", program=(*LAUNCH, "-m", "amodal_diffusion"))
    assert "3 completed, 0 finished before, 0 failed; 2 process(es)" in printed
    printed += footage.batch("ray", "--engine", "ray", "--workers", "2")
    for out in ("launch", "ray"):
        assert results(footage.objects(out)) == results(one)
        assert set(footage.objects(out)) == set(one)
    assert SIGNATURE not in printed
    assert not any(SIGNATURE.encode() in data for data in one.values())
    assert not list((tmp_path / "scratch").iterdir())


def test_failures_are_listed_without_secrets(footage: Footage) -> None:
    footage.site.signed.clear()
    footage.site.files.clear()
    printed = footage.batch("failed", "--engine", "ray", "--workers", "1", status=1)
    clip = f"https://localhost:{footage.site.port}/c.mp4"
    error = f"{clip}: there is no such file or object"
    assert f"failed: c: {error}" in printed
    (failure,) = json.loads(footage.objects("failed")["failures.json"])
    assert failure == {
        "name": "c",
        "clip": f"https://localhost:{footage.site.port}/c.mp4",
        "error": error,
        "trace": None,
    }
    assert SIGNATURE not in printed


def test_a_killed_run_leaves_no_half_result_and_goes_on(footage: Footage) -> None:
    footage.site.files.clear()  # two of the clips are completed
    command = (*PROGRAM, "batch", *footage.options, "--out", f"s3://{BUCKET}/killed")
    with started(*command) as process:
        end = time.monotonic() + 120
        while not any(name.startswith("a/objects/") for name in footage.names("killed")):
            assert time.monotonic() < end
            assert process.poll() is None
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
    whole = [name for name in footage.names("killed") if name.endswith("/manifest.json")]
    assert len(whole) < 2
    printed = footage.batch("killed", status=1)  # on the machine of the dead driver no --take-over is needed
    assert f"{2 - len(whole)} completed, {len(whole)} finished before, 1 failed" in printed
    found = footage.objects("killed")
    assert {"a/manifest.json", "b/manifest.json"} <= set(found)
    # A kill between the manifest and the removal of the list of files leaves that list beside a whole result.
    assert len([name for name in found if name.endswith(".partial")]) <= len(whole)
    assert json.loads(found["run.json"])["driver"] is None

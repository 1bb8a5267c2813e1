"""The calls for objects against an S3 server in a process of its own, through a proxy that cuts and refuses."""

from __future__ import annotations

import os
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from amodal_diffusion.basics import InputError
from amodal_diffusion.io import retries
from amodal_diffusion.io.retries import MissingError, UnavailableError
from amodal_diffusion.io.scratch import Scratch
from amodal_diffusion.io.storage import create, join, read_bytes, read_range, remove, upload, write_bytes
from amodal_diffusion.io.transfers import list_files, marked, stat, upload_folder
from amodal_diffusion.io.urls import redacted
from tests.s3_server import BUCKET, Proxy, client, environment, s3_server

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server() -> Iterator[int]:
    with s3_server() as port:
        yield port


@pytest.fixture
def proxy(server: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A fresh way to the server; connections of earlier tests are not used again."""
    from s3fs import S3FileSystem

    monkeypatch.setattr(retries, "PAUSES", (0.01, 0.02, 0.03))
    with Proxy(server).running() as running:
        for name, value in environment(running.port).items():
            monkeypatch.setenv(name, value)
        S3FileSystem.clear_instance_cache()
        yield running
    S3FileSystem.clear_instance_cache()


@pytest.fixture
def bucket(request: pytest.FixtureRequest) -> str:
    """A folder of the bucket for each test."""
    return f"s3://{BUCKET}/{request.node.name}"


def reconnect() -> None:
    """Have the next request open a new connection, as the proxy counts connections."""
    from s3fs import S3FileSystem

    S3FileSystem.clear_instance_cache()


def test_what_is_written_is_read(proxy: Proxy, bucket: str, tmp_path: Path) -> None:
    location = join(bucket, "a b/ä.bin")
    write_bytes(location, b"0123456789")
    assert read_bytes(location) == b"0123456789"
    before = len(proxy.requests)
    assert read_range(location, 2, 3) == b"234"
    assert len(proxy.requests) == before + 1
    first = stat(location)
    (tmp_path / "c").write_bytes(b"copied....")
    upload(tmp_path / "c", location)
    assert read_bytes(location) == b"copied...."
    assert stat(location).size == first.size
    assert stat(location).version != first.version
    with pytest.raises(InputError, match="cannot be read"):
        read_range(location, 10, 5)


def test_missing_and_forbidden_objects_are_told_at_once(proxy: Proxy, bucket: str) -> None:
    with pytest.raises(MissingError, match=r"nothing\.mp4: there is no such file or object"):
        read_bytes(join(bucket, "nothing.mp4"))
    with pytest.raises(MissingError, match="there is no such bucket"):
        write_bytes("s3://no-such-bucket/x", b"")
    reconnect()
    proxy.answers[:] = [403] * 4
    with pytest.raises(MissingError, match="access is forbidden"):
        read_bytes(join(bucket, "nothing.mp4"))
    assert len(proxy.answers) == 3


def test_missing_credentials_are_told_at_once(
    proxy: Proxy, bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    reconnect()
    with pytest.raises(InputError, match=r"cannot be (read|opened) \(.*credentials"):
        read_bytes(join(bucket, "x"))
    assert not proxy.requests


def test_throttling_and_server_errors_are_retried_three_times(proxy: Proxy, bucket: str) -> None:
    write_bytes(join(bucket, "x"), b"0123")
    reconnect()
    proxy.answers[:] = [503, 500, 503]
    assert read_range(join(bucket, "x"), 1, 2) == b"12"
    reconnect()
    proxy.answers[:] = [503] * 5
    with pytest.raises(UnavailableError, match="cannot be read after 3 retries"):
        read_range(join(bucket, "x"), 1, 2)
    assert len(proxy.answers) == 1
    proxy.answers[:] = [503, 500]
    reconnect()
    write_bytes(join(bucket, "x"), b"4567")
    assert read_bytes(join(bucket, "x")) == b"4567"


def test_a_cut_transfer_goes_on(proxy: Proxy, bucket: str, tmp_path: Path) -> None:
    clip = os.urandom(40 << 20)  # three blocks
    write_bytes(join(bucket, "clip.mp4"), clip)
    reconnect()
    proxy.cuts[:] = [400, 5_000_000, 9_000_000, 300_000]
    with Scratch(tmp_path).copy([join(bucket, "clip.mp4")]) as copies:
        assert copies.paths[join(bucket, "clip.mp4")].read_bytes() == clip
    assert not proxy.cuts
    reconnect()
    proxy.cuts[:] = [1000] * 8
    with pytest.raises(UnavailableError):
        read_bytes(join(bucket, "clip.mp4"))
    proxy.cuts.clear()


def test_a_service_that_is_away_is_told_after_the_retries(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.s3_server import free_port

    monkeypatch.setattr(retries, "PAUSES", (0.01, 0.02, 0.03))
    for name, value in environment(free_port()).items():
        monkeypatch.setenv(name, value)
    reconnect()
    with pytest.raises(UnavailableError, match="after 3 retries"):
        read_bytes(join(bucket, "x"))


@pytest.mark.usefixtures("proxy")
def test_one_of_many_creates_an_object(bucket: str) -> None:
    results = list[bool]()
    threads = [
        threading.Thread(target=lambda number=number: results.append(create(join(bucket, "run.json"), b"%d" % number)))
        for number in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [False] * 5 + [True]


def test_an_object_made_by_a_try_whose_answer_was_lost_is_ours(proxy: Proxy, bucket: str) -> None:
    reconnect()
    proxy.cuts[:] = [0]  # the server makes the object, and its answer is cut
    assert create(join(bucket, "run.json"), b"mine")
    assert not proxy.cuts
    reconnect()
    proxy.answers[:] = [503]
    assert not create(join(bucket, "run.json"), b"other")
    assert read_bytes(join(bucket, "run.json")) == b"mine"


def test_markers_of_whole_results_only(proxy: Proxy, bucket: str, tmp_path: Path) -> None:
    result = tmp_path / "result"
    (result / "objects" / "1").mkdir(parents=True)
    for number in range(80):
        (result / "objects" / "1" / f"{number}.png").write_bytes(bytes([number]))
    (result / "empty").touch()
    (result / "manifest.json").write_text("{}")
    upload_folder(result, join(bucket, "clip 1"), last="manifest.json")
    write_bytes(join(bucket, "half/objects/1/0.png"), b"1")
    names = dict.fromkeys(["half", *(f"clip {number}" for number in range(300))], b"{")
    reconnect()
    proxy.answers[:] = [503, 503]
    assert marked(bucket, names, "manifest.json") == {"clip 1"}
    assert len(list_files(join(bucket, "clip 1"))) == 82
    with Scratch(tmp_path / "scratch").copy([join(bucket, "clip 1")]) as copies:
        back = copies.paths[join(bucket, "clip 1")]
        for path in result.rglob("*"):
            assert path.is_dir() or (back / path.relative_to(result)).read_bytes() == path.read_bytes()
    remove(join(bucket, "clip 1/manifest.json"))
    remove(join(bucket, "clip 1/manifest.json"))
    assert marked(bucket, names, "manifest.json") == set()


def test_an_upload_that_ends_early_leaves_no_marker(proxy: Proxy, bucket: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "manifest.json").write_text("{}")
    reconnect()
    proxy.answers[:] = [500] * 4
    with pytest.raises(UnavailableError, match="cannot be written"):
        upload_folder(tmp_path, join(bucket, "clip"), last="manifest.json")
    assert marked(bucket, {"clip": b"{"}, "manifest.json") == set()


@pytest.mark.usefixtures("proxy")
def test_an_object_that_changes_while_it_is_copied_is_refused(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from amodal_diffusion.io import transfers

    monkeypatch.setattr(transfers, "BLOCK", 10)
    location = join(bucket, "clip.mp4")
    write_bytes(location, b"0" * 25)
    read = transfers.read_ranges

    def change(*arguments: object) -> object:
        write_bytes(location, b"1" * 25)
        return read(*arguments)

    monkeypatch.setattr(transfers, "read_ranges", change)
    with pytest.raises(InputError, match="has changed while it was copied"):
        Scratch(tmp_path).copy([location])


def test_texts_of_libraries_about_a_presigned_url_are_redacted(proxy: Proxy) -> None:
    import aiohttp
    import fsspec
    import requests

    url = client(proxy.port).generate_presigned_url("get_object", {"Bucket": BUCKET, "Key": "none.mp4"})
    secrets = [part.partition("=")[2] for part in url.partition("?")[2].split("&") if "Expires" not in part]
    assert len(secrets) >= 2
    texts = list[str]()
    for ask in (
        lambda: urllib.request.urlopen(url),
        lambda: requests.get(url, timeout=10).raise_for_status(),
        lambda: requests.get(url.replace(str(proxy.port), "1"), timeout=10),
        lambda: fsspec.filesystem("http").cat_file(url),
        lambda: (_ for _ in ()).throw(aiohttp.InvalidURL(url)),
    ):
        with pytest.raises(Exception) as caught:  # noqa: PT011  # each library has its own
            ask()
        texts += [str(caught.value), repr(caught.value)]
    assert any(secret in text for secret in secrets for text in texts)
    shown = [redacted(text, url) for text in texts] + [redacted(text) for text in texts]
    assert not any(secret in text for secret in secrets for text in shown), shown

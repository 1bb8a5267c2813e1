"""Input over https: redirects are checked hop by hop, cut transfers are retried, signatures appear nowhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from amodal_diffusion.basics import InputError
from amodal_diffusion.io import retries
from amodal_diffusion.io.retries import MissingError, UnavailableError
from amodal_diffusion.io.scratch import Scratch
from amodal_diffusion.io.storage import read_bytes, read_range
from amodal_diffusion.io.transfers import stat
from amodal_diffusion.io.urls import UrlPolicy
from tests.https_server import SIGNATURE, Site, make_certificate

pytestmark = pytest.mark.slow
CLIP = bytes(range(256)) * 8192  # 2 MB


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("certificate") / "localhost.pem"
    make_certificate(path)
    return path


@pytest.fixture
def site(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    monkeypatch.setenv("no_proxy", "localhost")
    monkeypatch.setattr(retries, "PAUSES", (0.01, 0.02, 0.03))
    with Site(files={"/clip.mp4": CLIP}).running(certificate) as running:
        yield running


def allow(*sites: Site) -> UrlPolicy:
    return UrlPolicy(frozenset(f"localhost:{site.port}" for site in sites))


def copied(scratch: Scratch, url: str) -> bytes:
    with scratch.copy([url]) as copies:
        return copies.paths[url].read_bytes()


@pytest.mark.parametrize("ranges", [True, False])
def test_a_file_is_read_with_and_without_ranges(site: Site, ranges: bool, tmp_path: Path) -> None:
    site.ranges = ranges
    url = site.url("/clip.mp4")
    assert read_bytes(url) == CLIP
    assert read_range(url, 1_500_000, 1000) == CLIP[1_500_000:1_501_000]
    assert stat(url).size == len(CLIP)
    assert stat(url).version
    assert copied(Scratch(tmp_path, policy=allow(site)), url) == CLIP


def test_a_cut_transfer_and_server_errors_are_retried(site: Site, tmp_path: Path) -> None:
    url, scratch = site.url("/clip.mp4"), Scratch(tmp_path, policy=allow(site))
    site.cuts[:] = [0, 1_000_000, 100]
    assert read_bytes(url) == CLIP
    site.statuses[:] = [503, 429]
    assert copied(scratch, url) == CLIP
    site.cuts[:] = [400]
    assert read_range(url, 10, 1000) == CLIP[10:1010]
    before = len(site.requests)
    site.statuses[:] = [500] * 4
    with pytest.raises(UnavailableError, match="after 3 retries"):
        read_bytes(url)
    assert len(site.requests) == before + 4


def test_redirects_are_followed_only_to_allowed_hosts(site: Site, certificate: Path, tmp_path: Path) -> None:
    with Site(files={"/clip.mp4": CLIP, "/secret": b"internal"}).running(certificate) as other:
        site.redirects = {
            "/near": "/clip.mp4",
            "/twice": "/far",
            "/far": other.url("/clip.mp4"),
            "/plain": f"http://localhost:{other.port}/secret",
            "/file": "file:///etc/passwd",
        }
        strict, wide = Scratch(tmp_path, policy=allow(site)), Scratch(tmp_path, policy=allow(site, other))
        assert copied(strict, site.url("/near")) == CLIP
        for path in ("/far", "/twice"):
            with pytest.raises(InputError, match=f"--allow-host localhost:{other.port}"):
                strict.copy([site.url(path)])
        with pytest.raises(InputError):  # the host of the URL alone, without a policy
            read_bytes(site.url("/far"))
        assert not other.requests
        for path in ("/plain", "/file"):
            with pytest.raises(InputError):
                wide.copy([site.url(path)])
        assert not other.requests
        assert copied(wide, site.url("/twice")) == CLIP


def test_a_signed_url_is_used_and_not_told(site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    site.signed = {"/clip.mp4"}
    signed, scratch = site.url(f"/clip.mp4?{SIGNATURE}"), Scratch(tmp_path, policy=allow(site))
    with scratch.copy([signed]) as copies:
        assert copies.paths[signed].name == "clip.mp4"
        assert copies.paths[signed].read_bytes() == CLIP
        texts = [str(list(copies.records.values())), str(copies), str(copies.paths[signed])]
    wrong = site.url("/clip.mp4?sig=wrong-signature")
    with pytest.raises(MissingError, match="forbidden") as caught:
        scratch.copy([wrong])
    texts.append(str(caught.value))
    site.redirects = {"/moved": f"https://elsewhere.org/x?{SIGNATURE}"}
    with pytest.raises(InputError, match=r"elsewhere\.org") as moved:
        scratch.copy([site.url("/moved")])
    site.statuses[:] = [500] * 4
    with pytest.raises(UnavailableError) as failed:
        read_bytes(signed)
    texts += [str(moved.value), str(failed.value), caplog.text]
    assert not any("5d1f00ba" in text or "wrong-signature" in text for text in texts), texts


def test_a_file_of_untold_size_stops_at_the_limit(site: Site, tmp_path: Path) -> None:
    site.ranges, site.chunked = False, True
    url = site.url("/clip.mp4")
    assert copied(Scratch(tmp_path, limit=len(CLIP), policy=allow(site)), url) == CLIP
    with pytest.raises(InputError, match="larger than"):
        Scratch(tmp_path / "small", limit=len(CLIP) - 1, policy=allow(site)).copy([url])
    assert not [path for path in (tmp_path / "small").rglob("*") if path.name == "clip.mp4"]


def test_an_unknown_certificate_is_refused_at_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", os.devnull)
    monkeypatch.setattr("time.sleep", lambda _: pytest.fail("no retry"))
    with pytest.raises(InputError, match="CERTIFICATE_VERIFY_FAILED"):
        read_bytes(site.url("/clip.mp4"))

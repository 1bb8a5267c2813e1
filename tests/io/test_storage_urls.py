"""Which URLs may be named where, and that what they hide is written nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from amodal_diffusion.basics import InputError
from amodal_diffusion.io.urls import UrlPolicy, file_name, is_url, join, local_path, public_name, redacted, scheme_of

SIGNED = (
    "https://bucket.s3.amazonaws.com/day%201/clip.mp4?X-Amz-Algorithm=AWS4-HMAC-SHA256"
    "&X-Amz-Credential=AKIAEXAMPLE%2F20260101%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Expires=3600"
    "&X-Amz-SignedHeaders=host&X-Amz-Signature=5d1f00ba"
)
SECRETS = ("AKIAEXAMPLE", "5d1f00ba", "aws4_request", "3600")


@pytest.mark.parametrize("url", ["s3://bucket/clip.mp4", "gs://b/x", "az://b/x", "https://host/x", "S3://bucket/x"])
def test_urls_of_known_schemes_are_read_through_a_service(url: str) -> None:
    assert is_url(url)
    assert local_path(url) is None


@pytest.mark.parametrize("name", ["clip.mp4", "/a/b::c", "C:\\clips\\a.mp4", "a:b/c", Path("s3:/x")])
def test_anything_without_a_scheme_is_a_local_path(name: str | Path) -> None:
    assert not is_url(name)
    assert local_path(name) == Path(name)


def test_a_file_url_is_a_local_path() -> None:
    assert local_path("file:///data/a%20b.mp4") == Path("/data/a b.mp4")
    assert not is_url("file:///data/a.mp4")
    with pytest.raises(InputError, match="a file of this machine"):
        local_path("file://elsewhere/a.mp4")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("ftp://host/clip.mp4", "expected a path or one of"),
        ("http://host/clip.mp4", "expected a path or one of"),
        ("github://org:repo@main/clip.mp4", "expected a path or one of"),
        ("zip://clip.mp4::s3://bucket/a.zip", "chained"),
        ("simplecache::s3://bucket/clip.mp4", "chained"),
        ("s3://bucket/a::file:///etc/passwd", "chained"),
        ("s3://key:secret@bucket/clip.mp4", "must not hold a user name"),
        ("https://user:secret@host/clip.mp4?token=secret", "must not hold a user name"),
        ("s3://", "expected a bucket or host"),
        ("s3:///key", "expected a bucket or host"),
        ("https://user:secret@host", "must not hold a user name"),
        ("://x", "expected a path or one of"),
    ],
)
def test_other_urls_are_refused_without_what_they_hide(url: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason) as caught:
        UrlPolicy().check(url)
    assert "secret" not in str(caught.value)


def test_a_list_from_a_url_names_no_local_files() -> None:
    remote = UrlPolicy.of_list("s3://bucket/list.csv")
    for location in ("clip.mp4", "file:///etc/passwd", Path("/etc/passwd")):
        with pytest.raises(InputError, match="no local files"):
            remote.check(location, "list.csv: line 2")
    remote.check("s3://other/clip.mp4")
    for origin in ("lists/list.csv", "file:///lists/list.csv"):
        UrlPolicy.of_list(origin).check("file:///clips/a.mp4")
        UrlPolicy.of_list(origin).check("a.mp4")


def test_https_is_read_from_allowed_hosts_only() -> None:
    policy = UrlPolicy.of_list("list.csv", ["Data.example.org:443", "data.example.org:8443"])
    policy.check("https://data.example.org/a.mp4?sig=1")
    policy.check("https://DATA.example.org:443/a.mp4")
    policy.check("https://data.example.org:8443/a.mp4")
    for url in (
        "https://data.example.org:444/a.mp4",
        "https://evil.org/data.example.org/a.mp4",
        "https://data.example.org.evil.org/a.mp4",
    ):
        with pytest.raises(InputError, match="--allow-host"):
            policy.check(url)
    for hop in ("http://data.example.org/a.mp4", "file:///etc/passwd", "s3://bucket/x"):
        with pytest.raises(InputError):
            policy.check_host(hop)


def test_files_below_a_folder() -> None:
    assert join("s3://bucket/out/", "clip/manifest.json") == "s3://bucket/out/clip/manifest.json"
    assert join("s3://bucket/what?", "a") == "s3://bucket/what?/a"
    assert join("https://host/out?token=1", "a") == "https://host/out/a?token=1"
    assert join("file:///out", "a") == Path("/out/a")
    assert join(Path("out"), "a/b") == Path("out/a/b")
    for name in ("../a", "a/../../b", "/etc/passwd", "", "a//b", "a\\..\\b", "s3://x/y"):
        with pytest.raises(InputError, match="not the name of a file below"):
            join("s3://bucket/out", name)


def test_names_of_local_copies() -> None:
    assert file_name(SIGNED) == "clip.mp4"
    assert file_name("https://host/a%2F..%2Fb%20c.png") == "a_.._b c.png"
    assert file_name("https://host/") == "host"
    assert file_name("s3://bucket/folder/..") == "input"
    long = file_name(f"s3://bucket/{'é' * 300}.mp4")
    assert len(long.encode()) <= 200
    assert long.endswith(".mp4")


def test_urls_are_written_without_user_password_and_query() -> None:
    assert public_name(SIGNED) == "https://bucket.s3.amazonaws.com/day%201/clip.mp4"
    assert public_name("https://me:secret@host:1/x?q#f") == "https://host:1/x"
    assert public_name("s3://bucket/a@b/c") == "s3://bucket/a@b/c"
    assert public_name("plain/path?x") == "plain/path?x"


@pytest.mark.parametrize(
    "text",
    [
        f"404 for {SIGNED}",
        f"ClientResponseError(403, url=URL('{SIGNED}'))",
        f"Max retries exceeded with url: {SIGNED.partition('amazonaws.com')[2]} (Caused by x)",
        SIGNED.partition("?")[2],
        f"<{SIGNED}>, then https://me:AKIAEXAMPLE@host/5d1f00ba?x=3600".replace("/5d1f00ba", ""),
        "SignatureDoesNotMatch: 5d1f00ba",
        "X-Amz-Credential=AKIAEXAMPLE/20260101/us-east-1/s3/aws4_request and more",
    ],
)
def test_texts_of_libraries_lose_what_urls_hide(text: str) -> None:
    shown = redacted(text, SIGNED)
    assert not any(secret in shown for secret in SECRETS), shown


def test_an_unknown_url_in_a_text_is_redacted_too() -> None:
    shown = redacted(f"moved to {SIGNED}, retry")
    assert shown == "moved to https://bucket.s3.amazonaws.com/day%201/clip.mp4 retry"
    assert redacted("no URL: a = b, really?") == "no URL: a = b, really?"
    assert redacted("a short query is a word", "https://host/x?a") == "a short query is a word"


def test_the_scheme_of_a_chain_behind_a_query_of_https_does_not_matter() -> None:
    assert scheme_of("https://host/x?a=b::c") == "https"

"""The real command with a login and tiny limits, over HTTP: what strangers and hostile files get."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import gradio
import httpx
import numpy as np
import pytest
from gradio.routes import App
from PIL import Image

from tests.app.web import Visitor, page
from tests.media import encode, moving_disc

pytestmark = pytest.mark.slow  # the page starts; test_guard.py and test_materials.py ask the same of its parts
FRAMES = 4
RGB, _ = moving_disc(FRAMES, 48, 64)
OPEN = {"/", "/login", "/login/", "/theme.css", "/favicon.ico", "/robots.txt", "/manifest.json",
        "/assets/{path}", "/static/{path}", "/svelte/{path}", "/gradio_api/startup-events"}  # fmt: skip
"""Routes that show or take the form of the login, and one that starts the queue."""


@pytest.fixture(scope="module")
def temporary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the command keeps its files."""
    return tmp_path_factory.mktemp("temporary")


@pytest.fixture(scope="module")
def url(temporary: Path) -> Iterator[str]:
    logins = temporary / "logins.txt"
    logins.write_text("ann:pass:word\nbob:secret\n")
    logins.chmod(0o644)
    limits = ["--max-upload", "1", "--max-frames", "5", "--max-megapixels", "0.01", "--max-seconds", "30"]
    with page(temporary, "--auth-file", str(logins), *limits, "--session-quota", "3") as address:
        yield address


@pytest.fixture
def ann(url: str) -> Visitor:
    """Somebody with a name and a password, in a new browser."""
    return Visitor(url, user="ann", password="pass:word")


@pytest.fixture
def stranger(url: str) -> Visitor:
    return Visitor(url)


def routes() -> set[tuple[str, str]]:
    """Method and path of every route that Gradio has."""
    with gradio.Blocks() as blocks:
        pass
    paths = App.create_app(blocks).openapi()["paths"]
    return {(method.upper(), path) for path, methods in paths.items() for method in methods} | {
        ("GET", "/openapi.json")
    }


def test_no_route_answers_without_a_login(stranger: Visitor) -> None:
    asked = routes()
    assert {("POST", "/gradio_api/upload"), ("POST", "/gradio_api/queue/join"), ("GET", "/config")} <= asked
    assert any(path.startswith("/gradio_api/file=") for _, path in asked)
    for method, path in sorted(asked):
        if path in OPEN:
            continue
        place = re.sub(r"{[^}]*}", "x", path)
        answer = stranger.http.request(method, place, json={} if method == "POST" else None)
        assert answer.status_code == 401, (method, path)
        assert "log in" in answer.text or method == "HEAD"


def test_nobody_passes_the_queue_by(ann: Visitor) -> None:
    """Two runs at once would share the state of the networks."""
    for name in ("complete", "load_clip", "upload"):
        for kind in ("run", "api"):
            answer = ann.http.post(f"/gradio_api/{kind}/{name}", json={"data": [[]], "fn_index": 3})
            assert answer.status_code in (401, 403, 404), answer.text


def test_the_form_of_the_login_tells_nothing_of_the_page(stranger: Visitor) -> None:
    form = stranger.http.get("/")
    assert form.status_code == 200
    assert "auth_required" in form.text
    assert "load_clip" not in form.text
    assert "Whole objects" not in form.text


@pytest.mark.parametrize(("user", "password"), [("ann", "secret"), ("bob", ""), ("eve", "secret"), ("ann", "pass")])
def test_a_wrong_password_opens_nothing(stranger: Visitor, user: str, password: str) -> None:
    assert stranger.http.post("/login", data={"username": user, "password": password}).status_code >= 400
    assert stranger.http.get("/config").status_code == 401


def test_uploads_and_files_need_a_login(ann: Visitor, stranger: Visitor, temporary: Path) -> None:
    path = ann.upload("clip.png", b"hers")
    assert ann.file(path).content == b"hers"
    before = {*temporary.rglob("*")}
    refused = stranger.http.post("/gradio_api/upload", files={"files": ("clip.png", b"x")})
    assert refused.status_code == 401
    assert {*temporary.rglob("*")} == before
    for route in ("/gradio_api/file={}", "/gradio_api/file/{}", "/file={}"):
        assert stranger.http.get(route.format(path)).status_code == 401
    stolen = httpx.Client(
        base_url=str(ann.http.base_url), cookies={"amodal_visitor": ann.http.cookies["amodal_visitor"]}
    )
    assert stolen.get(f"/gradio_api/file={path}").status_code == 401


def test_users_of_one_browser_do_not_see_each_others_files(ann: Visitor) -> None:
    path = ann.upload("clip.png", b"hers")
    ann.http.get("/logout")
    assert ann.file(path).status_code == 401
    ann.http.post("/login", data={"username": "bob", "password": "secret"}).raise_for_status()
    assert ann.file(path).status_code == 403


def test_a_request_that_another_site_sends_is_refused(ann: Visitor) -> None:
    for headers in ({"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
        assert ann.http.post("/gradio_api/queue/join", json={}, headers=headers).status_code == 403
    assert ann.http.get("/config", headers={"Origin": "https://evil.example"}).status_code == 403
    own = str(ann.http.base_url).rstrip("/")
    assert ann.http.get("/config", headers={"Origin": own}).status_code == 200


def video(tmp_path: Path, *, frames: int = FRAMES, size: int = 48, fps: float = 8) -> bytes:
    rgb = np.zeros((frames, size, size, 3), np.uint8)
    return encode(tmp_path / "made.mp4", rgb, fps=fps).read_bytes()


def picture(size: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (size, size)).save(file, "PNG")
    return file.getvalue()


def packed(entries: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return file.getvalue()


def test_a_clip_within_the_limits_is_taken(ann: Visitor, tmp_path: Path) -> None:
    assert ann.load("load_clip", ("clip.mp4", video(tmp_path))) == ""


def test_limits_name_what_came_and_the_option(ann: Visitor, tmp_path: Path) -> None:
    for name, content, said in (
        ("long.mp4", video(tmp_path, frames=9), r"9 frames, this page takes at most 5; .*--max-frames 9"),
        ("large.mp4", video(tmp_path, size=128), r"128x128 pixels, this page takes at most 0\.01 million"),
        ("slow.mp4", video(tmp_path, fps=0.1), r"40 seconds, this page takes at most 30; .*--max-seconds 40"),
        ("large.png", picture(128), r"128x128 pixels"),
        (
            "many.zip",
            packed({f"{index}.png": picture(8) for index in range(9)}),
            r"9 frames, this page takes at most 5",
        ),
        ("bomb.zip", packed({"0.png": bytes(9 * 2**20)}), r"9 MiB unpacked, this page takes at most 1 MiB"),
    ):
        error = ann.load("load_clip", (name, content))
        assert re.search(said, error), (name, error)


def test_names_do_not_decide_what_a_file_is(ann: Visitor, tmp_path: Path) -> None:
    for name, content, said in (
        (
            "clip.txt",
            b"hello",
            "a zip of pictures, or pictures, such as .mp4, .zip, .png; got clip.txt",
        ),
        ("clip.mp4", b"hello", "not a video"),
        ("clip.mp4", packed({"0.png": picture(8)}), "a zip that is named otherwise"),
        ("clip.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n", "not a picture"),
        ("clip.png", video(tmp_path), "not a picture"),
        ("clip.zip", b"PK\x03\x04", "cannot be unpacked"),
        ("clip.zip", packed({"../../0.png": picture(8)}), "points out of it"),
    ):
        assert said in ann.load("load_clip", (name, content)), name


@pytest.mark.parametrize(
    "playlist",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{}\n",  # one that never ends
        "ffconcat version 1.0\nfile '{}'\n",
        "ffconcat version 1.0\nfile clip.mp4\n",  # itself
        "<?xml version='1.0'?><MPD xmlns='urn:mpeg:dash:schema:mpd:2011'><BaseURL>{}</BaseURL></MPD>",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
    ],
)
@pytest.mark.parametrize("handler", ["load_clip", "load_masks"])
def test_a_playlist_opens_no_other_video_of_the_server(
    ann: Visitor, temporary: Path, tmp_path: Path, playlist: str, handler: str
) -> None:
    """The other video is one that FFmpeg takes as a part of a playlist, and that the server may read."""
    secret = encode(tmp_path / "secret.ts", RGB)
    if handler == "load_masks":
        assert ann.load("load_clip", ("clip.mp4", video(tmp_path))) == ""
    for name in ("clip.mp4", "clip.ts"):
        error = ann.load(handler, (name, playlist.format(secret).encode()))
        assert error == f"{name}: a playlist or list of files, which is never opened; give the video that it names"
    assert ann.file(secret).status_code == 403
    pictures = [file for file in temporary.rglob("*.jpg") if np.asarray(Image.open(file)).any()]
    assert pictures == []  # the clips that these tests load are black


def test_a_visitor_fills_no_more_of_the_disk_than_the_quota(ann: Visitor) -> None:
    for index in range(2):
        ann.upload("clip.png", bytes([index]) * 2**20)
    refused = ann.http.post("/gradio_api/upload", files={"files": ("clip.png", bytes([9]) * 2**20)})
    assert refused.status_code == 413
    assert "at most 3 MiB a visitor" in refused.text
    many = {f"files{index}": ("clip.png", bytes([index]) * 2**20) for index in range(3)}
    refused = ann.http.post("/gradio_api/upload", files=many)  # each of them small enough
    assert refused.status_code == 413


def test_an_upload_that_does_not_tell_its_size_is_cut_off(ann: Visitor) -> None:
    def body() -> Iterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
        for _ in range(64):
            yield bytes(2**16)

    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    assert ann.http.post("/gradio_api/upload", content=body(), headers=kind).status_code == 413


def test_files_are_taken_by_the_upload_alone(ann: Visitor) -> None:
    for route in ("component_server", "run/use_painting"):
        answer = ann.http.post(f"/gradio_api/{route}", files={"files": ("a.png", b"picture")})
        assert answer.status_code == 415, route


def test_the_host_is_told_of_a_file_of_passwords_that_others_may_read(url: str, temporary: Path) -> None:
    assert url
    said = (temporary / "stderr.txt").read_text()
    assert re.search(r"--auth-file: other users of this computer may open .*logins\.txt \(mode 644\)", said)
    assert "Traceback" not in said

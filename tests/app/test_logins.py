"""Names and passwords: their form, where they may stand, and what is never said of them."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from amodal_diffusion.app.logins import Logins, read_logins
from amodal_diffusion.app.materials import Limits
from amodal_diffusion.app.server import Address, Policy
from amodal_diffusion.basics import InputError
from amodal_diffusion.cli import main


def written(tmp_path: Path, content: bytes, mode: int = 0o600) -> Path:
    path = tmp_path / "logins.txt"
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_a_line_is_a_user_and_a_password(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    logins = read_logins(written(tmp_path, b"\xef\xbb\xbfann:pass:word \r\n\r\nb\xc3\xb6b: secret\n"), {})
    assert logins is not None
    assert logins.check("ann", "pass:word ")
    assert logins.check("b\u00f6b", " secret")
    for user, password in (("ann", "pass:word"), ("ann", " secret"), ("ann:pass", "word "), ("", ""), ("eve", "x")):
        assert not logins.check(user, password)
    assert "pass" not in repr(logins)
    assert caplog.records == []


def test_every_user_is_compared_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the time of an answer does not tell which names there are."""
    compared: list[tuple[int, int]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return one == other

    monkeypatch.setattr("amodal_diffusion.app.logins.hmac.compare_digest", compare)
    logins = Logins({"ann": "a", "bob": "a long one", "eve": "b"})
    for user, password in (("ann", "a"), ("eve", "b"), ("nobody", "x" * 100)):
        compared.clear()
        logins.check(user, password)
        assert compared == [(64, 64)] * 3


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "expected a line user:password"),
        (b"ann:hidden\nbobhidden\n", "line 2: expected user:password"),
        (b":hidden", "line 1: expected user:password"),
        (b"ann:", "line 1: expected user:password"),
        (b"ann:hidden\nann:hidden2\n", "line 2: a second password for user ann"),
        (b"ann:hidden\xff", "cannot be read"),
    ],
)
def test_a_wrong_form_is_one_line_without_the_password(
    tmp_path: Path, content: bytes, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["app", "--auth-file", str(written(tmp_path, content))]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "hidden" not in error
    assert len(error.splitlines()) == 1


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"auth-file: .*none: cannot be read"):
        read_logins(tmp_path / "none", {})


def test_the_environment_may_hold_the_lines_and_does_so_no_longer(tmp_path: Path) -> None:
    environment = {"AMODAL_AUTH": "ann:secret\nbob:word"}
    logins = read_logins(None, environment)
    assert logins is not None
    assert logins.check("bob", "word")
    assert environment == {}
    assert read_logins(None, {}) is None
    for wrong in ("", "ann"):
        with pytest.raises(InputError, match="AMODAL_AUTH: "):
            read_logins(None, {"AMODAL_AUTH": wrong})
    with pytest.raises(InputError, match="AMODAL_AUTH is set as well"):
        read_logins(written(tmp_path, b"ann:x"), {"AMODAL_AUTH": "ann:x"})


@pytest.mark.parametrize(
    ("mode", "warns"), [(0o600, False), (0o400, False), (0o640, True), (0o604, True), (0o602, True)]
)
def test_a_file_that_others_may_open_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, mode: int, warns: bool
) -> None:
    with caplog.at_level(logging.WARNING):
        read_logins(written(tmp_path, b"ann:x", mode), {})
    assert bool(caplog.records) == warns


@pytest.mark.parametrize(
    ("host", "alone"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("127.9.9.9", True), ("0.0.0.0", False), ("::", False),
     ("192.168.0.7", False), ("page.example", False)],
)  # fmt: skip
def test_hosts_are_checked_where_nothing_else_protects(host: str, alone: bool) -> None:
    address, limits = Address(host, 7860), Limits(1, 1)
    assert address.is_loopback == alone
    assert Policy(limits).known_hosts(address) == (frozenset() if alone else None)
    assert Policy(limits, logins=Logins({"ann": "x"})).known_hosts(address) is None
    assert Policy(limits, hosts=frozenset({"a"})).known_hosts(address) == {"a"}

"""Who may use a page that others can reach: names and passwords, which never stand on the command line."""

from __future__ import annotations

import hashlib
import hmac
import logging
import stat
import sys
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path

from amodal_diffusion.basics import InputError

VARIABLE = "AMODAL_AUTH"
"""Environment variable that may hold the lines of ``--auth-file``."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Logins:
    """Names and passwords.

    Attributes:
        passwords: of each user; not part of ``repr``.
    """

    passwords: Mapping[str, str] = field(repr=False)

    def check(self, user: str, password: str) -> bool:
        """Whether a visitor gave a name and its password; takes as long for a wrong name as for a wrong password.

        Args:
            user: as it was typed.
            password: as it was typed.
        """
        given = _digest(user) + _digest(password)
        matches = [hmac.compare_digest(given, _digest(name) + _digest(word)) for name, word in self.passwords.items()]
        return any(matches)


def read_logins(path: Path | None, environment: MutableMapping[str, str]) -> Logins | None:
    """Read names and passwords from a file or the environment; None where neither is given.

    Args:
        path: UTF-8 text, a line ``user:password`` for each user.
        environment: the process's; the variable ``AMODAL_AUTH`` is removed, so that child processes do not see it.

    Raises:
        InputError: if both are given, the file cannot be read, or a line has another form. No message holds a password.
    """
    lines = environment.pop(VARIABLE, None)
    if path is None:
        return None if lines is None else _parse(lines, VARIABLE)
    if lines is not None:
        raise InputError(f"auth-file: {VARIABLE} is set as well; give one of them")
    try:
        text = path.read_text(encoding="utf-8-sig")
        mode = path.stat().st_mode
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise InputError(f"auth-file: {path}: cannot be read ({reason})") from error
    if sys.platform != "win32" and mode & (stat.S_IRWXG | stat.S_IRWXO):
        logger.warning(
            "--auth-file: other users of this computer may open %s (mode %03o); chmod 600 it", path, stat.S_IMODE(mode)
        )
    return _parse(text, f"auth-file: {path}")


def _parse(text: str, name: str) -> Logins:
    passwords: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        user, colon, password = line.partition(":")
        user = user.strip()
        if not (user and colon and password):
            raise InputError(f"{name}: line {number}: expected user:password")
        if user in passwords:
            raise InputError(f"{name}: line {number}: a second password for user {user}")
        passwords[user] = password
    if not passwords:
        raise InputError(f"{name}: expected a line user:password for each user, got no line")
    return Logins(passwords)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()

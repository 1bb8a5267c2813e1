"""Which locations may be named, where, and how a URL is written for people: without user name, password and query."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from amodal_diffusion.basics import InputError

Location = str | Path
"""A local path or a URL; a `Path` is always local."""

BUCKETS = ("s3", "gs", "az", "memory")
"""Schemes that fsspec opens; ``memory`` lives in one process, for tests and try-outs."""
INPUT_ONLY = "https"
LOCAL = "file"
_SHOWN = ("s3", "gs", "az", INPUT_ONLY, LOCAL)

_SCHEME = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://")
_CHAIN = "::"
_SHORTEST_SECRET = 8  # characters; shorter parts of a URL would be found in other words
_LONGEST_NAME = 200  # bytes; file systems allow 255
_URL_IN_TEXT = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s\"'<>|\\^`{}]+")
_QUERY_IN_TEXT = re.compile(r"\?[^\s\"'<>?]*=[^\s\"'<>]*")  # "with url: /clip.mp4?X-Amz-Signature=..."
_SECRET_IN_TEXT = re.compile(  # parameters of signed URLs without the rest of the URL
    r"\b(X-(?:Amz|Goog|Ms)-[\w-]+|AWSAccessKeyId|GoogleAccessId|Signature|sig|token|access_token)=[^\s&\"'<>]+",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class UrlPolicy:
    """What a list, a configuration or a command line may name.

    Attributes:
        hosts: hosts that ``https`` may read from, as ``HOST`` (port 443) or ``HOST:PORT``, in lower case.
        local: whether local paths and ``file://`` may be named; not by a list that comes from a URL.
    """

    hosts: frozenset[str] = frozenset()
    local: bool = True

    @classmethod
    def of_list(cls, location: Location, hosts: Iterable[str] = ()) -> Self:
        """The policy for what a list or configuration names.

        Args:
            location: where the list itself comes from; its host is not allowed by that.
            hosts: values of ``--allow-host``.
        """
        return cls.of_hosts(hosts, local=local_path(location) is not None)

    @classmethod
    def of_hosts(cls, hosts: Iterable[str], *, local: bool = True) -> Self:
        """The policy that allows some hosts.

        Args:
            hosts: values of ``--allow-host``.
            local: whether local paths may be named.
        """
        return cls(frozenset(host.lower().removesuffix(":443") for host in hosts), local=local)

    def check(self, location: Location, argument: str = "input") -> None:
        """Refuse a location that may not be named here.

        Args:
            location: a path or URL as written.
            argument: what the message begins with.

        Raises:
            InputError: if its scheme is unknown, it is a chain, names a user, or is not allowed here.
        """
        scheme = scheme_of(location, argument)
        if scheme in (None, LOCAL) and not self.local:
            raise InputError(
                f"{argument}: {public_name(location)}: a list that comes from a URL may name URLs only, no local files"
            )
        if scheme == INPUT_ONLY:
            self.check_host(str(location), argument)

    def check_host(self, url: str, argument: str = "input") -> None:
        """Refuse to send a request; called for the URL itself and for each redirect.

        Raises:
            InputError: if it is no ``https`` or its host is not among ``hosts``.
        """
        if scheme_of(url, argument) != INPUT_ONLY:
            raise InputError(f"{argument}: {public_name(url)}: expected an https URL")
        host = host_of(url)
        if host not in self.hosts:
            raise InputError(f"{argument}: {public_name(url)}: https needs --allow-host {host}")


def scheme_of(location: Location, argument: str = "input") -> str | None:
    """Scheme of a URL in lower case; None for a local path.

    Args:
        location: a path or URL.
        argument: what messages begin with.

    Raises:
        InputError: if it is a URL that is never read: another scheme, a chain of filesystems, or one with a user name.
    """
    if isinstance(location, Path) or "://" not in location:
        return None
    found = _SCHEME.match(location)
    scheme = found["scheme"].lower() if found else ""
    if _CHAIN in (location.partition("?")[0] if scheme == INPUT_ONLY else location):
        raise InputError(f"{argument}: {public_name(location)}: chained URLs ({_CHAIN}) are not read; give a plain one")
    if scheme not in (*BUCKETS, INPUT_ONLY, LOCAL):
        shown = ", ".join(f"{name}://" for name in _SHOWN)
        raise InputError(f"{argument}: {public_name(location)}: expected a path or one of {shown}")
    place = location.partition("://")[2].partition("/")[0]
    if not place and scheme != LOCAL:
        raise InputError(f"{argument}: {public_name(location)}: expected a bucket or host after {scheme}://")
    if "@" in place:
        raise InputError(
            f"{argument}: {public_name(location)}: a URL must not hold a user name or password; credentials come from "
            "the environment or the provider's own files"
        )
    return scheme


def is_url(location: Location) -> bool:
    """Whether a location is read through a storage service; ``file://`` and paths are local.

    Raises:
        InputError: as :func:`scheme_of`.
    """
    return scheme_of(location) not in (None, LOCAL)


def local_path(location: Location) -> Path | None:
    """Path of a local location; None for a URL of a storage service.

    Raises:
        InputError: as :func:`scheme_of`, or if ``file://`` names another machine.
    """
    scheme = scheme_of(location)
    if scheme is None:
        return Path(location)
    if scheme != LOCAL:
        return None
    parts = urlsplit(str(location))
    if parts.netloc not in ("", "localhost"):
        raise InputError(f"input: {public_name(location)}: expected file:///PATH, a file of this machine")
    return Path(url2pathname(parts.path))


def host_of(url: str) -> str:
    """``HOST`` of an https URL, or ``HOST:PORT`` if the port is not 443; in lower case.

    Raises:
        InputError: if the port is no number.
    """
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError as error:
        raise InputError(f"input: {public_name(url)}: its port is no number") from error
    host = parts.hostname or ""
    return host if port in (None, 443) else f"{host}:{port}"


def is_relative(name: str) -> bool:
    """Whether a name, with ``/`` between its parts, leads to a file below any folder."""
    return not ({"", ".", ".."} & set(name.split("/")) or "\\" in name or "://" in name or "\0" in name)


def join(location: Location, name: str) -> Location:
    """Location of a file below a folder.

    Args:
        location: the folder.
        name: relative, with ``/`` between its parts.

    Returns:
        a `Path` for a local folder, else a URL.

    Raises:
        InputError: if the name leads out of the folder.
    """
    if not is_relative(name):
        raise InputError(f"{public_name(location)}: {name!r} is not the name of a file below it")
    path = local_path(location)
    if path is not None:
        return path.joinpath(*name.split("/"))
    address, mark, query = (
        str(location).partition("?") if scheme_of(location) == INPUT_ONLY else (str(location), "", "")
    )
    return f"{address.rstrip('/')}/{name}{mark}{query}"


def public_name(location: Location) -> str:
    """A location as people may read it: a URL without user name, password, query and fragment; a path as it is."""
    text = str(location)
    found = _SCHEME.match(text)
    if isinstance(location, Path) or not found:
        return text if isinstance(location, Path) or "://" not in text else redacted(text)
    rest = re.split(r"[?#]", text[found.end() :], maxsplit=1)[0]
    host, slash, path = rest.partition("/")
    return f"{text[: found.end()]}{host.rpartition('@')[2]}{slash}{path}"


def file_name(location: Location) -> str:
    """Name of the local copy of a URL: its last part, which tells the format."""
    last = public_name(location).rstrip("/").rpartition("/")[2]
    name = unquote(last) if scheme_of(location) == INPUT_ONLY else last
    name = "".join("_" if character in "/\\\0" else character for character in name)
    while len(name.encode()) > _LONGEST_NAME:
        name = name[1:]  # the end has the suffix
    return "input" if name in ("", ".", "..") else name


def redacted(text: str, *secrets: Location) -> str:
    """A text of a library, such as an error, without what URLs in it hide.

    Args:
        text: may contain URLs, or the query of one.
        secrets: locations that the text is about; their queries and users are removed wherever they stand.
    """
    for secret in secrets:
        text = _without(text, str(secret))
    text = _URL_IN_TEXT.sub(lambda found: public_name(found[0]), text)
    return _SECRET_IN_TEXT.sub(lambda found: f"{found[1]}=...", _QUERY_IN_TEXT.sub("", text))


def _without(text: str, url: str) -> str:
    """Remove the query and the user of a URL from a text, whole and in parts, as they are and percent-decoded."""
    if "://" not in url:
        return text
    text = text.replace(url, public_name(url))
    user = url.partition("://")[2].partition("/")[0].rpartition("@")[0]
    query = url.partition("?")[2]
    parts = [query, user, *user.split(":"), *(part.partition("=")[2] for part in query.split("&"))]
    secrets = {written for part in parts for written in (part, unquote(part)) if len(written) >= _SHORTEST_SECRET}
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "...")
    return text

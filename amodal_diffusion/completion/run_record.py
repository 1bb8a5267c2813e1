"""`run.json`: the settings of a batch and the process that drives it; other settings or a second run are refused."""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from uuid import uuid4

from amodal_diffusion.basics import InputError
from amodal_diffusion.completion.request import CompletionRequest
from amodal_diffusion.io.atomic import DIGESTS, PARTIAL, REPLACED
from amodal_diffusion.io.retries import UnavailableError
from amodal_diffusion.io.storage import MissingError, create, join, read_bytes, remove, write_bytes
from amodal_diffusion.io.urls import Location, local_path, public_name

if TYPE_CHECKING:
    from amodal_diffusion.completion.networks import Places

RUN = "run.json"
_FORMAT = 1
_ID = re.compile("[0-9a-f]{32}")
_LOOK_AGAIN = 10.0  # seconds between looks at whether another run has taken over


class TakenOverError(InputError):
    """Another run drives the folder now."""


@dataclass(frozen=True)
class RunIdentity:
    """What all results of a folder have in common.

    Attributes:
        settings: of every clip, as JSON values.
        version: of this package.
        weights: digest, or repository and commit, of each network.
    """

    settings: Mapping[str, Any]
    version: str
    weights: Mapping[str, str]

    @classmethod
    def of(cls, base: CompletionRequest, places: Places) -> Self:
        """The identity of a run.

        Args:
            base: settings that all clips share.
            places: folders of its networks.
        """
        settings = json.loads(json.dumps(base.settings()))
        return cls(settings, settings.pop("version"), weights_of(places))

    def differences(self, found: Mapping[str, Any]) -> list[str]:
        """Names of the settings, and ``version`` and ``weights``, in which a record differs."""
        old = found.get("settings")
        old = old if isinstance(old, dict) else {}
        names = [name for name in sorted({*old, *self.settings}) if old.get(name) != self.settings.get(name)]
        names += [name for name in ("version", "weights") if found.get(name) != getattr(self, name)]
        return names


def weights_of(places: Places) -> dict[str, str]:
    """What identifies the weights in each folder of networks, the same on every machine that has the same weights."""
    folders: dict[str, Path | None] = {"depth": places.depth, "segmenter": places.segmenter, "vae": places.vae}
    folders |= {str(stage): folder for stage, folder in places.stages.items()}
    return {name: _digest(folder) for name, folder in folders.items() if folder is not None}


def _digest(folder: Path) -> str:
    """Repository and commit of downloaded weights, else a SHA-256; `manifest.json` stands for the files it lists."""
    from amodal_diffusion.models.downloads import read_source

    source = read_source(folder)
    if source is not None:
        return f"{source.repository}@{source.commit}"
    listed = folder / DIGESTS
    if listed.is_file():  # loading compares the files with it
        return hashlib.sha256(listed.read_bytes()).hexdigest()
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            digest.update(f"{path.relative_to(folder)}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()


class RunFile:
    """`run.json` in a folder: read, created unless it exists, and replaced unless it has changed."""

    def __init__(self, folder: Path) -> None:
        """Name the file.

        Args:
            folder: of all results; must exist.
        """
        self.folder: Location = folder
        self.path = folder / RUN
        self.name = str(self.path)

    def read(self) -> str | None:
        """The text; None without a file.

        Raises:
            OSError: if it cannot be read.
        """
        try:
            return self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None

    def create(self, text: str) -> bool:
        """Create the file in one step with all its text; False if it exists.

        Raises:
            OSError: if the folder cannot be written.
        """
        whole = self._beside(PARTIAL)
        try:
            _write(whole, text)
            return self._give_name(whole, text)
        finally:
            whole.unlink(missing_ok=True)

    def replace(self, text: str | None, *, expected: str) -> bool:
        """Replace the file, or remove it for None; False if its text is no longer the expected one.

        Of two processes that replace the same text, one renames the file and the other finds none. A process that is
        killed before the new text has the name leaves the old file beside it, see :meth:`recover`.

        Raises:
            OSError: if the folder cannot be written.
        """
        whole, aside = self._beside(PARTIAL), self._beside(REPLACED)
        try:
            if text is not None:
                _write(whole, text)  # now, so that there is no record for the time of two renames at most
            self.path.rename(aside)
            found = aside.read_text(encoding="utf-8")
            if found != expected:  # it is newer, and another run's
                self._give_name(aside, found)
            replaced = found == expected and (text is None or self._give_name(whole, text))
            aside.unlink(missing_ok=True)
        except FileNotFoundError:  # there is no record, or its new owner has removed what lay beside it
            return False
        except BaseException:
            self.recover()
            raise
        finally:
            whole.unlink(missing_ok=True)
        return replaced

    def recover(self) -> None:
        """Give the record its name again if a process was killed while it replaced the file.

        Raises:
            OSError: if the folder cannot be written.
        """
        if self.path.exists():
            return
        with suppress(FileNotFoundError):  # its process is at work after all
            left = sorted(self.path.parent.glob(f"{RUN}.*{REPLACED}"), key=lambda path: path.stat().st_mtime_ns)
            if left:
                self._give_name(left[-1], left[-1].read_text(encoding="utf-8"))

    def remove_leftovers(self) -> None:
        """Remove what a process left that was killed while it created or replaced the file."""
        for suffix in (PARTIAL, REPLACED):
            for path in self.path.parent.glob(f"{RUN}.*{suffix}"):
                path.unlink(missing_ok=True)

    def _beside(self, suffix: str) -> Path:
        return self.path.with_name(f"{self.path.name}.{uuid4().hex}{suffix}")

    def _give_name(self, whole: Path, text: str) -> bool:
        """Give the name to a file with this text; False if there is one of this name."""
        try:
            os.link(whole, self.path)
        except FileExistsError:
            return False
        except OSError:  # no links here, as on some network folders: others may see an empty file for an instant
            return _write(self.path, text)
        return True


def _write(path: Path, text: str) -> bool:
    """Write a new file to the disk; False if it exists."""
    try:
        file = path.open("x", encoding="utf-8")
    except FileExistsError:
        return False
    try:
        with file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:  # such as a full disk: half a record would stop the next run
        path.unlink(missing_ok=True)
        raise
    return True


class BucketRunFile(RunFile):
    """`run.json` in a bucket."""

    def __init__(self, folder: Location) -> None:
        """Name the object.

        Args:
            folder: URL of the bucket or of a folder in it.
        """
        self.folder = folder
        self._location = join(folder, RUN)
        self.name = public_name(self._location)

    def read(self) -> str | None:
        """The text; None without an object.

        Raises:
            InputError: if it cannot be read.
        """
        try:
            return read_bytes(self._location).decode("utf-8", "replace")
        except MissingError as error:
            if error.forbidden:
                raise
            return None

    def create(self, text: str) -> bool:
        """Create the object; False if it exists. Of several processes that try, one succeeds.

        Raises:
            InputError: if the bucket cannot be written.
        """
        return create(self._location, text.encode())

    def replace(self, text: str | None, *, expected: str) -> bool:
        """Replace the object, or remove it for None; False if its text is no longer the expected one.

        Storage services compare nothing on writing that fsspec passes on: of two processes that replace the same text
        at the same moment both go on, until :meth:`RunClaim.check` tells one of them.

        Raises:
            InputError: if the bucket cannot be written.
        """
        if self.read() != expected:
            return False
        if text is None:
            remove(self._location)
        else:
            write_bytes(self._location, text.encode())
        return True

    def recover(self) -> None:
        """Nothing: an object is replaced in one step."""

    def remove_leftovers(self) -> None:
        """Nothing: an object is created and replaced in one step."""


def run_file(folder: Location) -> RunFile:
    """`run.json` of a folder or bucket.

    Args:
        folder: of all results; a local one must exist.
    """
    path = local_path(folder)
    return BucketRunFile(folder) if path is None else RunFile(path)


class RunClaim:
    """The right of this process to drive a run, until another takes it over.

    Attributes:
        binds: whether the settings bind later runs: there was a record, or a clip has been completed.
        marker: a file beside the record, of a name of its own, by which workers tell whether they see the same folder.
            The run that writes it removes it; if it is killed, the next one does.
    """

    def __init__(self, file: RunFile, text: str, *, binds: bool) -> None:
        """Remember what was written.

        Args:
            file: names this process as the driver.
            text: of the file.
            binds: whether there was a record before.
        """
        self._file, self._text, self.binds = file, text, binds
        self.marker = join(file.folder, _marker_of(json.loads(text)["driver"]))
        self._looked = time.monotonic()

    def check(self) -> None:
        """Look whether this run still owns the folder, at most every ten seconds.

        Raises:
            TakenOverError: if another run has taken over.
        """
        if time.monotonic() - self._looked < _LOOK_AGAIN:
            return
        self._looked = time.monotonic()
        try:
            found = self._file.read()
        except UnavailableError:
            return  # the results tell whether the bucket answers
        if found != self._text:
            raise TakenOverError(f"out: {self._file.name}: another run has taken over; this one ends")

    def release(self) -> None:
        """Note that no run is at work, or remove a record that binds nobody; what another run has written stays."""
        freed = _to_json({**json.loads(self._text), "driver": None}) if self.binds else None
        self._file.replace(freed, expected=self._text)


@contextmanager
def claimed(file: RunFile, identity: RunIdentity, *, overwrite: bool, take_over: bool) -> Iterator[RunClaim]:
    """Own a folder of results while the context lasts.

    Args:
        file: its record; created by the first run.
        identity: of this run.
        overwrite: accept a record of another identity, and replace it.
        take_over: accept that the record names a run that is at work.

    Raises:
        InputError: if the folder belongs to a run with other settings, or another run is at work.
    """
    driver = {"host": socket.gethostname(), "pid": os.getpid(), "id": uuid4().hex, "begun": _now()}
    record = {"format": _FORMAT, "driver": driver, "version": identity.version}
    text = _to_json({**record, "settings": identity.settings, "weights": identity.weights})
    try:
        file.recover()
        found = file.read()
        before = _check(file.name, found, identity, overwrite=overwrite, take_over=take_over) if found else None
        owned = file.create(text) if found is None else file.replace(text, expected=found)
    except OSError as error:
        raise InputError(f"out: {file.name}: cannot be written ({error.strerror or error})") from error
    if not owned:
        raise InputError(f"out: {file.name}: another run has begun at the same moment; wait for it to end")
    file.remove_leftovers()
    if before is not None:  # it did not end by itself
        with suppress(InputError):  # a marker is in nobody's way
            remove(join(file.folder, _marker_of(before)))
    claim = RunClaim(file, text, binds=bool(found))
    try:
        yield claim
    finally:
        # Such as a full disk; the next run on this machine sees that the process is gone.
        with suppress(OSError, InputError):
            claim.release()


def _check(
    name: str, text: str, identity: RunIdentity, *, overwrite: bool, take_over: bool
) -> Mapping[str, Any] | None:
    """The driver that a record names, None if it names none; raises an InputError if a run may not go on from it."""
    try:
        found = json.loads(text)
        driver = found["driver"]
        if found["format"] != _FORMAT or not (driver is None or _ID.fullmatch(driver["id"])):
            raise ValueError("another format")
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"out: {name}: not a record of this version ({error}); move it away") from error
    if driver is not None and not take_over and not _is_gone(driver):
        raise InputError(
            f"out: {name}: a run is at work (host {driver.get('host')}, process {driver.get('pid')}, since "
            f"{driver.get('begun')}); wait for it, or give --take-over if it no longer runs"
        )
    different = identity.differences(found)
    if different and not overwrite:
        raise InputError(
            f"out: {name}: begun with other {', '.join(different)}; give the same, choose another folder, or "
            "--overwrite to replace the results"
        )
    return driver


def _marker_of(driver: Mapping[str, Any]) -> str:
    """Name of the marker of a driver."""
    return f".shared-{driver['id']}"


def _is_gone(driver: Mapping[str, Any]) -> bool:
    """Whether the process of a driver surely runs no more: one of this host that does not exist."""
    if sys.platform == "win32" or driver.get("host") != socket.gethostname():
        return False
    try:
        os.kill(int(driver["pid"]), 0)
    except ProcessLookupError:
        return True
    except (OSError, ValueError, KeyError):
        return False
    return False


def _to_json(record: Mapping[str, Any]) -> str:
    return json.dumps(record, indent=2) + "\n"


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")

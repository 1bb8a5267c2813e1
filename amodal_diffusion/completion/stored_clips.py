"""Clips whose inputs are given by URL, and results that go to a bucket: copies in, uploads out, markers."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Self

from amodal_diffusion.basics import InputError, one_line
from amodal_diffusion.completion.request import CompletionRequest
from amodal_diffusion.completion.storage_options import StorageOptions
from amodal_diffusion.data.clip_list import ClipEntry, ClipList
from amodal_diffusion.io.atomic import PARTIAL, write_text
from amodal_diffusion.io.manifest import MANIFEST, InputRecord, differences, identity_of, read_manifest
from amodal_diffusion.io.retries import UnavailableError
from amodal_diffusion.io.scratch import LIMIT, Copies, Scratch
from amodal_diffusion.io.storage import MissingError, join, read_bytes, remove, write_bytes
from amodal_diffusion.io.transfers import list_files, marked, names_below, upload_folder
from amodal_diffusion.io.urls import Location, UrlPolicy, is_url, local_path, public_name, redacted

_LOOK_AHEAD = 1000  # clips whose markers are looked up together
_UPLOADS = f"{MANIFEST}{PARTIAL}"
"""Object that lists the files of a result before the first of them is uploaded."""


def arguments_of(entry: ClipEntry) -> dict[str, Location]:
    """The inputs of a clip, by the names that its manifest gives them."""
    named = {"clip": entry.clip, "masks": entry.masks, "depth": entry.depth_location}
    return {argument: location for argument, location in named.items() if location is not None}


def without_secrets(text: str, entry: ClipEntry, names: Mapping[str, str]) -> str:
    """A message about a clip as people may read it.

    Args:
        text: may name URLs, and local paths of copies.
        entry: line of the list.
        names: what each copied input is called, by its local path.
    """
    for path, name in names.items():
        text = text.replace(path, name)
    return redacted(text, *arguments_of(entry).values())


@dataclass(frozen=True)
class ClipFiles:
    """Local paths of the inputs of a clip.

    Attributes:
        paths: by location.
        records: of the inputs that were copied, by location.
        copies: to be released when the clip has ended; None if nothing was copied.
    """

    paths: Mapping[Location, Path]
    records: Mapping[Location, InputRecord] = field(default_factory=dict)
    copies: Copies | None = None

    @classmethod
    def named(cls, entry: ClipEntry) -> Self:
        """The inputs of a clip before they are copied: a URL stands for itself."""
        locations = arguments_of(entry).values()
        return cls({location: local_path(location) or Path(public_name(location)) for location in locations})

    @property
    def names(self) -> dict[str, str]:
        """What each input that is given by URL is called, by its local path."""
        return {str(path): public_name(location) for location, path in self.paths.items() if is_url(location)}

    def records_of(self, entry: ClipEntry) -> dict[str, InputRecord]:
        """The records of the inputs that were copied, by argument.

        Args:
            entry: line of the list.
        """
        arguments = arguments_of(entry).items()
        return {argument: self.records[location] for argument, location in arguments if location in self.records}

    def release(self) -> None:
        """Remove the copies."""
        if self.copies is not None:
            self.copies.release()


class Markers:
    """How the manifest of a finished result in a bucket begins: with a digest of the settings that it was made with."""

    def __init__(self, base: CompletionRequest) -> None:
        """Compute what all clips share.

        Args:
            base: settings that all clips share.
        """
        self._base = json.dumps(base.settings(), sort_keys=True)

    def digest(self, entry: ClipEntry) -> str:
        """Digest of the settings of a clip.

        Args:
            entry: line of the list.
        """
        depth = entry.depth if entry.depth_location is None else public_name(entry.depth_location)
        return hashlib.sha256(json.dumps([self._base, entry.object_name, depth]).encode()).hexdigest()[:32]

    def beginning(self, entry: ClipEntry) -> bytes:
        """First bytes of the manifest of a clip.

        Args:
            entry: line of the list.
        """
        return f'{{\n "run": "{self.digest(entry)}",'.encode()


@dataclass(frozen=True)
class LookedUp:
    """The clips of a list, with a note of those whose results are in a bucket.

    Attributes:
        clips: the list.
        base: settings that all clips share; ``output.out`` is the folder or bucket of all results.
    """

    clips: ClipList
    base: CompletionRequest

    def __len__(self) -> int:
        """Number of clips."""
        return len(self.clips)

    def __iter__(self) -> Iterator[ClipEntry]:
        """The clips in the order of the list; many markers are asked for at a time.

        Raises:
            InputError: if the list or the bucket can no longer be read.
        """
        entries, out = iter(self.clips), self.base.output.out
        if out is None or not is_url(out):
            yield from entries
            return
        markers = Markers(self.base)
        while batch := list(islice(entries, _LOOK_AHEAD)):
            try:
                found = marked(out, {entry.name: markers.beginning(entry) for entry in batch}, MANIFEST)
            except UnavailableError:
                found = set()  # the worker looks again
            yield from (replace(entry, is_finished=entry.name in found) for entry in batch)


class ClipStorage:
    """Transfers of one process: inputs that are given by URL, and results that go to a bucket."""

    def __init__(self, base: CompletionRequest, options: StorageOptions) -> None:
        """Nothing is created yet.

        Args:
            base: settings that all clips share; ``output.out`` is the folder or bucket of all results.
            options: limits and hosts.
        """
        assert base.output.out is not None  # checked when the run begins
        self._out, self._overwrite = base.output.out, base.output.overwrite
        self._in_bucket, self._check_inputs = is_url(self._out), options.check_inputs
        self._markers = Markers(base)
        policy = UrlPolicy.of_hosts(options.allow_host)
        self._scratch = Scratch(options.scratch, limit=options.scratch_limit or LIMIT, policy=policy)

    def result_folder(self, name: str) -> Path:
        """Where the results of a clip are made: in their place, or on their way to a bucket.

        Raises:
            InputError: if the scratch folder cannot be made.
        """
        folder = local_path(self._out)
        return folder / name if folder is not None else self._scratch.folder / "results" / name

    def fetch(self, entry: ClipEntry, on_progress: Callable[[], None] | None = None) -> ClipFiles:
        """Copy the inputs of a clip that are given by URL; waits for room.

        Args:
            entry: line of the list.
            on_progress: called when a part has arrived.

        Raises:
            InputError: if an input is missing, forbidden or too large, or the service does not answer.
        """
        copies = self._scratch.copy(arguments_of(entry).values(), on_progress)
        return ClipFiles(copies.paths, copies.records, copies)

    def is_finished(self, entry: ClipEntry, settings: Mapping[str, object]) -> bool:
        """Whether the results of a clip are there, so that its inputs need not be copied.

        Clips whose files are all local are not looked at: :func:`~amodal_diffusion.io.result_folder.holds_results`
        compares them.

        Args:
            entry: line of the list.
            settings: of its results.

        Raises:
            InputError: if its results were made with other settings or inputs and may not be replaced.
        """
        urls = [location for location in arguments_of(entry).values() if is_url(location)]
        if not self._in_bucket and not urls:
            return False
        if self._in_bucket and not self._check_inputs and (entry.is_finished or self._is_marked(entry)):
            return True
        found = self._manifest(entry)
        if found is None:
            return False
        inputs = dict(found.get("inputs", {}))
        if self._check_inputs:
            inputs |= {argument: asdict(self._record(location)) for argument, location in arguments_of(entry).items()}
        different = differences(found, {**identity_of({}, settings), "inputs": inputs})
        if different and not self._overwrite:
            raise InputError(
                f"out: {self._told(entry)}: made with other {', '.join(different)}; --overwrite replaces it"
            )
        return not different

    @contextmanager
    def publishing(
        self, entry: ClipEntry, folder: Path, on_progress: Callable[[], None] | None = None
    ) -> Iterator[None]:
        """Upload the results that the block makes, the manifest last; results that are not for a bucket stay.

        Args:
            entry: line of the list.
            folder: where the block leaves its finished results.
            on_progress: called when some files have arrived.

        Raises:
            InputError: if the bucket has files of others in that place, or cannot be written.
        """
        if not self._in_bucket:
            yield
            return
        try:
            yield
            manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
            write_text(folder / MANIFEST, json.dumps({"run": self._markers.digest(entry), **manifest}, indent=1))
            self._upload(entry, folder, on_progress)
        finally:
            for path in (folder, folder.with_name(folder.name + PARTIAL)):
                shutil.rmtree(path, ignore_errors=True)

    def close(self) -> None:
        """Remove all copies."""
        self._scratch.close()

    def _upload(self, entry: ClipEntry, folder: Path, on_progress: Callable[[], None] | None) -> None:
        """Replace what this program has uploaded for a clip; a list of files, uploaded first, says what that is."""
        target, names = join(self._out, entry.name), set(names_below(folder))
        present = _present(target)
        written = _written(target, present)
        foreign = sorted(present - written)
        if foreign:
            raise InputError(
                f"out: {self._told(entry)}: has files of others, such as {foreign[0]}; choose another place"
            )
        write_bytes(join(target, _UPLOADS), json.dumps({"files": sorted(names | written)}).encode())
        if MANIFEST in present:
            remove(join(target, MANIFEST))  # first, so that nobody takes a mixture for a result
        for name in sorted(present - names - {MANIFEST, _UPLOADS}):
            remove(join(target, name))
        upload_folder(folder, target, last=MANIFEST, on_progress=on_progress)
        remove(join(target, _UPLOADS))

    def _is_marked(self, entry: ClipEntry) -> bool:
        return bool(marked(self._out, {entry.name: self._markers.beginning(entry)}, MANIFEST))

    def _record(self, location: Location) -> InputRecord:
        """What identifies an input."""
        path = local_path(location)
        if path is None:
            return self._scratch.record(location)
        try:
            return InputRecord.of(path)
        except OSError as error:
            raise InputError(one_line(error)) from error

    def _manifest(self, entry: ClipEntry) -> dict[str, Any] | None:
        """The manifest of the finished results of a clip; None without results."""
        folder = local_path(self._out)
        if folder is not None:
            return read_manifest(folder / entry.name) if (folder / entry.name / MANIFEST).is_file() else None
        try:
            return dict(json.loads(read_bytes(join(self._out, f"{entry.name}/{MANIFEST}"))))
        except MissingError as error:
            if error.forbidden:
                raise
            return None
        except ValueError as error:
            raise InputError(f"out: {self._told(entry)}/{MANIFEST}: is damaged ({error}); remove it") from error

    def _told(self, entry: ClipEntry) -> str:
        return f"{public_name(self._out).rstrip('/')}/{entry.name}"


def _present(target: Location) -> set[str]:
    """Names of the objects below a result."""
    try:
        return {file.name for file in list_files(target)}
    except MissingError as error:
        if error.forbidden:
            raise
        return set()


def _written(target: Location, present: set[str]) -> set[str]:
    """Names of the objects that this program has uploaded below a result."""
    written = {MANIFEST, _UPLOADS}
    try:
        if _UPLOADS in present:
            written.update(json.loads(read_bytes(join(target, _UPLOADS)))["files"])
        if MANIFEST in present:
            steps = json.loads(read_bytes(join(target, MANIFEST)))["steps"]
            written.update(file for step in steps.values() for file in step["files"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"out: {public_name(target)}: its list of files is damaged; remove it") from error
    return written

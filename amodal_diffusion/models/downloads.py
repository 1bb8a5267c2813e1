"""Files of models from the Hugging Face hub: which are needed, consent before a download, the commit they are of."""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from huggingface_hub import HfApi, get_cached_repo_tree, snapshot_download
from huggingface_hub.errors import CachedRepoTreeNotFoundError, RepositoryNotFoundError, RevisionNotFoundError
from tqdm.auto import tqdm

from amodal_diffusion.basics import InputError
from amodal_diffusion.io.atomic import write_text
from amodal_diffusion.models.hub_ids import HubId
from amodal_diffusion.models.weights import PICKLE_SUFFIXES

SOURCE_FILE = "source.json"
"""Written beside files that were downloaded into a folder: repository, revision and commit."""
_NETWORKS = ("unet", "vae", "image_encoder")
_WEIGHTS = re.compile(r"[^.]+(?:\.(?P<variant>fp16))?(?:-\d+-of-\d+)?\.safetensors")
_INDEX = re.compile(r"[^.]+\.safetensors\.index(?:\.(?P<variant>fp16))?\.json")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wanted:
    """Files of a repository that are needed.

    Attributes:
        hub_id: the repository and its revision.
        what: what they are for, such as ``model diffusion-vas``; errors begin with it.
        license: what is known of the license beside what the hub says.
        half: take the ``fp16`` variant of weights where there is one.
        suffixes: of further files, beside JSON and safetensors.
        folder: where the files go; the local cache of the hub when None.
        optional: go without rather than fail or ask for this repository alone.
        asked: name under which the command `download` gets it; the id when None.
    """

    hub_id: HubId
    what: str
    license: str | None = None
    half: bool = True
    suffixes: tuple[str, ...] = ()
    folder: Path | None = None
    optional: bool = False
    asked: str | None = None

    @property
    def command(self) -> str:
        """The command that gets the files."""
        return f"amodal-diffusion download {self.asked or self.hub_id}"


@dataclass(frozen=True)
class Source:
    """Where the files of a folder come from.

    Attributes:
        repository: ``owner/name``.
        commit: 40 hexadecimal digits.
    """

    repository: str
    commit: str


@dataclass(frozen=True)
class _Plan:
    """What a download would do: the files of a commit, and how many bytes of them are not here yet."""

    wanted: Wanted
    commit: str
    previous: str | None
    files: tuple[str, ...]
    missing: int
    size: int
    license: str


def fetch(wanted: Iterable[Wanted], *, yes: bool = False, download: bool = True) -> dict[Wanted, Path]:
    """Get the folders of repositories' files, after one question for all that have to be downloaded.

    Without a connection, files in the local cache are used. An interrupted download goes on with the files that are not
    whole yet.

    Args:
        wanted: the repositories.
        yes: download without asking.
        download: False looks into the local cache alone.

    Returns:
        the folders; optional repositories that are not here have none.

    Raises:
        InputError: if a repository is neither here nor can be downloaded, or the answer is no, or there is no terminal
            to ask on.
    """
    found: dict[Wanted, Path] = {}
    plans: list[_Plan] = []
    for one in dict.fromkeys(wanted):
        try:
            place = _look_up(one) if download else _cached(one)
        except InputError:
            if not one.optional:
                raise
        else:
            if isinstance(place, Path):
                found[one] = place
            else:
                plans.append(place)
    missing = [plan for plan in plans if plan.missing]
    if all(plan.wanted.optional for plan in missing) and not yes:
        plans, missing = [plan for plan in plans if not plan.missing], []
    if missing:
        _ask(missing, yes=yes)
    return found | {plan.wanted: _download(plan) for plan in plans}


def folder_of(place: Path | Wanted, found: dict[Wanted, Path]) -> Path:
    """The folder of a place.

    Args:
        place: a folder, or a repository that is not optional.
        found: what :func:`fetch` gave for it.
    """
    return place if isinstance(place, Path) else found[place]


def choose_files(names: Iterable[str], *, half: bool = True, suffixes: Sequence[str] = ()) -> list[str]:
    """Choose the files of a repository that are downloaded: JSON, and each folder's weights in one variant.

    Args:
        names: all files of the repository, with ``/``.
        half: prefer the ``fp16`` variant to the plain weights; the other way round if False.
        suffixes: of further files.

    Returns:
        the names, sorted. Weights at the top are left out if folders hold weights: they are everything once more.
    """
    chosen: list[str] = []
    weights: dict[str, dict[str | None, list[str]]] = {}
    indices: list[tuple[str, str | None, str]] = []
    for name in names:
        path = PurePosixPath(name)
        folder = str(path.parent)
        if match := _WEIGHTS.fullmatch(path.name):
            weights.setdefault(folder, {}).setdefault(match["variant"], []).append(name)
        elif match := _INDEX.fullmatch(path.name):
            indices.append((folder, match["variant"], name))
        elif path.suffix == ".json" or name.endswith(tuple(suffixes)):
            chosen.append(name)
    if set(weights) > {"."}:
        del weights["."]
    order = ("fp16", None) if half else (None, "fp16")
    variants = {folder: next(one for one in order if one in found) for folder, found in weights.items()}
    for folder, variant in variants.items():
        chosen += weights[folder][variant]
    chosen += [name for folder, variant, name in indices if variants.get(folder, "none") == variant]
    return sorted(chosen)


def read_source(folder: Path) -> Source | None:
    """Where the files of a folder come from: by its ``source.json``, or its place in the local cache.

    Args:
        folder: of a model or a stage; None is returned for a user's own.

    Raises:
        InputError: if ``source.json`` is damaged.
    """
    path = folder / SOURCE_FILE
    if path.is_file():
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            return Source(str(values["repository"]), str(values["commit"]))
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path}: expected repository and commit; the file is damaged, download it again"
            ) from error
    parents = folder.absolute().parents
    if len(parents) > 1 and parents[0].name == "snapshots" and parents[1].name.startswith("models--"):
        return Source(parents[1].name.removeprefix("models--").replace("--", "/"), folder.name)
    return None


def _look_up(wanted: Wanted) -> Path | _Plan:
    """What has to be done for a repository; its folder if the hub cannot be reached and the files are here."""
    hub_id = wanted.hub_id
    if hub_id.is_fixed and wanted.folder is None:
        try:
            return _cached(wanted)
        except InputError:
            pass  # not here yet
    fresh = wanted.folder is not None and not wanted.folder.is_dir()  # it must not be made before the yes
    try:
        info = HfApi().model_info(hub_id.repository, revision=hub_id.revision)
        names = [entry.rfilename for entry in info.siblings or ()]
        files = choose_files(names, half=wanted.half, suffixes=wanted.suffixes)
        commit = str(info.sha)
        entries = snapshot_download(
            hub_id.repository,
            revision=commit,
            allow_patterns=files,
            local_dir=None if fresh else wanted.folder,
            force_download=fresh,
            dry_run=True,
            tqdm_class=_NoBar,
        )
    except Exception as error:  # noqa: BLE001 - the HTTP library's own, which differ with huggingface_hub's version
        try:
            return _cached(wanted)
        except InputError:
            raise _no_access(wanted, error) from error
    _check_weights(wanted, names, files)
    absent = [entry for entry in entries if entry.will_download]
    return _Plan(
        wanted,
        commit,
        _previous(wanted),
        tuple(files),
        missing=len(absent),
        size=sum(entry.file_size or 0 for entry in absent),
        license=_licenses(info, wanted.license),
    )


def _cached(wanted: Wanted) -> Path:
    """The folder of a repository in the local cache, with all files that the hub listed when it was downloaded."""
    hub_id = wanted.hub_id
    try:
        if wanted.folder is not None:
            raise FileNotFoundError(f"{wanted.folder} is not known to be whole")
        try:
            names = [entry.path for entry in get_cached_repo_tree(hub_id.repository, revision=hub_id.revision)]
            files = choose_files(names, half=wanted.half, suffixes=wanted.suffixes)
        except CachedRepoTreeNotFoundError:  # downloaded by another program, which noted no list
            files = []
        return Path(
            snapshot_download(hub_id.repository, revision=hub_id.revision, allow_patterns=files, local_files_only=True)
        )
    except (OSError, ValueError) as error:
        raise InputError(f"{wanted.what}: {hub_id} is not in the local cache; `{wanted.command}` gets it") from error


def _previous(wanted: Wanted) -> str | None:
    """The commit that an earlier download resolved the revision to; None if there was none."""
    if wanted.folder is not None:
        source = read_source(wanted.folder)
        return source.commit if source is not None else None
    hub_id = wanted.hub_id
    try:
        known = snapshot_download(hub_id.repository, revision=hub_id.revision, allow_patterns=[], local_files_only=True)
    except OSError:
        return None
    return Path(known).name


def _check_weights(wanted: Wanted, names: Sequence[str], files: Sequence[str]) -> None:
    """Refuse, before a download, a repository in which the weights of a network are pickles alone."""
    with_weights = {PurePosixPath(name).parent for name in files if name.endswith(".safetensors")}
    pickles = [name for name in names if name.endswith(PICKLE_SUFFIXES)]
    folders = {name: PurePosixPath(name).parent for name in pickles}
    unusable = [name for name in pickles if folders[name].name in _NETWORKS and folders[name] not in with_weights]
    if unusable or not with_weights:
        found = ", ".join((unusable or pickles or sorted(names))[:3]) or "nothing"
        raise InputError(
            f"{wanted.what}: {wanted.hub_id}: expected safetensors, plain or fp16, found {found}; pickle files can "
            "run code and are never loaded, so ask the authors for safetensors or name another revision"
        )


def _no_access(wanted: Wanted, error: Exception) -> InputError:
    """One line on why a repository cannot be downloaded."""
    text = str(error).strip() or type(error).__name__
    if isinstance(error, (RepositoryNotFoundError, RevisionNotFoundError)):
        kind = "revision" if isinstance(error, RevisionNotFoundError) else "repository"
        return InputError(
            f"{wanted.what}: the hub gives no {kind} {wanted.hub_id}; check the name, or, if it is private or gated, "
            "ask for access on its page and log in with `hf auth login`"
        )
    return InputError(
        f"{wanted.what}: the hub cannot be reached ({text.splitlines()[0]:.200}), and {wanted.hub_id} is not in the "
        f"local cache; where there is a network, `{wanted.command} --out DIR`, then give DIR instead"
    )


def _licenses(info: Any, known: str | None) -> str:  # noqa: ANN401 - of huggingface_hub
    """The license that a repository's page names, and what is known beside it."""
    card = info.card_data.to_dict() if info.card_data else {}
    tags = [tag.removeprefix("license:") for tag in info.tags or () if tag.startswith("license:")]
    named = card.get("license_name") or card.get("license") or tags
    text = ", ".join(named) if isinstance(named, list) else str(named)
    if known is not None and text.lower() != known.lower():
        text = f"{text or 'none on its page'}; {known}"
    return text or "none on its page"


def _ask(plans: Sequence[_Plan], *, yes: bool) -> None:
    """Say what will be downloaded under which license, and ask unless the answer is known.

    Raises:
        InputError: if the answer is no, or there is nobody to ask.
    """
    for plan in plans:
        sys.stderr.write(
            f"download: {plan.wanted.hub_id}, commit {plan.commit[:12]}: {_amount(plan.size)} in {plan.missing} files; "
            f"license: {plan.license}\n"
        )
    if len(plans) > 1:
        sys.stderr.write(f"download: {_amount(sum(plan.size for plan in plans))} in all\n")
    if yes:
        return
    kept = [f"{plan.wanted.hub_id.repository}@{plan.previous}" for plan in plans if plan.previous]
    instead = f"; the cache has {', '.join(kept)}" if kept else ""
    if sys.stdin is None or not sys.stdin.isatty():
        raise InputError(
            "download: expected a yes, and there is no terminal to ask on; add --yes (yes=True in Python), or run "
            f"`{plans[0].wanted.command} --yes` before{instead}"
        )
    answer = ""
    while answer not in ("y", "yes", "n", "no"):
        sys.stderr.write("download these files? [y/n] ")
        sys.stderr.flush()
        line = sys.stdin.readline()
        if not line:  # the end of the input
            sys.stderr.write("\n")
        answer = line.strip().lower() if line else "no"
    if answer.startswith("n"):
        raise InputError(f"download: refused, nothing was downloaded; the same command asks again{instead}")


def _download(plan: _Plan) -> Path:
    """Download what is missing; the folder of the files."""
    wanted, hub_id = plan.wanted, plan.wanted.hub_id
    if plan.previous not in (None, plan.commit):
        logger.warning(
            "%s: %s is now commit %s, was %s when it was downloaded before; %s@%s names the earlier one",
            wanted.what, hub_id, plan.commit, plan.previous, hub_id.repository, plan.previous,
        )  # fmt: skip
    revision = hub_id.revision if wanted.folder is None else plan.commit  # the cache also notes the revision's commit
    try:
        folder = snapshot_download(
            hub_id.repository, revision=revision, allow_patterns=list(plan.files), local_dir=wanted.folder
        )
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"{wanted.what}: the download of {hub_id} stopped ({reason:.200}); the same command goes on with the files "
            "that are not whole yet"
        ) from error
    if wanted.folder is not None:
        source = {**asdict(Source(hub_id.repository, plan.commit)), "revision": hub_id.revision}
        write_text(wanted.folder / SOURCE_FILE, json.dumps(source, indent=2) + "\n")
    return Path(folder)


def _amount(size: int) -> str:
    """A number of bytes for people."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} bytes"


class _NoBar(tqdm):
    """A progress bar that is not shown."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - as tqdm
        super().__init__(*args, **{**kwargs, "disable": True})

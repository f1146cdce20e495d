"""A model in a Hugging Face cache on a disk: where it is, and whether it is whole."""

from __future__ import annotations

import contextlib
import json
import os
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from transcription_runner.errors import CorruptModelCache, ModelMissing, PermissionDenied, RunnerError
from transcription_runner.filesystem import explain
from transcription_runner.hashes import matches, sha256_of
from transcription_runner.manifest import Manifest, repair_hint
from transcription_runner.names import ModelName, folder_name

STAGING = ".staging"
"""Downloads on their way, in the cache's root."""

_COMMIT = re.compile(r"[0-9a-f]{40}")
_WEIGHTS = (".safetensors", ".bin", ".pt")


@dataclass(frozen=True, kw_only=True)
class CachedModel:
    """A model that is here: its folder with config and weights, and where that came from."""

    path: Path
    shown: str
    repo: str | None = None
    revision: str | None = None
    commit: str | None = None


def baked_roots(environ: Mapping[str, str] = os.environ) -> list[Path]:
    """Where the image itself holds models."""
    baked = environ.get("TRANSCRIPTION_BAKED_MODELS")
    return [Path(baked)] if baked else []


def default_roots(environ: Mapping[str, str] = os.environ) -> list[Path]:
    """Where models may be when no --model_dir is given, the first being where one would be downloaded to.

    The predecessor kept models directly in HF_HOME, so that is looked at too.
    """
    home = Path(environ.get("HF_HOME") or Path(environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface")
    hub = environ.get("HF_HUB_CACHE") or environ.get("HUGGINGFACE_HUB_CACHE")
    roots = [Path(hub)] if hub else []
    roots += [home / "hub", home]
    return [root.expanduser() for root in roots]


def offline(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether the environment forbids to ask the Hub."""
    value = environ.get("HF_HUB_OFFLINE") or environ.get("TRANSFORMERS_OFFLINE") or ""
    return value.upper() in ("1", "ON", "YES", "TRUE")


def find(model: ModelName, roots: list[Path]) -> CachedModel | None:
    """The model where it is whole as far as a quick look tells; None where it is not at all.

    Raises CorruptModelCache for one that is there in part, PermissionDenied for one that may not be read, ModelMissing
    for a path with nothing there.
    """
    if model.path is not None:
        return _local(model.path)
    for root in roots:
        folder = root / folder_name(model.repo or "")
        try:
            if not folder.is_dir():
                continue
            commit = resolve(folder, model.revision)
        except PermissionError as error:
            raise explain(error, folder, "reading") from error
        if commit is None:
            continue
        check(folder, commit)
        return CachedModel(
            path=folder / "snapshots" / commit,
            shown=model.shown,
            repo=model.repo,
            revision=model.revision,
            commit=commit,
        )
    return None


def missing(model: ModelName, roots: list[Path]) -> ModelMissing:
    """The error that says that a model is not here and may not be asked for."""
    return ModelMissing(
        f"Model {model.shown} is not in {roots[0]}, and HF_HUB_OFFLINE forbids to ask the Hub.",
        hint=f"Run `transcription-runner models download {model.repo} --revision {model.revision} "
        f"--model_dir {roots[0]}` where the Hub can be reached, or unset HF_HUB_OFFLINE.",
    )


def _local(path: Path) -> CachedModel:
    try:
        present = path.exists()
    except OSError as error:
        raise explain(error, path, "reading") from error
    if not present:
        raise ModelMissing(f"There is no model at {path}.", hint="Check the path.")
    if path.is_dir():
        if not _has_config(path):
            raise ModelMissing(
                f"{path} holds no model: it has no config.json.",
                hint="Name the folder that holds config.json and the weights (in a Hugging Face cache: snapshots/…).",
            )
        _check_folder(path, "the model's own folder")
    return CachedModel(path=path, shown=str(path))


def _has_config(folder: Path) -> bool:
    """A model's configuration, or an adapter's."""
    return (folder / "config.json").is_file() or (folder / "adapter_config.json").is_file()


def resolve(folder: Path, revision: str) -> str | None:
    """The commit of a revision in a model's folder (`models--…`); None where that was never downloaded."""
    if _COMMIT.fullmatch(revision):
        return revision if (folder / "snapshots" / revision).is_dir() else None
    try:
        commit = (folder / "refs" / revision).read_text().strip()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    if not _COMMIT.fullmatch(commit):
        raise CorruptModelCache(f"{folder}/refs/{revision} names no commit.", hint=repair_hint(folder.name))
    return commit


def check(folder: Path, commit: str) -> None:
    """A quick look, without reading the weights: every file there, of the right size.

    Raises CorruptModelCache, PermissionDenied.
    """
    snapshot_folder = folder / "snapshots" / commit
    if not snapshot_folder.is_dir():
        raise CorruptModelCache(
            f"The cache of {folder.name} names commit {commit[:12]}, whose files are gone.",
            hint=repair_hint(folder.name),
        )
    manifest = Manifest.read(folder)
    snapshot = manifest.snapshots.get(commit) if manifest else None
    if snapshot is None:
        _check_folder(snapshot_folder, folder.name)
        return
    for name, record in snapshot.files.items():
        problem = _size_problem(snapshot_folder / name, record.size)
        if problem:
            raise CorruptModelCache(f"{name} of {folder.name} {problem}.", hint=repair_hint(folder.name))


def bytes_of(model: CachedModel) -> int:
    """Of all files of a model; those that are gone meanwhile do not count."""
    total = 0
    for _, path in snapshot_files(model.path):
        with contextlib.suppress(OSError):
            total += path.stat().st_size
    return total


def blame(model: CachedModel, error: Exception) -> Exception:
    """What a model's failure to load means: the cache's fault if its files do not agree with their hashes.

    Returns the error itself otherwise.
    """
    try:
        problems = verify_path(model.path) if model.path.is_dir() else []
    except (OSError, RunnerError):
        return error
    if not problems:
        return error
    return CorruptModelCache(
        f"{model.shown} does not load, and its files are not what was downloaded: {'; '.join(problems)}.",
        hint=repair_hint(folder_name(model.repo) if model.repo else str(model.path)),
    )


def _size_problem(path: Path, size: int) -> str | None:
    try:
        found = path.stat().st_size
    except FileNotFoundError:
        return "is a link to nothing" if path.is_symlink() else "is missing"
    except PermissionError as error:
        raise explain(error, path, "reading") from error
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return None if found == size else f"has {found} bytes instead of {size}"


def _check_folder(folder: Path, shown: str) -> None:
    """What can be told quickly without a manifest: dead links, no weights, safetensors shorter than they say."""
    weights = 0
    try:
        for path in sorted(folder.iterdir()):
            if path.is_symlink() and not path.exists():
                raise CorruptModelCache(f"{path.name} of {shown} is a link to nothing.", hint=repair_hint(shown))
            if path.is_file() and path.name.endswith(_WEIGHTS):
                weights += 1
                if path.suffix == ".safetensors":
                    _check_safetensors(path, shown)
        _check_shards(folder, shown)
    except PermissionError as error:
        raise explain(error, folder, "reading") from error
    if not _has_config(folder) or not weights:
        what = "config.json" if weights else "weights"
        raise CorruptModelCache(f"{shown} has no {what}: its download was interrupted.", hint=repair_hint(shown))


def _check_shards(folder: Path, shown: str) -> None:
    """Every file that the index of the weights names has to be there."""
    try:
        index = json.loads((folder / "model.safetensors.index.json").read_bytes())
        names = sorted(set(index["weight_map"].values()))
    except FileNotFoundError:
        return
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptModelCache(f"The index of {shown}'s weights cannot be read.", hint=repair_hint(shown)) from error
    for name in names:
        if not (folder / name).exists():
            raise CorruptModelCache(f"{name} of {shown} is missing.", hint=repair_hint(shown))


def _check_safetensors(path: Path, shown: str) -> None:
    """The header says where the last tensor ends, and so how long the file has to be."""
    size = path.stat().st_size
    problem = None
    with path.open("rb") as stream:
        start = stream.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
        if length + 8 > size or length > 100_000_000:
            problem = "ends within its header"
        else:
            try:
                header = json.loads(stream.read(length))
                end = max((v["data_offsets"][1] for k, v in header.items() if k != "__metadata__"), default=0)
                if 8 + length + end != size:
                    problem = f"has {size} bytes instead of {8 + length + end}"
            except (ValueError, KeyError, TypeError, AttributeError):
                problem = "has a header that cannot be read"
    if problem:
        raise CorruptModelCache(f"{path.name} of {shown} {problem}.", hint=repair_hint(shown))


def verify(folder: Path, commit: str) -> list[str]:
    """Read every file and compare it with its hash: the problems found, in words.

    The hashes are the manifest's, or for a cache that huggingface_hub wrote, the blobs' own names.
    """
    snapshot_folder = folder / "snapshots" / commit
    manifest = Manifest.read(folder)
    snapshot = manifest.snapshots.get(commit) if manifest else None
    problems: list[str] = []
    if snapshot is None:
        try:
            _check_folder(snapshot_folder, folder.name)
        except PermissionDenied:
            raise
        except RunnerError as error:
            problems.append(error.message)
        for name, path in snapshot_files(snapshot_folder):
            if path.exists() and not matches(path, path.resolve().name):
                problems.append(f"{name} does not agree with its hash")
        return problems
    for name, record in snapshot.files.items():
        path = snapshot_folder / name
        problem = _size_problem(path, record.size)
        if problem is None and sha256_of(path) != record.sha256:
            problem = "does not agree with its sha256"
        if problem:
            problems.append(f"{name} {problem}")
    return problems


def verify_path(path: Path) -> list[str]:
    """Verify a model's folder wherever it is: a cache's snapshot by its hashes, another as far as it tells itself."""
    if (path.parent.parent / "blobs").is_dir() and path.parent.name == "snapshots":
        return verify(path.parent.parent, path.name)
    problems = []
    for name, file in snapshot_files(path):
        if file.suffix == ".json":
            try:
                json.loads(file.read_bytes())
            except (ValueError, OSError) as error:
                problems.append(f"{name} cannot be read ({error})")
    return problems


def snapshot_files(snapshot_folder: Path) -> Iterator[tuple[str, Path]]:
    """The files of a snapshot, dead links too: (name, path)."""
    for path in sorted(snapshot_folder.rglob("*")):
        if path.is_symlink() or path.is_file():
            yield str(path.relative_to(snapshot_folder)), path

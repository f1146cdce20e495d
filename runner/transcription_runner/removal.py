"""Take a model out of a cache: its own files, and nobody else's."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from transcription_runner.cache import STAGING, resolve, snapshot_files
from transcription_runner.errors import CorruptModelCache, ModelMissing
from transcription_runner.filesystem import explain
from transcription_runner.inventory import references
from transcription_runner.locks import only_one, staging_of
from transcription_runner.manifest import MANIFEST, Manifest
from transcription_runner.names import folder_name, repository


@dataclass(frozen=True, kw_only=True)
class Removed:
    """What a removal took away."""

    bytes: int = 0
    files: int = 0

    def __add__(self, other: Removed) -> Removed:
        """Both together."""
        return Removed(bytes=self.bytes + other.bytes, files=self.files + other.files)


def remove(repo: str, revision: str, root: Path) -> Removed:
    """Remove a revision: its reference, its snapshot where no other reference names that, and the blobs only it uses.

    Downloads of the repository that are on their way go too, and its folder when nothing else is in it. What is killed
    half way is finished by the next call. Raises ModelMissing where there is nothing, PermissionDenied, OutputFailed.
    """
    return _alone(repo, root, lambda folder: _remove_revision(folder, revision))


def remove_repository(repo: str, root: Path) -> Removed:
    """Remove all revisions of a repository."""
    return _alone(repo, root, _remove_tree)


def repositories(root: Path) -> list[str]:
    """All repositories in a cache, those too of which nothing but an unfinished download is there."""
    unfinished = (path for path in (root / STAGING).glob("models--*") if path.is_dir())
    folders = {path.name.partition("@")[0] for path in (*root.glob("models--*"), *unfinished)}
    return sorted(repository(name) for name in folders)


def _alone(repo: str, root: Path, act: Callable[[Path], Removed]) -> Removed:
    folder = root / folder_name(repo)
    if not folder.exists() and not (root / STAGING / folder.name).exists():
        raise ModelMissing(f"{repo} is not in {root}.", hint="`transcription-runner models list` shows what is.")
    try:
        with only_one(root, folder.name, doing="removing") as staging:
            removed = act(folder)
            for unfinished in {staging, *staging_of(root, folder.name)}:
                removed += _remove_tree(unfinished)
            shutil.rmtree(root / ".locks" / folder.name, ignore_errors=True)  # huggingface_hub's
            return removed
    except OSError as error:
        raise explain(error, Path(error.filename or folder), "removing") from error


def _remove_revision(folder: Path, revision: str) -> Removed:
    if not folder.exists():
        return Removed()
    named = references(folder)
    try:
        commit = resolve(folder, revision)
    except CorruptModelCache:
        commit = ""  # its reference names nothing: that alone goes
    if commit is None and named:
        raise ModelMissing(
            f"{repository(folder.name)}@{revision} is not in {folder.parent}.",
            hint=f"There are: {', '.join(sorted(named))}.",
        )
    gone = {name for name, target in named.items() if name == revision or revision == commit == target}
    kept = {target for name, target in named.items() if name not in gone}
    snapshots = {path.name for path in (folder / "snapshots").glob("*")}
    if not snapshots - ({commit} - kept):
        return _remove_tree(folder)
    removed = Removed()
    if commit and commit not in kept:
        removed = _remove_snapshot(folder, commit)
    # The reference comes last: as long as it is there, another call finds what there is still to do.
    for name in gone:
        (folder / "refs" / name).unlink()
    return removed


def _remove_snapshot(folder: Path, commit: str) -> Removed:
    blobs = {snapshot: _blobs(folder, snapshot) for snapshot in _names(folder / "snapshots")}
    own = blobs.pop(commit, set()).difference(*blobs.values())
    own_files = {path for _, path in snapshot_files(folder / "snapshots" / commit) if not path.is_symlink()}
    sizes = [path.stat().st_size for path in own | own_files]
    for blob in own:
        blob.unlink(missing_ok=True)
    shutil.rmtree(folder / "snapshots" / commit, ignore_errors=True)
    _forget(folder, commit)
    return Removed(bytes=sum(sizes), files=len(sizes))


def _blobs(folder: Path, commit: str) -> set[Path]:
    """The blobs that a snapshot's links lead to."""
    root = (folder / "blobs").resolve()
    targets = {path.resolve() for _, path in snapshot_files(folder / "snapshots" / commit) if path.is_symlink()}
    return {target for target in targets if target.parent == root and target.is_file()}


def _forget(folder: Path, commit: str) -> None:
    """Take a commit out of the manifest."""
    try:
        manifest = Manifest.read(folder)
    except CorruptModelCache:
        (folder / MANIFEST).unlink()
        return
    if manifest is not None and commit in manifest.snapshots:
        left = {name: snapshot for name, snapshot in manifest.snapshots.items() if name != commit}
        Manifest(repo=manifest.repo, snapshots=left).write(folder)


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*"))


def _remove_tree(folder: Path) -> Removed:
    """Remove a folder with all that is in it; the references come last, so that a call cut short is seen."""
    if not folder.exists():
        return Removed()
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    for part in sorted(folder.iterdir(), key=lambda path: path.name == "refs"):
        if part.is_dir() and not part.is_symlink():
            shutil.rmtree(part)
        else:
            part.unlink()
    folder.rmdir()
    return Removed(bytes=sum(sizes), files=len(sizes))

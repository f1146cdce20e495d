"""A repository of a Hub: revisions, their files, and the hashes by which a Hub knows them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

#: Files that the Hub keeps in LFS whatever their size; others from 10 MB on.
_LARGE = {".safetensors", ".bin", ".pt", ".msgpack", ".h5", ".onnx"}
_LARGE_BYTES = 10_000_000


@dataclass(frozen=True)
class Blob:
    """One file of a revision."""

    path: str
    file: Path
    size: int
    #: git's id of what is committed: the file, or the pointer to a large file.
    oid: str
    #: sha256 of a large file; none for a small one.
    sha256: str | None

    @property
    def etag(self) -> str:
        return self.sha256 or self.oid


@dataclass(frozen=True)
class Repository:
    """A model repository with a folder for each revision (`main` is needed).

    With `token` it is private: without that token it does not seem to exist. With `gated` it is seen by
    everyone, and its files are given to nobody but the token's owner.
    """

    repo_id: str
    revisions: dict[str, Path]
    #: Commits of revisions, where they are not to be made from the files' hashes.
    commits: dict[str, str] = field(default_factory=dict)
    token: str | None = None
    gated: bool = False

    def commit(self, revision: str) -> str | None:
        """Return the commit of a branch, a tag or a commit; none if there is no such revision."""
        for name in self.revisions:
            if revision in (name, f"refs/heads/{name}", self._commit(name)):
                return self._commit(name)
        return None

    def files(self, commit: str) -> dict[str, Blob]:
        """Return a commit's files by path."""
        return next(_blobs(folder) for name, folder in self.revisions.items() if self._commit(name) == commit)

    def every_revision(self) -> list[dict[str, Blob]]:
        """Return the files of all revisions."""
        return [_blobs(folder) for folder in self.revisions.values()]

    def _commit(self, name: str) -> str:
        if name in self.commits:
            return self.commits[name]
        listing = "".join(f"{blob.oid} {blob.path}\n" for blob in _blobs(self.revisions[name]).values())
        return hashlib.sha1(listing.encode(), usedforsecurity=False).hexdigest()


def _blobs(folder: Path) -> dict[str, Blob]:
    found = {}
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        path = file.relative_to(folder).as_posix()
        status = file.stat()
        size, oid, sha256 = _identity(file, status.st_size, status.st_mtime_ns)
        found[path] = Blob(path, file, size, oid, sha256)
    return found


@lru_cache(maxsize=1000)
def _identity(file: Path, size: int, _changed: int) -> tuple[int, str, str | None]:
    if file.suffix not in _LARGE and size < _LARGE_BYTES:
        return size, _git_id(file.read_bytes()), None
    with file.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n"
    return size, _git_id(pointer.encode()), sha256


def _git_id(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()

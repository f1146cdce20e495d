"""What a cache holds: its models one by one, and the bytes that they take."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transcription_runner.cache import STAGING, check, snapshot_files
from transcription_runner.errors import RunnerError
from transcription_runner.filesystem import nearest_existing
from transcription_runner.names import repository


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Bytes on the volume: of each repository in the cache, of downloads on their way, and of the volume itself."""

    models: dict[str, int]
    staging: int
    free: int
    total: int

    @property
    def bytes(self) -> int:
        """All that the cache takes."""
        return sum(self.models.values()) + self.staging

    def receipt(self) -> dict[str, int]:
        """The termination message's `cache`."""
        return {"bytes": self.bytes, "freeBytes": self.free, "totalBytes": self.total}


def usage(root: Path) -> Usage:
    """The bytes that a cache and its volume hold; files that are linked from several places count once."""
    volume = shutil.disk_usage(nearest_existing(root))
    return Usage(
        models={repository(folder.name): size_of(folder) for folder in sorted(root.glob("models--*"))},
        staging=size_of(root / STAGING),
        free=volume.free,
        total=volume.total,
    )


def size_of(folder: Path) -> int:
    """Bytes of the files below a folder, links not followed; files that go meanwhile do not count."""
    total = 0
    for parent, _, names in os.walk(folder):  # unlike Path.rglob it goes on where a folder goes meanwhile
        for name in names:
            with contextlib.suppress(OSError):
                found = Path(parent, name).lstat()
                total += found.st_size if stat.S_ISREG(found.st_mode) else 0
    return total


def references(folder: Path) -> dict[str, str]:
    """The commit of each branch or tag that a model's folder (`models--…`) knows."""
    root = folder / "refs"
    return {str(path.relative_to(root)): path.read_text().strip() for path in sorted(root.rglob("*")) if path.is_file()}


def entries(root: Path) -> Iterator[dict[str, Any]]:
    """Every model in a cache: repo, revision, commit, path, bytes, files, state, problem.

    The state is `ready`, `corrupt` or `incomplete`.
    """
    for folder in sorted(root.glob("models--*")):
        repo = repository(folder.name)
        try:
            named = {commit: name for name, commit in references(folder).items()}
            commits = sorted({path.name for path in (folder / "snapshots").glob("*")} | set(named))
        except OSError as error:
            yield {"repo": repo, "state": "corrupt", "problem": str(error)}
            continue
        if not commits:
            yield {"repo": repo, "state": "incomplete", "problem": "nothing has been downloaded"}
        for commit in commits:
            entry: dict[str, Any] = {"repo": repo, "revision": named.get(commit, commit), "commit": commit}
            files = [path for _, path in snapshot_files(folder / "snapshots" / commit)]
            entry["files"] = len(files)
            entry["bytes"] = sum(path.stat().st_size for path in files if path.exists())
            entry["path"] = str(folder / "snapshots" / commit)
            try:
                check(folder, commit)
                entry |= {"state": "ready", "problem": None}
            except RunnerError as error:
                entry |= {"state": "corrupt", "problem": error.message}
            yield entry

"""`manifest.json` in a model's folder: what was downloaded, and the hashes to verify it by."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from transcription_runner.errors import CorruptModelCache
from transcription_runner.filesystem import explain, write_durably
from transcription_runner.names import from_url, repository

MANIFEST = "manifest.json"
VERSION = 1


@dataclass(frozen=True, kw_only=True)
class FileRecord:
    """A file as the manifest records it: bytes, sha256, the name of its blob, and the object store's version of it."""

    size: int
    sha256: str
    blob: str
    etag: str | None = None


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """One commit of a model, as the manifest records it."""

    revision: str
    commit: str
    files: Mapping[str, FileRecord]

    @property
    def bytes(self) -> int:
        """Of all its files."""
        return sum(record.size for record in self.files.values())


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """`manifest.json` in a model's folder: what was downloaded, each file with size and hash."""

    repo: str
    snapshots: Mapping[str, Snapshot] = field(default_factory=dict)

    @staticmethod
    def read(folder: Path) -> Manifest | None:
        """The manifest in a model's folder; None for a cache that huggingface_hub wrote, which has none.

        Raises CorruptModelCache, PermissionDenied.
        """
        path = folder / MANIFEST
        try:
            value = json.loads(path.read_bytes())
            return Manifest(
                repo=value["repo"],
                snapshots={
                    commit: Snapshot(
                        revision=entry["revision"],
                        commit=commit,
                        files={name: FileRecord(**record) for name, record in entry["files"].items()},
                    )
                    for commit, entry in value["snapshots"].items()
                },
            )
        except FileNotFoundError:
            return None
        except OSError as error:
            raise explain(error, path, "reading") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CorruptModelCache(f"{path} is no manifest: {error}.", hint=repair_hint(folder.name)) from error

    def write(self, folder: Path) -> None:
        """Write it, whole or not at all. Raises OutputFailed, PermissionDenied."""
        value = {
            "version": VERSION,
            "repo": self.repo,
            "snapshots": {
                commit: {
                    "revision": snapshot.revision,
                    "bytes": snapshot.bytes,
                    "files": {
                        name: {key: value for key, value in asdict(record).items() if value is not None}
                        for name, record in sorted(snapshot.files.items())
                    },
                }
                for commit, snapshot in self.snapshots.items()
            },
        }
        write_durably(folder / MANIFEST, json.dumps(value, indent=1).encode())


def repair_hint(folder: str) -> str:
    """What to do about a model whose folder (`models--…`) holds something wrong."""
    if not folder.startswith("models--"):
        return "Copy the model again."
    repo = repository(folder)
    words = f"URL --name {repo}" if from_url(repo) else repo
    return (
        f"In a cluster the operator repairs it; by hand: `transcription-runner models download {words}`, "
        f"or remove the folder {folder} and start again."
    )

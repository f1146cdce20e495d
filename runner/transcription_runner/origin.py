"""What a place that models come from has to offer, whatever it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from transcription_runner.hashes import ContentHash


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """A file of a model as its origin lists it: name, bytes, and what is known of its content before it is here."""

    name: str
    size: int
    key: str
    """What staging calls it: another content has another key."""
    blob: str | None = None
    """What the Hub calls its content: sha256, or git's sha1."""
    md5: str | None = None
    sha256: str | None = None
    etag: str | None = None
    """The object store's version of it."""

    @property
    def by_git(self) -> bool:
        """Whether only git's hash of it is known."""
        return self.blob is not None and len(self.blob) == 40

    def agrees(self, content: ContentHash) -> bool:
        """Whether content is what the origin says; where it gives no hash, its size has to do."""
        if self.blob is not None:
            return content.is_blob(self.blob)
        if self.sha256 is not None:
            return content.sha256 == self.sha256
        return self.md5 is None or content.md5 == self.md5

    def name_of(self, content: ContentHash) -> str:
        """The name of its blob in the cache."""
        return self.blob or content.sha256


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The files of a model at one moment. commit: the Hub's; None where the files' hashes are to make one."""

    commit: str | None
    files: Sequence[RemoteFile]


class Arrival(Protocol):
    """Who is told of a file's bytes as they are written."""

    def got(self, count: int, seconds: float) -> None:
        """So many more bytes were written, which took so long."""

    def restart(self) -> None:
        """The file is written again from its beginning."""

    def retry(self) -> None:
        """Something failed, and is tried again."""


class Origin(Protocol):
    """A Hub, or an object store."""

    @property
    def host(self) -> str:
        """For messages."""

    @property
    def shown(self) -> str:
        """The model there, for messages."""

    def list(self) -> Listing:
        """The files at the model's top. Raises RunnerError."""

    def fetch(self, file: RemoteFile, part: Path, start: int, arrival: Arrival) -> None:
        """Write a file's bytes from `start` on to `part`, which holds those before. Raises RunnerError."""

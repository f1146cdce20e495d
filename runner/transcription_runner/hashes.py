"""The hashes that content is known by, in flat memory, and while it is still being written."""

from __future__ import annotations

import hashlib
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_BLOCK = 4 << 20


class ContentHash:
    """The sha256 of content, git's blob sha1 (the Hub's name for small files), and where wanted its MD5."""

    def __init__(self, size: int, *, git: bool = True, md5: bool = False) -> None:
        """Begin, for content of `size` bytes (git hashes the length too)."""
        self._sha256 = hashlib.sha256()
        self._sha1 = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False) if git else None
        self._md5 = hashlib.md5(usedforsecurity=False) if md5 else None

    def update(self, data: bytes | memoryview) -> None:
        """Take the next bytes."""
        for digest in (self._sha256, self._sha1, self._md5):
            if digest is not None:
                digest.update(data)

    @property
    def sha256(self) -> str:
        """Of all bytes, in hex."""
        return self._sha256.hexdigest()

    @property
    def git(self) -> str | None:
        """Git's name of the content, in hex."""
        return self._sha1.hexdigest() if self._sha1 else None

    @property
    def md5(self) -> str | None:
        """Of all bytes, in hex."""
        return self._md5.hexdigest() if self._md5 else None

    def is_blob(self, name: str) -> bool:
        """Whether the Hub calls this content `name`."""
        return name in (self.sha256, self.git)


class Follower:
    """Hashes a file behind whoever writes it, in a thread of its own: what is hashed is what the volume holds.

    A processor hashes while another receives, and what an earlier process left in the file costs no time before the
    first new byte.
    """

    def __init__(self, path: Path, size: int, *, git: bool, md5: bool) -> None:
        """Follow `path`, which exists and is to have `size` bytes."""
        self._size = size
        self._git = git
        self._md5 = md5
        self._stream = path.open("rb", buffering=0)
        self._changed = threading.Condition()
        self._content = self._begin()
        self._done = 0
        self._written = 0
        self._last = False
        self._abandoned = False
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._run, name="hash", daemon=True)
        self._thread.start()

    def _begin(self) -> ContentHash:
        return ContentHash(self._size, git=self._git, md5=self._md5)

    def advance(self, written: int) -> None:
        """The file's first `written` bytes are there."""
        self._written = written
        if written - self._done >= _BLOCK:
            with self._changed:
                self._changed.notify()

    def restart(self) -> None:
        """The file is written again from its beginning."""
        with self._changed:
            self._content = self._begin()
            self._done = self._written = 0

    def finish(self) -> ContentHash:
        """The hashes, once all that was written is hashed. Raises OSError where it could not be read."""
        with self._changed:
            self._last = True
            self._changed.notify()
        self._thread.join()
        self._stream.close()
        if self._error is not None:
            raise self._error
        return self._content

    def abandon(self) -> None:
        """End without an answer; of no effect after `finish`."""
        with self._changed:
            self._abandoned = True
            self._changed.notify()
        self._thread.join()
        self._stream.close()

    def _run(self) -> None:
        buffer = memoryview(bytearray(_BLOCK))
        try:
            while self._wait():
                with self._changed:
                    content, start = self._content, self._done
                    wanted = min(self._written - start, _BLOCK)
                count = os.preadv(self._stream.fileno(), [buffer[:wanted]], start)
                content.update(buffer[:count])
                with self._changed:
                    if content is not self._content:
                        continue  # it was for nothing: the file begins anew
                    if not count:
                        raise OSError(f"the file ends after {start} bytes, though {self._written} were written")
                    self._done = start + count
        except OSError as error:
            self._error = error

    def _wait(self) -> bool:
        """Wait for something to hash; False at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._abandoned or self._last or self._written - self._done >= _BLOCK)
            return not self._abandoned and self._written > self._done


@contextmanager
def following(path: Path, size: int, *, git: bool, md5: bool = False) -> Iterator[Follower]:
    """A Follower that ends with the context, however that ends."""
    follower = Follower(path, size, git=git, md5=md5)
    try:
        yield follower
    finally:
        follower.abandon()


def content_hash(path: Path, *, md5: bool = False) -> ContentHash:
    """All hashes of a file."""
    content = ContentHash(path.stat().st_size, md5=md5)
    with path.open("rb") as stream:
        while data := stream.read(_BLOCK):
            content.update(data)
    return content


def matches(path: Path, blob: str) -> bool:
    """Whether a file's content is what the Hub names `blob`; a name that is no hash says nothing, and passes."""
    if not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", blob):
        return True
    return content_hash(path).is_blob(blob)


def sha256_of(path: Path) -> str:
    """The sha256 of a file, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()

"""A model in an object store: the files below a URL such as s3://bucket/prefix."""

from __future__ import annotations

import base64
import hashlib
import logging
import re
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

from transcription_runner.backoff import Patience
from transcription_runner.errors import ModelMissing, Reason, RunnerError, SourceMissing, SourceUnreachable
from transcription_runner.filesystem import continued, write_all
from transcription_runner.objectstore import explain_remote, open_url
from transcription_runner.origin import Arrival, Listing, RemoteFile
from transcription_runner.redact import host_of, redact

_BLOCK = 8 << 20
_AHEAD = 4
"""Blocks asked for at once: a store gives one connection only a part of what the network takes."""

_MD5 = re.compile(r"[0-9a-f]{32}")

_log = logging.getLogger(__name__)


class StoreOrigin:
    """The objects directly below `url`, read by fsspec with the credentials of the environment."""

    def __init__(self, url: str, patience: Patience) -> None:
        """Raises Usage for a URL that nothing here understands."""
        self._url = url.rstrip("/")
        self._patience = patience
        self._store, self._path = open_url(self._url, stall_seconds=patience.stall_seconds)

    @property
    def host(self) -> str:
        """The bucket's name."""
        return host_of(self._url)

    @property
    def shown(self) -> str:
        """The URL without secrets."""
        return redact(self._url)

    def list(self) -> Listing:
        """The objects, with what the store knows of their content. Raises RunnerError."""
        try:
            entries = self._store.ls(self._path, detail=True, refresh=True)
            files = [self._described(entry) for entry in entries if self._is_below(entry)]
        except Exception as error:
            raise self._explained(error) from error
        if not files:
            raise self._nothing(None)
        return Listing(commit=None, files=files)

    def _is_below(self, entry: dict[str, Any]) -> bool:
        path = str(entry["name"]).rstrip("/")
        return entry.get("type") == "file" and str(PurePosixPath(path).parent) == self._path.rstrip("/")

    def _described(self, entry: dict[str, Any]) -> RemoteFile:
        name, size = PurePosixPath(entry["name"]).name, int(entry["size"])
        etag = _version(entry)
        md5, sha256 = self._hashes(entry)
        key = hashlib.sha256(f"{name}\0{size}\0{etag}".encode()).hexdigest()[:40]
        return RemoteFile(name=name, size=size, key=key, md5=md5, sha256=sha256, etag=etag)

    def _hashes(self, entry: dict[str, Any]) -> tuple[str | None, str | None]:
        """MD5 and sha256 of an object's content as far as its store gives them."""
        given = entry.get("md5Hash")  # Google's
        if given:
            return base64.b64decode(given).hex(), None
        head = getattr(self._store, "call_s3", None)
        if head is None:
            return None, None
        bucket, _, key = str(entry["name"]).partition("/")
        answer = head("head_object", Bucket=bucket, Key=key, ChecksumMode="ENABLED")
        # An ETag is the content's MD5 unless it was uploaded in parts or encrypted by a key service.
        etag = str(answer.get("ETag", "")).strip('"')
        plain = answer.get("ServerSideEncryption") in (None, "AES256") and not answer.get("SSECustomerAlgorithm")
        md5 = etag if plain and _MD5.fullmatch(etag) else None
        checksum = str(answer.get("ChecksumSHA256", ""))
        whole = checksum and "-" not in checksum and answer.get("ChecksumType") in (None, "FULL_OBJECT")
        return md5, base64.b64decode(checksum).hex() if whole else None

    def fetch(self, file: RemoteFile, part: Path, start: int, arrival: Arrival) -> None:
        """Write an object's bytes from `start` on to `part`. Raises RunnerError: SourceChanged for another object."""
        path = f"{self._path}/{file.name}"
        with continued(part, start) as stream:
            for data in self._blocks(path, start, file, arrival):
                arrival.got(len(data), write_all(stream, data))
        self._check_unchanged(path, file)

    def _blocks(self, path: str, start: int, file: RemoteFile, arrival: Arrival) -> Iterator[bytes]:
        """The bytes from `start` on, in order, some blocks ahead of whoever takes them."""
        spans = ((at, min(at + _BLOCK, file.size)) for at in range(start, file.size, _BLOCK))
        with ThreadPoolExecutor(_AHEAD, thread_name_prefix="fetch") as pool:
            pending: deque[Future[bytes]] = deque()
            try:
                for first, end in spans:
                    pending.append(pool.submit(self._block, path, first, end, file, arrival))
                    if len(pending) == _AHEAD:
                        yield pending.popleft().result()
                while pending:
                    yield pending.popleft().result()
            finally:
                for future in pending:
                    future.cancel()

    def _block(self, path: str, start: int, end: int, file: RemoteFile, arrival: Arrival) -> bytes:
        """One range of an object, asked for again while that may help. Raises RunnerError."""
        wait = self._patience.first_wait
        for attempt in range(1, self._patience.tries + 1):
            try:
                data: bytes = self._store.cat_file(path, start=start, end=end)
                if len(data) == end - start:
                    return data
                explained: RunnerError = SourceUnreachable(
                    f"{self.host} gave {len(data)} bytes of {file.name} instead of {end - start}.",
                    hint="The next attempt goes on from there.",
                    reason=Reason.CONNECTION_FAILED,
                )
            except Exception as error:  # noqa: BLE001  # each library has its own
                explained = self._explained(error)
            if not isinstance(explained, SourceUnreachable):
                raise explained
            if explained.finer == Reason.HUB_SERVER_ERROR or not explained.finer:
                self._check_unchanged(path, file)  # a range of a shorter object is refused
            if attempt == self._patience.tries:
                raise explained
            arrival.retry()
            _log.warning("%s Trying again in %.1f s.", explained.message, wait)
            time.sleep(wait)
            wait = min(wait * 2, self._patience.longest_wait)
        raise AssertionError("the last try returns or raises")

    def _check_unchanged(self, path: str, file: RemoteFile) -> None:
        """See that an object is still the one that was listed. Raises SourceUnreachable, ModelMissing."""
        try:
            entry = self._store.info(path, refresh=True)
        except Exception as error:
            raise self._explained(error) from error
        if (int(entry["size"]), _version(entry)) != (file.size, file.etag):
            raise SourceUnreachable(
                f"{file.name} at {self.shown} was replaced while it was read.",
                hint="The next attempt reads the new one.",
                reason=Reason.SOURCE_CHANGED,
            )

    def _nothing(self, cause: RunnerError | None) -> ModelMissing:
        if cause is not None and cause.finer == Reason.BUCKET_NOT_FOUND:
            return ModelMissing(cause.message, hint=cause.hint, reason=cause.finer)
        return ModelMissing(
            f"There are no files at {self.shown}.",
            hint="Name the folder that holds config.json and model.safetensors, as s3://bucket/folder.",
            reason=Reason.OBJECTS_NOT_FOUND,
        )

    def _explained(self, error: Exception) -> RunnerError:
        explained = explain_remote(error, self._url)
        return self._nothing(explained) if isinstance(explained, SourceMissing) else explained


def _version(entry: dict[str, Any]) -> str | None:
    """What changes when an object does, by the name that its store has for it."""
    for key in ("ETag", "etag", "generation", "last_modified", "LastModified"):
        if entry.get(key):
            return str(entry[key]).strip('"')
    return None

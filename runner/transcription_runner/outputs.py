"""Transcripts at rest: the durable copy first, then a copy wherever the user wants one."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transcription_runner import credentials
from transcription_runner.errors import RunnerError, Usage
from transcription_runner.filesystem import explain, make_folder, write_durably, write_whole
from transcription_runner.redact import redact
from transcription_runner.writers import Layout, render

_LONGEST = 200

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Durable:
    """A transcript on the disk: its JSON, and where and what it is."""

    path: Path
    data: bytes
    result: Mapping[str, Any]
    facts: Mapping[str, Any]
    """What the receipt tells of it besides: duration, timings, model, device."""

    @property
    def sha256(self) -> str:
        """Of the JSON file."""
        return hashlib.sha256(self.data).hexdigest()


def stem(name: str) -> str:
    """A file's name without extension, fit for any file system: a very long one is cut, and told apart by its hash."""
    encoded = name.encode("utf-8", "surrogateescape")
    if len(encoded) <= _LONGEST:
        return name
    mark = hashlib.sha256(encoded).hexdigest()[:8]
    return encoded[: _LONGEST - 9].decode("utf-8", "ignore").rstrip(" .") + "-" + mark


class DurableCopy:
    """A transcript's files in a folder, and beside them the record of the attempt that wrote them."""

    def __init__(self, folder: Path, name: str, *, durably: bool = True) -> None:
        """The transcript called `name` (without extension) in `folder`; nothing is made yet.

        durably: wait for the disk with each file.
        """
        self.folder = folder
        self._durably = durably
        self.name = stem(name)

    @property
    def json_path(self) -> Path:
        """Where whisper's JSON is."""
        return self.folder / f"{self.name}.json"

    @property
    def _record_path(self) -> Path:
        return self.folder / f".{self.name}.receipt.json"

    def find(self, fingerprint: str) -> Durable | None:
        """What an earlier attempt with the same input wrote, if it is whole."""
        try:
            record = json.loads(self._record_path.read_bytes())
            data = self.json_path.read_bytes()
            if record["fingerprint"] != fingerprint or record["sha256"] != hashlib.sha256(data).hexdigest():
                return None
            return Durable(path=self.json_path, data=data, result=json.loads(data), facts=record["facts"])
        except FileNotFoundError:
            return None
        except PermissionError as error:
            raise explain(error, self.json_path, "reading") from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            _log.warning("the record of an earlier attempt is of no use: %s", error)
            return None

    def write(self, result: Mapping[str, Any], facts: Mapping[str, Any], *, fingerprint: str | None) -> Durable:
        """Write the JSON, and then the record by which a later attempt knows it (none without a fingerprint).

        Raises OutputFailed, PermissionDenied.
        """
        data = render(result, "json")
        make_folder(self.folder)
        write_whole(self.json_path, data, durably=self._durably)
        durable = Durable(path=self.json_path, data=data, result=result, facts=facts)
        if fingerprint is not None:
            record = {"version": 1, "fingerprint": fingerprint, "sha256": durable.sha256, "facts": facts}
            write_whole(self._record_path, json.dumps(record).encode(), durably=self._durably)
        return durable

    def write_formats(self, result: Mapping[str, Any], formats: Sequence[str], layout: Layout) -> list[Path]:
        """Write the given formats (the JSON apart, which `write` writes). Returns their paths."""
        make_folder(self.folder)
        paths = []
        for format_name in formats:
            path = self.folder / f"{self.name}.{format_name}"
            write_whole(path, render(result, format_name, layout), durably=self._durably)
            paths.append(path)
        return paths


def deliver(output: str, files: Mapping[str, bytes]) -> dict[str, str]:
    """Copy files (name to content) to a folder or URL; each name's address is returned.

    Raises OutputFailed, PermissionDenied, Usage.
    """
    if _is_local(output):
        folder = _local(output)
        make_folder(folder)
        for name, data in files.items():
            write_durably(folder / name, data)
        return {name: str(folder / name) for name in files}
    from transcription_runner.objectstore import explain_remote, open_url

    base = output.rstrip("/")
    addresses = {}
    with credentials.of_output():
        for name, data in files.items():
            url = f"{base}/{name}"
            try:
                filesystem, path = open_url(url)
                if not output.startswith(("s3://", "s3a://")):  # a bucket's folders need no making
                    filesystem.makedirs(path.rpartition("/")[0], exist_ok=True)
                filesystem.pipe_file(path, data)
            except RunnerError:
                raise
            except Exception as error:
                raise explain_remote(error, url, writing=True) from error
            addresses[name] = redact(url)
    return addresses


def _is_local(output: str) -> bool:
    return "://" not in output or output.startswith(("file://", "local://"))


def _local(output: str) -> Path:
    return Path(output.partition("://")[2] if "://" in output else output)


def check_apart(recordings: Sequence[Path], transcripts: Sequence[Path]) -> None:
    """See that no transcript takes the place of a recording, as `talk.json` (a recording all the same) would be taken.

    Raises Usage.
    """
    given = set()
    for recording in recordings:
        with contextlib.suppress(OSError):
            given.add(_identity(recording))
    for transcript in transcripts:
        with contextlib.suppress(OSError):
            if _identity(transcript) in given:
                raise Usage(
                    f"{transcript} is a recording, and its transcript would overwrite it.",
                    hint="Choose another --output_dir or --output_name.",
                )


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def check_writable(folder: Path, output: str | None = None) -> None:
    """See, before hours of work, that a transcript can be written to the folder, and that `output` can be understood.

    Raises OutputFailed, PermissionDenied, Usage.
    """
    if output is not None:
        if _is_local(output):
            check_writable(_local(output))
        else:
            from transcription_runner.objectstore import open_url

            with credentials.of_output():
                open_url(output)
    make_folder(folder)
    probe = folder / f".transcription-probe.{os.getpid()}"
    try:
        with probe.open("wb") as stream:
            stream.write(b"\0")
        probe.unlink()
    except OSError as error:
        raise explain(error, folder, "writing to") from error

"""What an operating system's refusal means to a user: who owns the folder, who we are, how much space is left."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from transcription_runner.errors import OutputFailed, PermissionDenied, Reason, RunnerError, SourceMissing

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_REFUSED = {errno.EACCES, errno.EPERM}


def nearest_existing(path: Path) -> Path:
    """The path itself or its closest parent that exists and may be looked at."""
    for candidate in (path, *path.absolute().parents):
        with contextlib.suppress(OSError):
            candidate.stat()
            return candidate
    return Path("/")


def describe_owner(path: Path) -> str:
    """`uid 0, gid 0, mode 755`, of the path."""
    try:
        status = path.stat()
    except OSError as error:
        return f"unknown owner ({error.strerror})"
    return f"uid {status.st_uid}, gid {status.st_gid}, mode {stat.S_IMODE(status.st_mode):o}"


def _of_another(path: Path) -> bool:
    try:
        return path.stat().st_uid != os.geteuid()
    except OSError:
        return False


def identity() -> str:
    """`uid 10001, gid 10001`, of this process."""
    return f"uid {os.geteuid()}, gid {os.getegid()}"


def free_bytes(path: Path) -> int:
    """Bytes that this process may still write on the path's volume; 0 where that cannot be asked."""
    try:
        return shutil.disk_usage(nearest_existing(path)).free
    except OSError:
        return 0


def explain(error: OSError, path: Path, doing: str) -> RunnerError:
    """Turn an operating system's error, met while `doing` something to `path`, into one that says what to do."""
    where = nearest_existing(path)
    if error.errno in _REFUSED:
        return PermissionDenied(
            f"Permission denied: {doing} {path}: {where} belongs to {describe_owner(where)}, "
            f"and this process runs as {identity()}.",
            hint=f"Give {where} to uid {os.geteuid()} (chown {os.geteuid()}:{os.getegid()}, mode 755), or run as "
            "its owner. On an EFS access point the POSIX user must be that uid.",
            reason=Reason.WRONG_OWNER if _of_another(where) else None,
        )
    if error.errno in _NO_SPACE:
        return OutputFailed(
            f"No space left: {doing} {path}: {free_bytes(path)} bytes are free on its volume.",
            hint="Make room on the volume, or give it more space.",
            reason=Reason.VOLUME_FULL,
        )
    if error.errno == errno.EROFS:
        return OutputFailed(
            f"Read-only file system: {doing} {path}.",
            hint="Mount the volume read-write, or choose another folder.",
            reason=Reason.VOLUME_READ_ONLY,
        )
    return OutputFailed(f"{doing} {path} failed: {error.strerror or error}.")


def explain_reading(error: OSError, path: Path) -> RunnerError:
    """Turn an error met while reading `path` into one that says what to do."""
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP):
        return SourceMissing(f"There is no file {path}.", hint="Check the path; it is case-sensitive.")
    if error.errno in _REFUSED:
        return explain(error, path, "reading")
    return OutputFailed(f"reading {path} failed: {error.strerror or error}.")


@contextlib.contextmanager
def continued(path: Path, position: int) -> Iterator[BinaryIO]:
    """A file to write on from byte `position`; what was behind that is cut off.

    Without a buffer of Python's: what is written can be read from the file at once, and stays when the process is
    killed. Raises OutputFailed, PermissionDenied.
    """
    try:
        with path.open("r+b" if path.exists() else "wb", buffering=0) as stream:
            stream.truncate(position)
            stream.seek(position)
            yield stream
    except OSError as error:
        raise explain(error, path, "writing") from error


def write_all(stream: BinaryIO, data: bytes) -> float:
    """Write to a stream without a buffer, which may take less than it is given; returns the seconds that it took."""
    began = time.monotonic()
    written = stream.write(data)
    while written < len(data):
        written += stream.write(memoryview(data)[written:])
    return time.monotonic() - began


def fsync_folder(folder: Path) -> None:
    """Make a rename in the folder durable; file systems that cannot are left alone."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_durably(path: Path, data: bytes) -> None:
    """Write a file so that after any crash it is either whole or as it was before, and stays once this returns.

    Raises OutputFailed or PermissionDenied.
    """
    write_whole(path, data, durably=True)


def write_whole(path: Path, data: bytes, *, durably: bool) -> None:
    """Write a file so that nobody ever finds half of it.

    durably: wait for the disk; else a machine that loses its power may lose what was written last. Raises OutputFailed
    or PermissionDenied.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        try:
            with temporary.open("wb") as stream:
                stream.write(data)
                if durably:
                    stream.flush()
                    os.fsync(stream.fileno())
            temporary.chmod(0o644)
            temporary.replace(path)
            if durably:
                fsync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise explain(error, path, f"writing {len(data)} bytes to") from error


def make_folder(path: Path) -> None:
    """Make a folder and its parents, each with mode 755; one that exists is left as it is.

    Raises OutputFailed or PermissionDenied.
    """
    missing: list[Path] = []
    try:
        for candidate in (path.absolute(), *path.absolute().parents):
            if candidate.is_dir():
                break
            missing.append(candidate)
        for folder in reversed(missing):
            with contextlib.suppress(FileExistsError):
                folder.mkdir(0o755)
                folder.chmod(0o755)  # whatever the umask
        if not path.is_dir():
            raise OutputFailed(f"{path} exists and is not a folder.", hint="Choose another folder.")
    except OSError as error:
        raise explain(error, path, "making the folder") from error

"""One process at a time writes a model's files, on a volume that several machines share."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from transcription_runner.cache import STAGING
from transcription_runner.filesystem import explain, make_folder

_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}

_log = logging.getLogger(__name__)


@contextlib.contextmanager
def only_one(root: Path, folder: str, *, doing: str, waiting: Callable[[], None] | None = None) -> Iterator[Path]:
    """The staging folder of a model's folder, for this process alone as long as the context lasts.

    A lock goes with its process, however that ends; NFS (EFS too) keeps flock's locks between machines. A volume
    without locks gives each process a staging folder of its own: what two of them bring is renamed into place, and the
    same. `waiting` is told when another process has it. Raises OutputFailed, PermissionDenied.
    """
    make_folder(root / STAGING)
    lock = root / STAGING / f"{folder}.lock"
    try:
        stream = lock.open("w")
    except OSError as error:
        raise explain(error, lock, "writing") from error
    staging = root / STAGING / folder
    with stream:
        told = False
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if error.errno in _NO_LOCKS:
                    staging = staging.with_name(f"{folder}@{socket.gethostname()}-{os.getpid()}")
                    _log.warning("%s: this volume has no locks; %s without, in %s", lock, doing, staging)
                    break
                if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                    raise explain(error, lock, "locking") from error
            if not told:
                told = True
                _log.info("another process is at work on %s: waiting for it", folder)
                if waiting is not None:
                    waiting()
            time.sleep(0.5)
        yield staging


def is_alone(staging: Path, folder: str) -> bool:
    """Whether a staging folder of `only_one` came with a lock, so that nobody else writes this model's files."""
    return staging.name == folder


def staging_of(root: Path, folder: str) -> list[Path]:
    """All staging folders of a model's folder: the shared one, and those that were made without locks."""
    return [path for path in (root / STAGING / folder, *(root / STAGING).glob(f"{folder}@*")) if path.is_dir()]

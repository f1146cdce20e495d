"""AUDIO, whatever it is, as a file on this machine."""

from __future__ import annotations

import contextlib
import logging
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from transcription_runner.errors import (
    OutputFailed,
    PermissionDenied,
    RunnerError,
    SourceMissing,
    SourceUnreachable,
    Usage,
)
from transcription_runner.filesystem import explain, explain_reading, free_bytes
from transcription_runner.redact import host_of, redact

if TYPE_CHECKING:
    from transcription_runner.backoff import Patience
    from transcription_runner.transfer import Refused

STDIN = "-"
_BLOCK = 8 << 20

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Source:
    """One AUDIO argument."""

    text: str

    @property
    def is_url(self) -> bool:
        """Whether it has to be fetched (`file://` is a path)."""
        return "://" in self.text and not self.text.startswith(("file://", "local://"))

    @property
    def is_local(self) -> bool:
        """Whether it is a file of this machine."""
        return self.text != STDIN and not self.is_url

    @property
    def shown(self) -> str:
        """For messages and logs: no secrets."""
        return "standard input" if self.text == STDIN else redact(self.text) if "://" in self.text else self.text

    @property
    def path(self) -> Path:
        """Where a local file is."""
        if self.text.startswith(("file://", "local://")):
            return Path(unquote(urlsplit(self.text).path))
        return Path(self.text)

    @property
    def name(self) -> str:
        """The last part of its address, with the extension: `a.mp3`."""
        if self.text == STDIN:
            return STDIN
        if self.is_url:
            with contextlib.suppress(ValueError):
                return PurePosixPath(unquote(urlsplit(self.text).path)).name or "audio"
        return self.path.name or "audio"


def check_local(path: Path) -> None:
    """See that a local file is there, is a file, and may be read.

    Raises SourceMissing or PermissionDenied.
    """
    try:
        if path.is_dir():
            raise SourceMissing(f"{path} is a folder, not an audio file.", hint="Name a file inside it.")
        with path.open("rb"):
            pass
    except OSError as error:
        raise explain_reading(error, path) from error


@contextlib.contextmanager
def fetched(
    source: Source, *, patience: Patience | None = None, on_progress: Callable[[int, int | None], None] | None = None
) -> Iterator[Path]:
    """The source as a local file, for as long as the context lasts; what was downloaded is removed after it.

    `on_progress` is told the bytes so far and in all. Raises SourceMissing, SourceUnreachable, PermissionDenied,
    OutputFailed, Usage.
    """
    if source.is_local:
        check_local(source.path)
        yield source.path
        return
    try:
        folder = Path(tempfile.mkdtemp(prefix="transcription-source-"))
    except OSError as error:
        raise explain(error, Path(tempfile.gettempdir()), "making a folder in") from error
    try:
        spool = folder / ("stdin" if source.text == STDIN else _safe(source.name))
        if source.text == STDIN:
            _spool_stdin(spool)
        elif source.text.startswith(("http://", "https://")):
            _fetch_http(source.text, spool, patience, on_progress)
        else:
            _fetch_fsspec(source.text, spool, on_progress)
        yield spool
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _safe(name: str) -> str:
    """A file name with the source's extension, which some raw formats are known by, and nothing odd in it."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", name).lstrip(".")[-100:] or "audio"


def _spool_stdin(spool: Path) -> None:
    if sys.stdin is None or sys.stdin.buffer.closed:
        raise SourceMissing("Standard input is closed.", hint="Pipe the audio into the command.")
    try:
        with spool.open("wb") as stream:
            shutil.copyfileobj(sys.stdin.buffer, stream, _BLOCK)
    except OSError as error:
        raise explain(error, spool, "writing standard input to") from error


def _fetch_http(
    url: str,
    spool: Path,
    patience: Patience | None,
    on_progress: Callable[[int, int | None], None] | None,
) -> None:
    import httpx2

    from transcription_runner.transfer import Refused, download, make_client

    done = 0
    total: int | None = None

    def got(count: int, _: float) -> None:
        nonlocal done
        done += count
        if on_progress is not None:
            on_progress(done, total)

    def restarted() -> None:
        nonlocal done
        done = 0

    def sized(size: int) -> None:
        nonlocal total
        total = size
        _check_space(size - done, spool)

    try:
        with make_client(patience) as client:
            download(client, url, spool, patience=patience, on_bytes=got, on_restart=restarted, on_size=sized)
    except Refused as refusal:
        raise _refused(refusal, url) from refusal
    except (httpx2.InvalidURL, httpx2.UnsupportedProtocol) as error:
        raise Usage(f"{redact(url)} is no URL that can be fetched.", hint="Check its spelling.") from error
    except httpx2.TooManyRedirects as error:
        raise SourceUnreachable(f"{redact(url)} redirects without end.") from error


def _refused(refusal: Refused, url: str) -> RunnerError:
    status = refusal.status
    if status in (404, 410):
        return SourceMissing(
            f"There is nothing at {redact(url)}: {host_of(url)} answered {status}.", hint="Check the URL."
        )
    if status in (401, 403, 407):
        return PermissionDenied(
            f"{host_of(url)} does not let us read {redact(url)}: it answered {status}.",
            hint="A signed URL may have expired: make a new one; or put credentials into the URL "
            "(https://user:password@host/…).",
        )
    return SourceUnreachable(f"{refusal}.", hint="The server failed; the next attempt may succeed.")


def _check_space(size: int, spool: Path) -> None:
    free = free_bytes(spool.parent)
    if size > free:
        raise OutputFailed(
            f"No space left for the audio: it needs {size} bytes, and {free} are free in {spool.parent}.",
            hint="Give the temporary folder (TMPDIR; in a pod the emptyDir at /tmp) more space.",
        )


def _fetch_fsspec(url: str, spool: Path, on_progress: Callable[[int, int | None], None] | None) -> None:
    from transcription_runner.objectstore import explain_remote, open_url

    try:
        filesystem, path = open_url(url)
        information = filesystem.info(path)
        if information.get("type") == "directory":
            raise SourceMissing(f"{redact(url)} is a folder, not an audio file.", hint="Name a file inside it.")
        size = information.get("size")
        if size is not None:
            _check_space(size, spool)
        done = 0
        with contextlib.ExitStack() as stack:
            try:
                output = stack.enter_context(spool.open("wb"))
            except OSError as error:
                raise explain(error, spool, "writing") from error
            for data in _blocks(filesystem, path, size):
                try:
                    output.write(data)
                except OSError as error:
                    raise explain(error, spool, "writing") from error
                done += len(data)
                if on_progress is not None:
                    on_progress(done, size)
        if size is not None:
            _same(information, filesystem.info(path), url)
    except RunnerError:
        raise
    except Exception as error:
        raise explain_remote(error, url) from error


def _blocks(filesystem: object, path: str, size: int | None) -> Iterator[bytes]:
    """The file's bytes, a block at a time: each a request of its own, which the library tries again when it is cut."""
    if size is None:
        with filesystem.open(path, "rb") as stream:  # type: ignore[attr-defined]
            while data := stream.read(_BLOCK):
                yield data
        return
    position = 0
    while position < size:
        end = min(position + _BLOCK, size)
        data = filesystem.cat_file(path, start=position, end=end)  # type: ignore[attr-defined]
        if not data:
            raise SourceUnreachable(f"The source ended after {position} of {size} bytes.")
        yield data
        position += len(data)


def _same(before: dict[str, object], after: dict[str, object], url: str) -> None:
    if (before.get("ETag"), before.get("size")) != (after.get("ETag"), after.get("size")):
        raise SourceUnreachable(
            f"{redact(url)} was replaced while it was read.", hint="The next attempt reads the new one."
        )

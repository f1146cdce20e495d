"""A resumable download over HTTP into a file: retries, ranges, back-off, flat memory.

Used for sources and for models. huggingface_hub 2.x throws away what a killed process had downloaded, so models come
this way too.
"""

from __future__ import annotations

import contextlib
import logging
import random
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import httpx2

from transcription_runner.backoff import retry_after
from transcription_runner.errors import RunnerError, SourceUnreachable, causes
from transcription_runner.filesystem import explain
from transcription_runner.redact import host_of, redact, scrub

_MAX_WAIT = 60.0
_MAX_TRIES = 200
"""In all, however much each brings: a server that gives a byte at a time must not hold a pod for ever."""

_TRY_AGAIN = {408, 425, 429, 500, 502, 503, 504}

_log = logging.getLogger(__name__)


class Refused(Exception):
    """The server answered with a status that another try would not change, or that tries did not change."""

    def __init__(self, status: int, url: str, reason: str, headers: Mapping[str, str]) -> None:
        """Keep what the server answered."""
        super().__init__(f"{host_of(url)} answered {status} {reason} for {redact(url)}")
        self.status = status
        self.url = url
        self.headers = headers


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long a download goes on: `tries` without a new byte, each waiting `first_wait` seconds, then twice that, …"""

    tries: int = 5
    first_wait: float = 0.5
    connect_seconds: float = 15.0
    stall_seconds: float = 30.0
    """Without a byte, the connection is given up and another one tried."""


def make_client(patience: Patience | None = None) -> httpx2.Client:
    """A client with the system's (and our further) authorities, proxies of the environment, and these patiences."""
    patience = patience or Patience()
    return httpx2.Client(
        follow_redirects=True,
        timeout=httpx2.Timeout(patience.stall_seconds, connect=patience.connect_seconds),
        headers={"User-Agent": "transcription-runner"},
    )


def download(
    client: httpx2.Client,
    url: str,
    destination: Path,
    *,
    headers: Mapping[str, str] | None = None,
    start: int = 0,
    expected_size: int | None = None,
    patience: Patience | None = None,
    on_bytes: Callable[[bytes], None] | None = None,
    on_restart: Callable[[], None] | None = None,
    on_size: Callable[[int], None] | None = None,
) -> int:
    """Write the body of `url` to `destination`, from byte `start` on (the file holds those before it).

    `on_bytes` sees every byte written, in order; `on_restart` is told when the server makes us begin again at zero;
    `on_size` is told the whole size once it is known. Returns the size in bytes.
    Raises Refused, SourceUnreachable, OutputFailed.
    """
    patience = patience or Patience()
    state = _State(position=start, total=expected_size)
    failures = 0
    for _ in range(_MAX_TRIES):
        before = state.position
        wait: float | None = None
        try:
            with _opened(destination, state.position) as stream:
                _attempt(client, url, stream, headers or {}, state, on_bytes, on_restart, on_size)
            return state.position
        except Refused as refusal:
            if refusal.status not in _TRY_AGAIN:
                raise
            wait = retry_after(refusal.headers)
            problem: Exception = refusal
        except (httpx2.TransportError, httpx2.DecodingError) as error:
            problem = error
            if _hopeless(error):
                raise unreachable(error, url) from error
        failures = 1 if state.position > before else failures + 1
        if failures >= patience.tries:
            if isinstance(problem, Refused):
                raise problem
            raise unreachable(problem, url) from problem
        if wait is None:
            wait = patience.first_wait * 2 ** (failures - 1) * random.uniform(0.8, 1.2)  # noqa: S311
        wait = min(wait, _MAX_WAIT)
        _log.warning(
            "%s: %s; %s, trying again in %.1f s",
            redact(url),
            scrub(str(problem)) or type(problem).__name__,
            f"{state.position} bytes are here" if state.position else "nothing is here yet",
            wait,
        )
        time.sleep(wait)
    raise SourceUnreachable(f"{host_of(url)} went on cutting the connection: given up after {_MAX_TRIES} tries.")


@dataclass
class _State:
    position: int
    total: int | None
    validator: str | None = None


@contextlib.contextmanager
def _opened(destination: Path, position: int) -> Iterator[BinaryIO]:
    try:
        with destination.open("r+b" if destination.exists() else "wb") as stream:
            stream.truncate(position)
            stream.seek(position)
            yield stream
    except OSError as error:
        raise explain(error, destination, "writing") from error


def _attempt(
    client: httpx2.Client,
    url: str,
    stream: BinaryIO,
    headers: Mapping[str, str],
    state: _State,
    on_bytes: Callable[[bytes], None] | None,
    on_restart: Callable[[], None] | None,
    on_size: Callable[[int], None] | None,
) -> None:
    # Ranges count the bytes of the file itself, so it must not come compressed.
    asked = {**headers, "Accept-Encoding": "identity"}
    if state.position:
        asked["Range"] = f"bytes={state.position}-"
        if state.validator:
            asked["If-Range"] = state.validator
    with client.stream("GET", url, headers=asked) as response:
        if state.position and response.status_code == 416:
            total = _content_range(response)[1]
            if total is not None and total == state.position:
                state.total = total
                return
            _restart(stream, state, on_restart)
            raise httpx2.RemoteProtocolError("the file is shorter than what is here: beginning again")
        if response.status_code >= 400:
            raise Refused(response.status_code, url, response.reason_phrase, response.headers)
        if response.status_code not in (200, 206):
            raise Refused(response.status_code, url, "which is no file", response.headers)
        first, total = 0, None
        if response.status_code == 206:
            first, total = _content_range(response)
            if state.validator and _validator(response) != state.validator:
                # It changed, and the server does not know If-Range: what is here belongs to another file.
                _restart(stream, state, on_restart)
                raise httpx2.RemoteProtocolError("the file has changed: beginning again")
        if first != state.position:
            _restart(stream, state, on_restart)
            if first:
                raise httpx2.RemoteProtocolError(f"the answer begins at byte {first}: beginning again")
        plain = response.headers.get("Content-Encoding", "identity").lower() in ("", "identity")
        length = response.headers.get("Content-Length", "")
        if total is None and plain and length.isdigit():
            total = state.position + int(length)
        if total is not None:
            state.total = total
            if on_size is not None:
                on_size(total)
        state.validator = _validator(response)
        for data in response.iter_bytes():  # as it comes: a cut must not lose a part of a larger block
            stream.write(data)
            state.position += len(data)
            if on_bytes is not None:
                on_bytes(data)
    if state.total is not None and state.position < state.total:
        raise httpx2.RemoteProtocolError(f"the answer ended after {state.position} of {state.total} bytes")


def _restart(stream: BinaryIO, state: _State, on_restart: Callable[[], None] | None) -> None:
    if state.position and on_restart is not None:
        on_restart()
    stream.seek(0)
    stream.truncate()
    state.position = 0


def _content_range(response: httpx2.Response) -> tuple[int, int | None]:
    """First byte and whole size, of `Content-Range: bytes 5-9/10` (or `bytes */10`)."""
    text = response.headers.get("Content-Range", "").removeprefix("bytes").strip()
    span, _, size = text.partition("/")
    first = span.partition("-")[0]
    return (int(first) if first.isdigit() else 0), (int(size) if size.isdigit() else None)


def _validator(response: httpx2.Response) -> str | None:
    etag = response.headers.get("ETag")
    if etag and not etag.startswith("W/"):
        return etag
    return response.headers.get("Last-Modified")


def _hopeless(error: BaseException) -> bool:
    """Whether another try within seconds cannot help: a certificate does not become valid."""
    return isinstance(error, httpx2.UnsupportedProtocol) or any(
        isinstance(cause, ssl.SSLCertVerificationError) for cause in causes(error)
    )


def unreachable(error: BaseException, url: str) -> RunnerError:
    """Say which host did not answer, how, and what to look at."""
    host = host_of(url)
    chain = list(causes(error))
    for cause in chain:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return SourceUnreachable(
                f"The certificate of {host} could not be verified: {cause.verify_message}.",
                hint="If the host uses a private certificate authority, let TRANSCRIPTION_CA_BUNDLE (the chart's "
                "runner.caBundle) hold its certificate in PEM.",
            )
    for cause in chain:
        if isinstance(cause, socket.gaierror) or "Name or service not known" in str(cause):
            return SourceUnreachable(
                f"The name of {host} could not be resolved: {getattr(cause, 'strerror', None) or cause}.",
                hint="Check the host's spelling, the cluster's DNS, and whether pods may ask (NetworkPolicy, proxy).",
            )
    if any(isinstance(cause, ConnectionRefusedError) for cause in chain):
        return SourceUnreachable(f"{host} refused the connection.", hint="Check the host, the port, and that it runs.")
    if isinstance(error, httpx2.ProxyError):
        return SourceUnreachable(
            f"The proxy on the way to {host} refused: {scrub(str(error))}.",
            hint="Check HTTPS_PROXY, HTTP_PROXY and NO_PROXY.",
        )
    if isinstance(error, (httpx2.TimeoutException, TimeoutError)):
        return SourceUnreachable(
            f"{host} sent nothing in time ({type(error).__name__}).",
            hint="Check that the host answers and that pods may reach it (NetworkPolicy, firewall, proxy).",
        )
    if any(isinstance(cause, ssl.SSLError) for cause in chain):
        return SourceUnreachable(
            f"No TLS connection to {host}: {scrub(str(error))}.", hint="Check that the port speaks https."
        )
    return SourceUnreachable(f"{host} could not be reached: {scrub(str(error)) or type(error).__name__}.")

"""A resumable download over HTTP into a file: retries, ranges, back-off, flat memory.

Used for sources and for models. huggingface_hub 2.x throws away what a killed process had downloaded, so models come
this way too.
"""

from __future__ import annotations

import logging
import random
import socket
import ssl
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

import httpcore2
import httpx2

from transcription_runner.backoff import Patience, retry_after
from transcription_runner.errors import Reason, RunnerError, SourceUnreachable, causes
from transcription_runner.filesystem import continued, write_all
from transcription_runner.redact import host_of, redact, scrub

_MAX_TRIES = 200
"""In all, however much each brings: a server that gives a byte at a time must not hold a pod for ever."""

_TRY_AGAIN = {408, 425, 429, 500, 502, 503, 504}

_BLOCK = 64 << 10
"""Bytes asked of a connection at once; it gives what there is."""

_log = logging.getLogger(__name__)


class Refused(Exception):
    """The server answered with a status that another try would not change, or that tries did not change."""

    def __init__(self, status: int, url: str, reason: str, headers: Mapping[str, str]) -> None:
        """Keep what the server answered."""
        super().__init__(f"{host_of(url)} answered {status} {reason} for {redact(url)}")
        self.status = status
        self.url = url
        self.headers = headers


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
    on_bytes: Callable[[int, float], None] | None = None,
    on_restart: Callable[[], None] | None = None,
    on_size: Callable[[int], None] | None = None,
    on_retry: Callable[[], None] | None = None,
) -> int:
    """Write the body of `url` to `destination`, from byte `start` on (the file holds those before it).

    `on_bytes` is told how many bytes were written and how many seconds that took; `on_restart` when the server makes
    us begin again at zero; `on_size` the whole size once it is known; `on_retry` of every further try. Returns the
    size in bytes.
    Raises Refused, SourceUnreachable, OutputFailed.
    """
    patience = patience or Patience()
    state = _State(position=start, total=expected_size)
    failures = 0
    for _ in range(_MAX_TRIES):
        before = state.position
        wait: float | None = None
        try:
            with continued(destination, state.position) as stream:
                _attempt(client, url, stream, headers or {}, state, on_bytes, on_restart, on_size)
            return state.position
        except Refused as refusal:
            if refusal.status not in _TRY_AGAIN:
                raise
            wait = retry_after(refusal.headers)
            if wait is not None and wait > patience.longest_wait:
                raise
            problem: Exception = refusal
        except (httpx2.TransportError, httpx2.DecodingError) as error:
            problem = error
            if _hopeless(error):
                raise unreachable(error, url, patience) from error
        failures = 1 if state.position > before else failures + 1
        if failures >= patience.tries:
            if isinstance(problem, Refused):
                raise problem
            raise unreachable(problem, url, patience) from problem
        if on_retry is not None:
            on_retry()
        if wait is None:
            wait = patience.first_wait * 2 ** (failures - 1) * random.uniform(0.8, 1.2)  # noqa: S311
            wait = min(wait, patience.longest_wait)
        _log.warning(
            "%s: %s; %s, trying again in %.1f s",
            redact(url),
            scrub(str(problem)) or type(problem).__name__,
            f"{state.position} bytes are here" if state.position else "nothing is here yet",
            wait,
        )
        time.sleep(wait)
    raise SourceUnreachable(
        f"{host_of(url)} went on cutting the connection: given up after {_MAX_TRIES} tries.",
        reason=Reason.CONNECTION_FAILED,
    )


@dataclass
class _State:
    position: int
    total: int | None
    validator: str | None = None


def _attempt(
    client: httpx2.Client,
    url: str,
    stream: BinaryIO,
    headers: Mapping[str, str],
    state: _State,
    on_bytes: Callable[[int, float], None] | None,
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
            raise Refused(response.status_code, str(response.url), response.reason_phrase, response.headers)
        if response.status_code not in (200, 206):
            raise Refused(response.status_code, str(response.url), "which is no file", response.headers)
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
        for data in _blocks(response):
            seconds = write_all(stream, data)
            state.position += len(data)
            if on_bytes is not None:
                on_bytes(len(data), seconds)
    if state.total is not None and state.position < state.total:
        raise httpx2.RemoteProtocolError(f"the answer ended after {state.position} of {state.total} bytes")


def _blocks(response: httpx2.Response) -> Iterator[bytes]:
    """The body as it comes: a cut must not lose a part of a larger block.

    The first block is the client's, with what came along with the headers. The rest of a plain body of HTTP/1.1 is read
    from the connection itself: what the client does to each 64 KB takes a processor longer than to hash them.
    """
    blocks = response.iter_bytes()
    first = next(blocks, b"")
    yield first
    left = _plain_length(response) - len(first)
    if left <= 0:
        yield from blocks
        return
    connection: httpcore2.NetworkStream = response.extensions["network_stream"]
    patience = response.request.extensions["timeout"]["read"]
    while left > 0:
        try:
            data = connection.read(min(left, _BLOCK), timeout=patience)
        except httpcore2.TimeoutException as error:
            raise httpx2.ReadTimeout(str(error), request=response.request) from error
        except httpcore2.NetworkError as error:
            raise httpx2.ReadError(str(error), request=response.request) from error
        if not data:
            return
        left -= len(data)
        yield data


def _plain_length(response: httpx2.Response) -> int:
    """Bytes of a body that comes over its connection as it is; 0 for one that has to be decoded."""
    headers = response.headers
    plain = headers.get("Content-Encoding", "identity").lower() in ("", "identity")
    length = headers.get("Content-Length", "")
    if response.http_version != "HTTP/1.1" or not plain or "Transfer-Encoding" in headers or not length.isdigit():
        return 0
    return int(length) if "network_stream" in response.extensions else 0


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


def unreachable(error: BaseException, url: str, patience: Patience | None = None) -> RunnerError:
    """Say which host did not answer, how, and what to look at; `patience` is what it was given."""
    url = _asked(error) or url
    host = host_of(url)
    chain = list(causes(error))
    proxy = _proxy(url)
    way = f" through the proxy {proxy}" if proxy else ""
    for cause in chain:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return SourceUnreachable(
                f"The certificate of {host} could not be verified: {cause.verify_message}.",
                hint="If the host uses a private certificate authority, let TRANSCRIPTION_CA_BUNDLE (the chart's "
                "runner.caBundle) hold its certificate in PEM; if the certificate has expired, its owner has to renew "
                "it (or this machine's clock is wrong).",
                reason=Reason.TLS_FAILURE,
            )
    if isinstance(error, httpx2.ProxyError) or (
        proxy and any(isinstance(cause, (ConnectionRefusedError, socket.gaierror)) for cause in chain)
    ):
        return proxy_refused(host, proxy, scrub(str(error)))
    for cause in chain:
        if isinstance(cause, socket.gaierror) or "Name or service not known" in str(cause):
            return SourceUnreachable(
                f"The name of {host} could not be resolved: {getattr(cause, 'strerror', None) or cause}.",
                hint="Check the host's spelling, the cluster's DNS, and whether pods may ask (NetworkPolicy, proxy).",
                reason=Reason.DNS_FAILURE,
            )
    if any(isinstance(cause, ConnectionRefusedError) for cause in chain):
        return SourceUnreachable(
            f"{host} refused the connection.",
            hint="Check the host, the port, and that it runs.",
            reason=Reason.CONNECTION_FAILED,
        )
    if isinstance(error, httpx2.ReadTimeout):
        seconds = f"for {patience.stall_seconds:g} s" if patience else "in time"
        return SourceUnreachable(
            f"{host} sent nothing {seconds}{way}, again and again: the download has stalled.",
            hint="Check that the host answers and that pods may reach it (NetworkPolicy, firewall, proxy, NAT); a slow "
            "host needs more patience (`--stall_timeout`). What is here already is kept, and the next attempt goes on.",
            reason=Reason.STALLED,
        )
    if isinstance(error, (httpx2.TimeoutException, TimeoutError)):
        return SourceUnreachable(
            f"{host} did not take the connection in time{way} ({type(error).__name__}).",
            hint="Check that the host answers and that pods may reach it (NetworkPolicy, firewall, proxy).",
            reason=Reason.CONNECTION_FAILED,
        )
    if any(isinstance(cause, ssl.SSLError) for cause in chain):
        return SourceUnreachable(
            f"No TLS connection to {host}: {scrub(str(error))}.",
            hint="Check that the port speaks https.",
            reason=Reason.TLS_FAILURE,
        )
    return SourceUnreachable(
        f"{host} could not be reached{way}: {scrub(str(error)) or type(error).__name__}.",
        hint="Check that the host answers and that pods may reach it (NetworkPolicy, firewall, proxy).",
        reason=Reason.CONNECTION_FAILED,
    )


def proxy_refused(host: str, proxy: str | None, detail: str) -> RunnerError:
    """The error that says that a proxy is in the way."""
    return SourceUnreachable(
        f"The proxy{f' {proxy}' if proxy else ''} on the way to {host} refused: {detail}.",
        hint="Check HTTPS_PROXY, HTTP_PROXY and NO_PROXY; a proxy that wants a password (407) gets it as "
        "http://user:password@proxy:port.",
        reason=Reason.PROXY_FAILURE,
    )


def _asked(error: BaseException) -> str | None:
    """The URL that failed: after a redirect it is another host's than the one that was asked first."""
    try:
        return str(error.request.url)  # type: ignore[attr-defined]
    except (AttributeError, RuntimeError):
        return None


def _proxy(url: str) -> str | None:
    """Host and port of the proxy that the environment names for a URL."""
    parts = urlsplit(url)
    proxies = urllib.request.getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or not parts.hostname or urllib.request.proxy_bypass(parts.hostname):
        return None
    return host_of(proxy if "://" in proxy else f"//{proxy}")

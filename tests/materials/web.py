"""What the tests' HTTP servers share: a thread to run in, files by range, faults, a control path."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from aiohttp import web

from tests.materials.faults import Behaviour, Fault, Request, Stage, as_json

_CHUNK = 1 << 18

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Answer:
    """What to answer when nothing goes wrong: a body, or a part of a file as the request's range says."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    file: Path | None = None


class Site:
    """Answers requests, shows the faults that are due, and keeps the record."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour

    async def answer(self, request: web.Request, path: str, stage: Stage, answer: Answer) -> web.StreamResponse:
        """Send an answer, or what a fault makes of it. `path` is what faults and records call the request."""
        fault = self.behaviour.due(path, stage)
        if fault is not None and fault.kind == "status":
            headers = [] if fault.retry_after is None else [("Retry-After", f"{fault.retry_after:g}")]
            answer = Answer(fault.status, tuple(headers), b"as the test wants it")
            fault = None
        record = Request(
            request.method,
            path,
            stage,
            answer.status,
            range=request.headers.get("Range"),
            authorized="Authorization" in request.headers,
        )
        self.behaviour.record(record)
        try:
            return await _send(request, answer, fault, record)
        except _CutError:
            return web.Response()  # nobody is there any more to read it

    def add_control(self, app: web.Application) -> None:
        """Offer faults and records over HTTP too, under `/_control`."""

        async def add(request: web.Request) -> web.Response:
            try:
                self.behaviour.add(Fault(**await request.json()))
            except TypeError as error:
                return web.json_response({"error": str(error)}, status=400)
            return web.json_response(as_json(self.behaviour.faults()))

        async def faults(_: web.Request) -> web.Response:
            return web.json_response(as_json(self.behaviour.faults()))

        async def clear(_: web.Request) -> web.Response:
            self.behaviour.clear()
            return web.json_response([])

        async def requests(request: web.Request) -> web.Response:
            return web.json_response(as_json(self.behaviour.requests(request.query.get("path", "*"))))

        async def forget(_: web.Request) -> web.Response:
            self.behaviour.forget()
            return web.json_response([])

        app.router.add_post("/_control/faults", add)
        app.router.add_get("/_control/faults", faults)
        app.router.add_delete("/_control/faults", clear)
        app.router.add_get("/_control/requests", requests)
        app.router.add_delete("/_control/requests", forget)


class _CutError(Exception):
    """The connection was closed in the middle of an answer."""


def _span(header: str | None, size: int) -> tuple[int, int] | None:
    """Return the first byte and the one after the last that a Range header asks for; none for all."""
    if header is None or not header.startswith("bytes=") or "," in header:
        return None
    first, _, last = header.removeprefix("bytes=").partition("-")
    if first == "":
        return max(0, size - int(last)), size
    return int(first), min(int(last) + 1, size) if last else size


async def _send(request: web.Request, answer: Answer, fault: Fault | None, record: Request) -> web.StreamResponse:
    size = answer.file.stat().st_size if answer.file else len(answer.body)
    start, end = 0, size
    headers = dict(answer.headers)
    if answer.file is not None:
        headers["Accept-Ranges"] = "bytes"
        span = _span(request.headers.get("Range"), size)
        if span is not None:
            start, end = span
            if start >= size:
                record.status = 416
                return web.Response(status=416, headers={"Content-Range": f"bytes */{size}"})
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
            record.status = 206
    response = web.StreamResponse(status=record.status, headers=headers)
    response.content_length = end - start
    if request.method == "HEAD":
        if fault is not None and fault.kind in ("stall", "cut"):
            await _break(request, fault)
        await response.prepare(request)
        return response
    if fault is not None and fault.kind in ("stall", "cut") and fault.at == 0:
        await _break(request, fault)
        fault = None
    await response.prepare(request)
    with contextlib.ExitStack() as stack:
        file: BinaryIO | None = None
        if answer.file is not None:
            file = stack.enter_context(answer.file.open("rb"))
            file.seek(start)
        at = start
        while at < end:
            length = min(_CHUNK, end - at)
            if fault is not None and fault.kind in ("stall", "cut"):
                if at - start == fault.at:
                    await _break(request, fault)
                    fault = None
                else:
                    length = min(length, fault.at - (at - start))
            elif fault is not None and fault.kind == "slow":
                length = max(1, min(length, int(fault.rate / 10)))
                await asyncio.sleep(length / fault.rate)
            chunk = bytearray(file.read(length) if file else answer.body[at : at + length])
            if fault is not None and fault.kind == "corrupt" and at <= fault.at < at + length:
                chunk[fault.at - at] ^= 0xFF
            record.sent += length
            await response.write(bytes(chunk))
            at += length
    await response.write_eof()
    return response


async def _break(request: web.Request, fault: Fault) -> None:
    """Say nothing for a time (a stall), or close the connection at once (a cut)."""
    if fault.kind == "stall":
        await asyncio.sleep(fault.seconds if fault.seconds is not None else 1_000_000)
        return
    if isinstance(request.transport, asyncio.WriteTransport):
        # What was written before is to arrive: closing sends it first, aborting would not.
        request.transport.close()
    raise _CutError


@contextlib.contextmanager
def running(app: web.Application, host: str, port: int, ssl_context: ssl.SSLContext | None = None) -> Iterator[int]:
    """Run an application in a thread of its own; yield the port it listens on."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="materials-http", daemon=True)
    thread.start()

    async def start() -> tuple[web.AppRunner, int]:
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, host, port, ssl_context=ssl_context)
        await site.start()
        return runner, int(runner.addresses[0][1])

    try:
        runner, listening = asyncio.run_coroutine_threadsafe(start(), loop).result(timeout=30)
        try:
            yield listening
        finally:
            asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(timeout=30)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=30)
        loop.close()

"""Fills the engine's batches from all the state machines at hand.

Windows of any file go into one batch, and a finished one's place is taken by the next that waits. A window to be
repeated at a higher temperature waits alone, and its audio is not encoded again. Where memory is not enough the batch
is halved, and the windows in it begin again.
"""

from __future__ import annotations

import logging
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch

from transcription_runner import errors
from transcription_runner.alignment import Text
from transcription_runner.decoding import Method, Session, Start
from transcription_runner.engine import Engine
from transcription_runner.options import TranscribeOptions, parse_tokens
from transcription_runner.recording import Recording
from transcription_runner.windows import Align, Cut, Decode, Detect, Machine, Request, Response

_log = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class Job:
    """A file on its way: its sound, its machine, and what the scheduler keeps for it."""

    recording: Recording
    machine: Machine
    features: dict[Cut, torch.Tensor] = field(default_factory=dict)
    waiting: dict[int, Request] = field(default_factory=dict)
    """Requests handed out and not answered, by identity."""


Ticket: TypeAlias = tuple[Job, Request]


class Scheduler:
    """Runs jobs on an engine."""

    def __init__(self, engine: Engine, options: TranscribeOptions, *, batch_size: int) -> None:
        """All jobs share the options. batch_size: windows to decode at once."""
        self._engine = engine
        self._options = options
        self._batch_size = batch_size
        self._suppress = engine.suppressed(parse_tokens(options.suppress_tokens))
        self._sessions: dict[Method, Session[Ticket]] = {}
        self._decodes: dict[Method, deque[Ticket]] = {}
        self._detects: deque[Ticket] = deque()
        self._aligns: deque[Ticket] = deque()

    def run(self, jobs: Iterator[Job], on_answer: Callable[[Job], None] = lambda _: None) -> Iterator[Job]:
        """Finish jobs, in the order of their ends. Jobs are taken as there is room for their windows."""
        active: set[Job] = set()
        more = True
        while more or active:
            while more and self._load() < self._batch_size:
                job = next(jobs, None)
                more = job is not None
                if job is not None:
                    active.add(job)
                    self._collect(job)
                    if job.machine.done:
                        active.discard(job)
                        yield job
            answered = {job for job, request, response in self._serve() if self._answer(job, request, response)}
            for job in active:
                self._collect(job)
            for job in answered:
                on_answer(job)
                if job.machine.done:
                    active.discard(job)
                    yield job

    def _load(self) -> int:
        """Windows waiting or being decoded."""
        waiting = len(self._detects) + len(self._aligns) + sum(map(len, self._decodes.values()))
        return waiting + sum(map(len, self._sessions.values()))

    def _collect(self, job: Job) -> None:
        """Queue the requests that a job's machine has now, as far as there is room."""
        for request in job.machine.requests():
            job.waiting[id(request)] = request
            match request:
                case Detect():
                    self._detects.append((job, request))
                case Align():
                    self._aligns.append((job, request))
                case Decode():
                    self._decodes.setdefault(self._method(request.temperature), deque()).append((job, request))
            if self._load() >= 2 * self._batch_size:
                break

    def _answer(self, job: Job, request: Request, response: Response) -> bool:
        del job.waiting[id(request)]
        job.machine.take(request, response)
        self._collect(job)
        # What nobody waits for any more will not be asked for again.
        wanted = {waiting.cut for waiting in job.waiting.values()}
        for cut in [cut for cut in job.features if cut not in wanted]:
            del job.features[cut]
        return True

    def _serve(self) -> list[tuple[Job, Request, Response]]:
        """Do some work; returns requests with their answers, perhaps none yet."""
        if self._detects:
            return self._serve_detects(self._take(self._detects))
        if self._aligns:
            return self._serve_aligns(self._take(self._aligns))
        answers: list[tuple[Job, Request, Response]] = []
        for method in list(self._decodes):
            try:
                answers += self._decode(method)
            except errors.OutOfMemory as error:
                self._shrink(method, error)
        return answers

    def _take(self, queue: deque[Ticket]) -> list[Ticket]:
        return [queue.popleft() for _ in range(min(len(queue), self._batch_size))]

    def _serve_detects(self, tickets: Sequence[Ticket]) -> list[tuple[Job, Request, Response]]:
        found = self._engine.detect(self._features(tickets), self._options.languages)
        return [(job, request, answer) for (job, request), answer in zip(tickets, found, strict=True)]

    def _serve_aligns(self, tickets: Sequence[Ticket]) -> list[tuple[Job, Request, Response]]:
        features = self._features(tickets)
        texts = [
            Text(request.tokens, request.language, self._options.task, request.cut.size)
            for _, request in tickets
            if isinstance(request, Align)
        ]
        found = self._engine.align(features, texts)
        return [(job, request, answer) for (job, request), answer in zip(tickets, found, strict=True)]

    def _decode(self, method: Method) -> list[tuple[Job, Request, Response]]:
        """Admit what there is room for and decode one token of everything."""
        queue = self._decodes[method]
        session = self._sessions.get(method)
        if session is None:
            if not queue:
                return []
            session = self._sessions[method] = self._engine.session(method, self._batch_size)
        done: list[tuple[Ticket, Any]] = []
        if queue and session.free:
            tickets = [queue.popleft() for _ in range(min(len(queue), session.free))]
            try:
                done += session.admit(self._starts(tickets))
            except errors.OutOfMemory:
                queue.extendleft(reversed(tickets))
                raise
        done += session.step()
        if not len(session) and not queue:
            del self._sessions[method]
        return [(job, request, result) for (job, request), result in done]

    def _starts(self, tickets: Sequence[Ticket]) -> list[Start[Ticket]]:
        tokenizer = self._engine.tokenizer
        features = self._features(tickets)
        starts = []
        for row, ticket in enumerate(tickets):
            request = ticket[1]
            if not isinstance(request, Decode):
                raise TypeError(request)
            prompt = (tokenizer.sot_prev, *request.prompt) if request.prompt else ()
            starts.append(
                Start(
                    ticket=ticket,
                    features=features[row],
                    tokens=(*prompt, *tokenizer.start(request.language, self._options.task)),
                    sot=len(prompt),
                    temperature=request.temperature,
                    seed=zlib.crc32(f"{request.cut.pieces} {request.temperature}".encode()),
                )
            )
        return starts

    def _features(self, tickets: Sequence[Ticket]) -> torch.Tensor:
        """The encoder's output for each request's audio, from what is kept where it was there before."""
        missing = {
            (id(job), request.cut): (job, request.cut) for job, request in tickets if request.cut not in job.features
        }
        if missing:
            mel = torch.stack([job.recording.features(cut) for job, cut in missing.values()])
            for (job, cut), encoded in zip(missing.values(), self._engine.encode(mel), strict=True):
                job.features[cut] = encoded
        return torch.stack([job.features[request.cut] for job, request in tickets])

    def _shrink(self, method: Method, error: errors.OutOfMemory) -> None:
        """Halve the batch, and begin again with the windows that were in it."""
        if self._batch_size == 1:
            raise error
        self._batch_size //= 2
        _log.warning("%s; going on with %d windows at once", error.message, self._batch_size)
        session = self._sessions.pop(method, None)
        if session is not None:
            self._decodes[method].extendleft(reversed(session.tickets()))
        if self._engine.device == "cuda":
            torch.cuda.empty_cache()

    def _method(self, temperature: float) -> Method:
        options = self._options
        beams = options.beam_size if temperature == 0 else None
        candidates = options.best_of if temperature > 0 else None
        return Method(
            group=beams or candidates or 1,
            beam=beams is not None,
            patience=(options.patience or 1.0) if beams else 1.0,
            length_penalty=options.length_penalty,
            suppress=self._suppress,
        )

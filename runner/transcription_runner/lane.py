"""One engine at work on a queue of windows: from requests with their sound to answers.

A window's place in the batch is taken by the next that waits as soon as it is finished. A window to be repeated at a
higher temperature waits alone, and its audio is not encoded again. On a GPU the next windows are encoded on a stream of
their own while the others are decoded. Where memory is not enough the batch is halved, and the windows in it begin
again.
"""

from __future__ import annotations

import contextlib
import logging
import zlib
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import torch

from transcription_runner import errors, profile
from transcription_runner.alignment import Text
from transcription_runner.decoding import Method, Prepared, Session, Start
from transcription_runner.engine import Engine, let_go, memory_errors
from transcription_runner.fitting import fitting_batch
from transcription_runner.mel import Sound
from transcription_runner.options import TranscribeOptions, parse_tokens
from transcription_runner.windows import Align, Cut, Decode, Detect, Request, Response

_log = logging.getLogger(__name__)

ENCODED_AT_ONCE: Final = 16
"""Windows that the encoder takes together: enough to keep a GPU busy, few enough to hold little memory."""

_ADMITTED_AT_ONCE: Final = 8
"""Windows for which a GPU's decoding makes room at once, where as many wait: one by one costs more than a wait."""


@dataclass(frozen=True, slots=True)
class Task:
    """A request on its way. number: what its answer is known by. source: the file that its cut belongs to.

    sound: None where the lane has the window's features still.
    """

    number: int
    source: Hashable
    request: Request
    sound: Sound | None


Answer: TypeAlias = tuple[int, Response]


class Lane:
    """Serves the tasks of any number of files with one engine."""

    def __init__(self, engine: Engine, options: TranscribeOptions, *, batch_size: int | None = None) -> None:
        """All tasks share the options. batch_size: windows to decode at once; None for what fits the device."""
        self._engine = engine
        self._options = options
        self._suppress = engine.suppressed(parse_tokens(options.suppress_tokens))
        self.batch_size = batch_size or fitting_batch(engine.network, self._method(options.temperature[0]))
        self._features: dict[tuple[Hashable, Cut], torch.Tensor] = {}
        self._sessions: dict[Method, Session[Task]] = {}
        self._decodes: dict[Method, deque[Task]] = {}
        self._detects: deque[Task] = deque()
        self._aligns: deque[Task] = deque()
        # What the encoder does goes beside what the decoder does, where both may be at work on one cache.
        beside = engine.device == "cuda" and engine.network.overlaps
        self._side: torch.cuda.Stream | None = torch.cuda.Stream(engine.network.device) if beside else None  # type: ignore[no-untyped-call]
        if engine.device == "cuda":
            profile.synchronize_with(torch.cuda.synchronize)

    @property
    def load(self) -> int:
        """Windows waiting or being decoded."""
        waiting = len(self._detects) + len(self._aligns) + sum(map(len, self._decodes.values()))
        return waiting + sum(map(len, self._sessions.values()))

    def give(self, task: Task) -> None:
        """One more task."""
        match task.request:
            case Detect():
                self._detects.append(task)
            case Align():
                self._aligns.append(task)
            case Decode(temperature=temperature):
                self._decodes.setdefault(self._method(temperature), deque()).append(task)

    def forget(self, source: Hashable, cut: Cut) -> None:
        """Nobody will ask for this window again."""
        self._features.pop((source, cut), None)

    def work(self, *, idle: bool = False) -> list[Answer]:  # noqa: ARG002  # a Server's
        """Do some work; returns answers, perhaps none yet."""
        if self._detects:
            return self._serve(self._detects, self._detected)
        if self._aligns:
            return self._serve(self._aligns, self._aligned)
        answers: list[Answer] = []
        for method in self._at_work():
            try:
                answers += self._decode(method)
            except errors.OutOfMemory as error:
                self._shrink(method, error)
        return answers

    def _serve(self, queue: deque[Task], serve: Callable[[Sequence[Task]], list[Answer]]) -> list[Answer]:
        """Serve a batch of a queue."""
        tasks = [queue.popleft() for _ in range(min(len(queue), self.batch_size))]
        try:
            return serve(tasks)
        except errors.OutOfMemory as error:
            queue.extendleft(reversed(tasks))
            self._halve(error)
            return []

    def _detected(self, tasks: Sequence[Task]) -> list[Answer]:
        with profile.stage(profile.DECODER), self._beside():
            found = self._engine.detect(self._encoded(tasks), self._options.languages)
        return [(task.number, answer) for task, answer in zip(tasks, found, strict=True)]

    def _aligned(self, tasks: Sequence[Task]) -> list[Answer]:
        texts = [
            Text(task.request.tokens, task.request.language, self._options.task, task.request.cut.size)
            for task in tasks
            if isinstance(task.request, Align)
        ]
        with profile.stage(profile.WORDS), self._beside():
            found = self._engine.align(self._encoded(tasks), texts)
        return [(task.number, answer) for task, answer in zip(tasks, found, strict=True)]

    def _at_work(self) -> list[Method]:
        """The methods to go on with: a few windows to be repeated wait for more of their kind, as long as others run.

        A step costs nearly the same for one window as for many.
        """
        methods = [method for method, queue in self._decodes.items() if queue or method in self._sessions]
        busiest = max(methods, key=self._windows_of, default=None)
        return [
            method
            for method in methods
            if method == busiest or method in self._sessions or self._windows_of(method) * 4 >= self.batch_size
        ]

    def _windows_of(self, method: Method) -> int:
        return len(self._decodes[method]) + len(self._sessions.get(method, ()))

    def _decode(self, method: Method) -> list[Answer]:
        """One round: decode what is in the batch, and make ready what there is room for."""
        queue = self._decodes[method]
        session = self._sessions.get(method)
        if session is None:
            session = self._sessions[method] = self._engine.session(method, self._capacity(method))
        with profile.stage(profile.DECODER), memory_errors():
            session.launch()
            prepared = list(self._prepared(session, queue))
            done = session.collect()
            for each in prepared:
                session.begin(each)
        if not len(session) and not queue:
            del self._sessions[method]
        return [(task.number, result) for task, result in done]

    def _prepared(self, session: Session[Task], queue: deque[Task]) -> Iterator[Prepared[Task]]:
        """The next windows, encoded; while the batch is half empty more of them at once."""
        room, taken = session.free, 0
        while queue and room:
            count = min(len(queue), room, ENCODED_AT_ONCE)
            if self._engine.device == "cuda" and len(session) and count < min(len(queue), _ADMITTED_AT_ONCE):
                return
            tasks = [queue.popleft() for _ in range(count)]
            try:
                with self._beside(session), memory_errors():
                    prepared = session.prepare(self._starts(tasks), taken)
            except errors.OutOfMemory:
                queue.extendleft(reversed(tasks))
                raise
            yield prepared
            room, taken = room - count, taken + count
            if room < session.capacity // 2:
                return

    @contextlib.contextmanager
    def _beside(self, session: Session[Task] | None = None) -> Iterator[None]:
        """On the encoder's stream; what comes after on the other waits for it. session: whose cache is written to."""
        if self._side is None:
            yield
            return
        if session is not None and session.ready is not None:
            self._side.wait_event(session.ready)
        with torch.cuda.stream(self._side):
            yield
        torch.cuda.current_stream(self._engine.network.device).wait_stream(self._side)

    def _starts(self, tasks: Sequence[Task]) -> list[Start[Task]]:
        tokenizer = self._engine.tokenizer
        features = self._encoded(tasks)
        starts = []
        for row, task in enumerate(tasks):
            request = task.request
            if not isinstance(request, Decode):
                raise TypeError(request)
            prompt = (tokenizer.sot_prev, *request.prompt) if request.prompt else ()
            starts.append(
                Start(
                    ticket=task,
                    features=features[row],
                    tokens=(*prompt, *tokenizer.start(request.language, self._options.task)),
                    sot=len(prompt),
                    temperature=request.temperature,
                    seed=zlib.crc32(f"{request.cut.pieces} {request.temperature}".encode()),
                )
            )
        return starts

    def _encoded(self, tasks: Sequence[Task]) -> torch.Tensor:
        """The encoder's output for each task's audio, from what is kept where it was there before."""
        keys = [(task.source, task.request.cut) for task in tasks]
        missing = {key: task.sound for key, task in zip(keys, tasks, strict=True) if key not in self._features}
        names = list(missing)
        for first in range(0, len(names), ENCODED_AT_ONCE):
            part = names[first : first + ENCODED_AT_ONCE]
            sounds = [sound for name in part if (sound := missing[name]) is not None]
            with profile.stage(profile.MEL):
                mel = self._engine.mel.windows(sounds)
            with profile.stage(profile.ENCODER):
                self._features |= zip(part, self._engine.encode(mel), strict=True)
        return torch.stack([self._features[key] for key in keys])

    def _capacity(self, method: Method) -> int:
        """Windows of a session: the first has the whole batch, those beside it what memory is left."""
        if not self._sessions or self._engine.device != "cuda":
            return self.batch_size
        return min(self.batch_size, fitting_batch(self._engine.network, method))

    def _shrink(self, method: Method, error: errors.OutOfMemory) -> None:
        """Halve the batch, and begin again with the windows that were in it."""
        session = self._sessions.pop(method, None)
        if session is not None:
            self._decodes[method].extendleft(reversed(session.tickets()))
        del session
        self._halve(error)

    def _halve(self, error: errors.OutOfMemory) -> None:
        let_go(error)
        if self.batch_size == 1:
            raise error
        self.batch_size //= 2
        _log.warning("%s; going on with %d windows at once", error.message, self.batch_size)
        if self._engine.device == "cuda":
            torch.cuda.synchronize()
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

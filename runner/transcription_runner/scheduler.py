"""Fills the engines' batches from all the state machines at hand: windows of any file go into one batch."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from transcription_runner import profile
from transcription_runner.lane import ENCODED_AT_ONCE, Answer, Task
from transcription_runner.recording import Recording
from transcription_runner.windows import Cut, Decode, Machine, Request, Response


class Server(Protocol):
    """Who serves tasks: a Lane here, or a Pool of them in other processes."""

    @property
    def batch_size(self) -> int:
        """Windows that it decodes at once."""

    @property
    def load(self) -> int:
        """Windows waiting or being decoded."""

    def give(self, task: Task) -> None:
        """One more task."""

    def forget(self, source: int, cut: Cut) -> None:
        """Nobody will ask for this window again."""

    def work(self, *, idle: bool) -> list[Answer]:
        """Do some work; returns answers, perhaps none yet. idle: there is nothing else to do, so it may wait."""


@dataclass(eq=False, slots=True)
class Job:
    """A file on its way: its sound, its machine, and what the scheduler keeps for it."""

    recording: Recording
    machine: Machine
    waiting: dict[int, Request] = field(default_factory=dict)
    """Requests handed out and not answered, by their tasks' numbers."""
    servers: dict[Cut, Server] = field(default_factory=dict)
    """Who has the features of which window."""


class Scheduler:
    """Runs jobs on servers."""

    def __init__(self, servers: Sequence[Server]) -> None:
        """All of them take any task; one that has a window's features already is asked for it again."""
        self._servers = servers
        self._numbers = itertools.count()
        self._jobs: dict[int, Job] = {}
        """Whose a task is."""

    def run(
        self,
        jobs: Iterator[Job | None],
        on_answer: Callable[[Job], None] = lambda _: None,
        ready: Callable[[], bool] = lambda: True,
    ) -> Iterator[Job]:
        """Finish jobs, in the order of their ends. Jobs are taken as there is room for their windows.

        jobs: None among them stands for a file that there is nothing to do for. ready: whether the next of them can be
        had without waiting; as long as it cannot, the servers go on with what they have.
        """
        active: dict[Job, None] = {}
        more = True
        while more or active:
            while more and (load := self._load()) < self._batch_size() and (not load or ready()):
                try:
                    job = next(jobs)
                except StopIteration:
                    more = False
                    break
                if job is not None:
                    active[job] = None
                    self._collect(job)
                    if job.machine.done:
                        del active[job]
                        yield job
            answers = [answer for server in self._servers for answer in server.work(idle=self._load() == server.load)]
            answered = {self._answer(*answer): None for answer in answers}
            for job in active:
                if self._load() >= 2 * self._batch_size():
                    break
                self._collect(job)
            for job in answered:
                on_answer(job)
                if job.machine.done:
                    del active[job]
                    yield job

    def _load(self) -> int:
        return sum(server.load for server in self._servers)

    def _batch_size(self) -> int:
        return sum(server.batch_size for server in self._servers)

    def _collect(self, job: Job) -> None:
        """Hand out the requests that a job's machine has now, as far as there is room.

        Where the sound has to be read again it is a few windows' at a time: the servers are not to wait for more.
        """
        most = None if job.recording.is_kept else ENCODED_AT_ONCE
        for request in itertools.islice(job.machine.requests(), most):
            number = next(self._numbers)
            job.waiting[number] = request
            self._jobs[number] = job
            known = job.servers.get(request.cut)
            server = known or min(self._servers, key=lambda each: each.load - each.batch_size)
            job.servers[request.cut] = server
            server.give(Task(number, id(job), request, None if known else job.recording.sound(request.cut)))
            if self._load() >= 2 * self._batch_size():
                break

    def _answer(self, number: int, response: Response) -> Job:
        job = self._jobs.pop(number)
        request = job.waiting.pop(number)
        if isinstance(request, Decode):
            profile.mark(profile.FIRST_WINDOW)
        job.machine.take(request, response)
        self._collect(job)
        # What nobody waits for any more will not be asked for again.
        wanted = {waiting.cut for waiting in job.waiting.values()}
        for cut in [cut for cut in job.servers if cut not in wanted]:
            job.servers.pop(cut).forget(id(job), cut)
        return job

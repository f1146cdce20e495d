"""Puts the parts together and runs them until told to stop."""

from __future__ import annotations

import asyncio
import logging
import threading
from dataclasses import dataclass
from typing import Any

import kopf

from transcription_operator import api as k8s
from transcription_operator import handlers, health
from transcription_operator.api import Api, ApiError, load_configuration
from transcription_operator.keys import AnyKey, Key, Outcome
from transcription_operator.metrics import Metrics
from transcription_operator.queue import WorkQueue
from transcription_operator.reconcile import Reconciler
from transcription_operator.settings import Settings
from transcription_operator.sweeper import Sweeper
from transcription_operator.whispermodel.reconcile import ModelReconciler
from transcription_operator.workers import Workers

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    """How this process runs, as opposed to what it does."""

    kubeconfig: str | None = None
    health_port: int = 8080
    workers: int = 4
    sweep_interval: float = 300.0


def wait_for_crd(api: Api, stop: threading.Event) -> bool:
    """Wait until the API server answers and knows both kinds; False if told to stop before."""
    said = ""
    while not stop.is_set():
        try:
            missing = [kind.plural for kind in (k8s.TRANSCRIPTION_JOBS, k8s.WHISPER_MODELS) if not api.serves(kind)]
            if not missing:
                return True
            trouble = f"the API server does not serve {' and '.join(missing)} yet: install the CRDs"
        except ApiError as error:
            trouble = str(error)
        if trouble != said:
            _log.warning("waiting: %s", trouble)
            said = trouble
        stop.wait(1.0)
    return False


async def _watch(registry: kopf.OperatorRegistry, state: health.Health, stop: threading.Event) -> None:
    flag = asyncio.Event()

    async def pass_on() -> None:
        # A signal before kopf has set its own handlers. (A threading.Event would cost kopf a thread that never ends.)
        while not stop.is_set():
            await asyncio.sleep(0.5)
        flag.set()

    @kopf.on.cleanup(registry=registry, id="cleanup")
    async def cleanup(**_: Any) -> None:
        flag.set()  # else kopf, ended by a signal, waits 5 s for its own waiter on this flag

    # Made before kopf's own tasks, so that it does not wait for them to end.
    own = [asyncio.create_task(state.beat(), name="heartbeat"), asyncio.create_task(pass_on(), name="stop")]
    try:
        await kopf.operator(registry=registry, clusterwide=True, standalone=True, stop_flag=flag)
    finally:
        for task in own:
            task.cancel()


def run(settings: Settings, options: Options, stop: threading.Event | None = None) -> None:
    """Run until a signal, or until `stop` is set."""
    stop = stop or threading.Event()
    state = health.Health()
    metrics = Metrics()
    server = health.serve(state, options.health_port, metrics=metrics.page)
    api = Api(load_configuration(options.kubeconfig), threads=options.workers + 2)
    api.on_contact = state.contact
    queue: WorkQueue[AnyKey] = WorkQueue()
    jobs, models = Reconciler(api, settings, metrics), ModelReconciler(api, settings, metrics)

    def reconcile(key: AnyKey) -> Outcome:
        return jobs.reconcile(key) if isinstance(key, Key) else models.reconcile(key)

    workers = Workers(queue, reconcile, options.workers)
    sweeper = Sweeper(api, queue, interval=options.sweep_interval)
    try:
        if not wait_for_crd(api, stop):
            return
        workers.start()
        sweeper.start()
        state.watch("worker threads are dead", lambda: workers.alive)
        state.watch("sweeper thread is dead", lambda: sweeper.alive)
        registry = handlers.build(
            queue=queue,
            for_models=jobs.waiters,
            for_jobs=models.waiters,
            operator_namespace=settings.namespace,
            health=state,
            kubeconfig=options.kubeconfig,
        )
        _log.info("operator of namespace %s started", settings.namespace)
        asyncio.run(_watch(registry, state, stop))
    finally:
        sweeper.stop()
        workers.stop()
        server.shutdown()
        _log.info("operator stopped")

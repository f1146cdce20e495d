"""Who waits for what: a short cut for events. The sweeper makes up for what it misses."""

from __future__ import annotations

import threading
from collections import defaultdict
from typing import Generic, TypeVar

from transcription_operator.keys import Key, ModelKey

K = TypeVar("K", Key, ModelKey)


class Waiters(Generic[K]):
    """Keys by the one thing that each of them waits for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_topic: dict[str, set[K]] = defaultdict(set)
        self._by_key: dict[K, str] = {}

    def set(self, key: K, topic: str | None) -> bool:
        """Note what a key waits for, None for nothing; whether it did not wait for that before."""
        with self._lock:
            before = self._by_key.pop(key, None)
            if before is not None:
                self._by_topic[before].discard(key)
                if not self._by_topic[before]:
                    del self._by_topic[before]
            if topic is not None:
                self._by_key[key] = topic
                self._by_topic[topic].add(key)
        return before != topic

    def of(self, topic: str) -> list[K]:
        """All that wait for one thing."""
        with self._lock:
            return sorted(self._by_topic.get(topic, ()))

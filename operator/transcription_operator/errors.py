"""Errors with a message that a person can act on."""

from __future__ import annotations


class SettingsError(Exception):
    """The operator's settings file cannot be used."""


class SpecError(Exception):
    """A TranscriptionJob's spec passed the API server and still cannot be run; `reason` is its Failed reason."""

    def __init__(self, message: str, *, reason: str = "Usage") -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason


class Conflict(Exception):
    """Something of a name that is ours is not as it must be; `reason` is what the Started condition says meanwhile."""

    def __init__(self, message: str, *, reason: str = "JobConflict") -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason


class NamespaceGone(Exception):
    """The namespace is being deleted, or is deleted: nothing can or should be made in it."""

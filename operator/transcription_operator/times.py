"""Times as Kubernetes writes them."""

from __future__ import annotations

from datetime import UTC, datetime


def now() -> datetime:
    """The present, in UTC, in whole seconds as the API server keeps them."""
    return datetime.now(UTC).replace(microsecond=0)


def parse(text: str | None) -> datetime | None:
    """Read an RFC 3339 time; None for None or nothing."""
    return datetime.fromisoformat(text) if text else None


def render(moment: datetime) -> str:
    """Write an RFC 3339 time in UTC."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

"""Models as users name them: short names, `owner/repo`, and `@revision`."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from transcription_operator.errors import SpecError

_SIZES = ("tiny", "base", "small", "medium")
SHORT_NAMES: dict[str, str] = {
    **{name: f"openai/whisper-{name}" for name in _SIZES},
    **{f"{name}.en": f"openai/whisper-{name}.en" for name in _SIZES},
    **{name: f"openai/whisper-{name}" for name in ("large", "large-v2", "large-v3", "large-v3-turbo")},
    # The predecessor's mapping, kept: its users' manifests say "turbo" and mean this.
    "turbo": "openai/whisper-large-v3",
}
DEFAULT_REVISION = "main"
_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_REVISION = re.compile(r"[\w][\w./-]*")


@dataclass(frozen=True)
class ModelRef:
    """One revision of one repository."""

    repo: str
    revision: str = DEFAULT_REVISION

    def __str__(self) -> str:
        return f"{self.repo}@{self.revision}"

    @property
    def argument(self) -> str:
        """What the runner's --model takes."""
        return self.repo if self.revision == DEFAULT_REVISION else str(self)


_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")


@dataclass(frozen=True)
class ModelWish:
    """What a TranscriptionJob asks for: a WhisperModel by its name, a model of the Hub, or whichever there is.

    adapter: it is to be merged into the model.
    """

    name: str | None
    """A name that a WhisperModel may have."""
    ref: ModelRef | None
    """None if it can only be a WhisperModel's name."""
    adapter: bool = False

    def __str__(self) -> str:
        return self.name or str(self.ref)


def parse(model: str) -> ModelWish:
    """Read a model as a user writes it; raises SpecError with what to write instead."""
    written = model.strip()
    name, _, revision = written.partition("@")
    found = _wish("spec.model", written, SHORT_NAMES.get(name, name), revision or DEFAULT_REVISION)
    if found:
        return found
    raise SpecError(
        f"spec.model: {name!r} is neither a short name ({', '.join(SHORT_NAMES)}), nor owner/repo, "
        f"nor a WhisperModel's name.{guess(name, ())}",
        reason="ModelNotAvailable",
    )


def parse_adapter(adapter: str) -> ModelWish:
    """Read an adapter as a user writes it: it has no short names. Raises SpecError."""
    written = adapter.strip()
    name, _, revision = written.partition("@")
    found = _wish("spec.adapter", written, name, revision or DEFAULT_REVISION)
    if found is None:
        raise SpecError(
            f"spec.adapter: {written!r} is neither owner/repo nor a WhisperModel's name.", reason="ModelNotAvailable"
        )
    return replace(found, adapter=True)


def _wish(field: str, written: str, repo: str, revision: str) -> ModelWish | None:
    if not _REVISION.fullmatch(revision) or ".." in revision:
        raise SpecError(f"{field}: {revision!r} is no revision: use a branch, a tag or a commit.")
    bare = written if _NAME.fullmatch(written) else None
    if _REPO.fullmatch(repo) and ".." not in repo:
        return ModelWish(bare, ModelRef(repo, revision))
    return ModelWish(bare, None) if bare else None


def guess(name: str, others: Iterable[str]) -> str:
    """A sentence with the known name that is closest to a misspelt one; empty if none is close."""
    close = difflib.get_close_matches(name, [*SHORT_NAMES, *others], n=1)
    return f" Did you mean {close[0]!r}?" if close else ""

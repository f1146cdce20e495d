"""Models as users name them: short names, `owner/repo`, and `@revision`."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

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


def parse(model: str) -> ModelRef:
    """Read a model's name as a user writes it; raises SpecError with what to write instead."""
    name, _, revision = model.strip().partition("@")
    revision = revision or DEFAULT_REVISION
    repo = SHORT_NAMES.get(name, name)
    if not _REVISION.fullmatch(revision) or ".." in revision:
        raise SpecError(f"spec.model: {revision!r} is no revision: use a branch, a tag or a commit.")
    if _REPO.fullmatch(repo) and ".." not in repo:
        return ModelRef(repo, revision)
    close = difflib.get_close_matches(name, SHORT_NAMES, n=1)
    guess = f" Did you mean {close[0]!r}?" if close else ""
    raise SpecError(
        f"spec.model: {name!r} is neither a short name ({', '.join(SHORT_NAMES)}) nor owner/repo.{guess}",
        reason="ModelNotAvailable",
    )

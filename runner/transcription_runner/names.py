"""How a model may be named: a short name, `owner/repo`, either with `@revision`, or a path."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from transcription_runner.errors import Usage

_MULTILINGUAL = ("tiny", "base", "small", "medium", "large", "large-v2", "large-v3", "large-v3-turbo")
_ENGLISH = ("tiny.en", "base.en", "small.en", "medium.en")

SHORT_NAMES: dict[str, str] = {
    **{name: f"openai/whisper-{name}" for name in (*_MULTILINGUAL, *_ENGLISH)},
    # The predecessor's mapping; OpenAI's turbo is `large-v3-turbo` here.
    "turbo": "openai/whisper-large-v3",
    # openai-whisper's own spellings.
    "large-v1": "openai/whisper-large",
}

OWN_OWNER = "whispermodel"
"""Owner of the models that came from no Hub, but from an object store."""

_REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,199}")


@dataclass(frozen=True, kw_only=True)
class ModelName:
    """A model as the user named it: either `path`, or `repo` and `revision`."""

    repo: str | None = None
    revision: str = "main"
    path: Path | None = None

    @property
    def shown(self) -> str:
        """For messages and receipts."""
        if self.path is not None:
            return str(self.path)
        return self.repo or "" if self.revision == "main" else f"{self.repo}@{self.revision}"

    @property
    def english_only(self) -> bool:
        """Whether the name says that the model knows English alone."""
        return (str(self.path) if self.path is not None else self.repo or "").endswith(".en")


def parse_model(name: str, *, revision: str | None = None) -> ModelName:
    """Understand a model's name; a folder or file that exists is taken as it is. Raises Usage."""
    if name.startswith(("/", "./", "../", "~")) or name in (".", ".."):
        return ModelName(path=Path(name).expanduser())
    bare, _, tail = name.partition("@")
    wanted = revision or tail or "main"
    if (
        bare not in SHORT_NAMES
        and Path(name).exists()
        and (Path(name).is_file() or (Path(name) / "config.json").exists())
    ):
        return ModelName(path=Path(name))
    repo = SHORT_NAMES.get(bare, bare)
    if not _REPO.fullmatch(repo) or ".." in repo or "--" in repo:
        raise Usage(
            f"--model {name!r} is no model that can be found.",
            hint=f"Use a short name ({', '.join(sorted(SHORT_NAMES))}), a Hub repository (owner/name, optionally "
            "@revision), or the path of a folder.",
        )
    if not _REVISION.fullmatch(wanted) or ".." in wanted:
        raise Usage(f"{wanted!r} is no revision.", hint="Use a branch, a tag or a commit.")
    return ModelName(repo=repo, revision=wanted)


def folder_name(repo: str) -> str:
    """The repository's folder in a Hugging Face cache."""
    return "models--" + repo.replace("/", "--")


def repository(folder: str) -> str:
    """The repository of a folder in a Hugging Face cache."""
    return folder.removeprefix("models--").replace("--", "/", 1)


def from_url(repo: str) -> bool:
    """Whether a repository in a cache came from an object store, so that no Hub has it."""
    return repo.startswith(f"{OWN_OWNER}/")


def url_repository(name: str) -> str:
    """The repository that a model from an object store is cached as. Raises Usage for a name that cannot be one."""
    repo = name if "/" in name else f"{OWN_OWNER}/{name}"
    if not repo.startswith(f"{OWN_OWNER}/") or not _REPO.fullmatch(repo) or ".." in repo or "--" in repo:
        raise Usage(
            f"--name {name!r} is no name for a model from a URL.",
            hint=f"Use letters, digits, `.`, `_` and single `-`: my-model, which is {OWN_OWNER}/my-model in full.",
        )
    return repo

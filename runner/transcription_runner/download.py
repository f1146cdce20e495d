"""Bring a model from the Hub (or a mirror, HF_ENDPOINT) into a cache that runners share.

Every file goes into `.staging/` first, resumes there after a kill, and is compared with the hash by which the Hub names
it. Only then is it renamed into the cache; the manifest comes last.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from transcription_runner.backoff import retry_after
from transcription_runner.cache import (
    STAGING,
    ContentHash,
    FileRecord,
    Manifest,
    Snapshot,
    check,
    feed,
    file_hashes,
    offline,
    resolve,
)
from transcription_runner.errors import (
    CorruptModelCache,
    ModelMissing,
    OutputFailed,
    PermissionDenied,
    RunnerError,
    SourceUnreachable,
    Usage,
)
from transcription_runner.filesystem import (
    explain,
    free_bytes,
    fsync_folder,
    make_folder,
    write_durably,
)
from transcription_runner.names import folder_name
from transcription_runner.progress import Meter, human_bytes
from transcription_runner.redact import host_of, scrub
from transcription_runner.transfer import Patience, Refused, download, unreachable

_KEPT = re.compile(r"[^/]+\.(json|txt|model|tiktoken|jinja)|LICENSE[^/]*|README\.md|NOTICE[^/]*")
_SHARD = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")
_TRIES = 5

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class HubFile:
    """A file of a repository as the Hub lists it."""

    name: str
    size: int
    git: str
    sha256: str | None

    @property
    def blob(self) -> str:
        """What the cache calls its content: the Hub's ETag."""
        return self.sha256 or self.git


@dataclass(frozen=True, kw_only=True)
class Download:
    """What `models download` reports: the model as it is in the cache now."""

    repo: str
    revision: str
    commit: str
    bytes: int
    files: int
    path: Path

    def receipt(self) -> dict[str, Any]:
        """For the termination message."""
        return {
            "model": {
                "repo": self.repo,
                "revision": self.revision,
                "commit": self.commit,
                "bytes": self.bytes,
                "files": self.files,
            }
        }


def download_model(
    repo: str, revision: str, root: Path, *, patience: Patience | None = None, refresh: bool = False
) -> Download:
    """Have `repo` at `revision` in the cache `root`, whole and verified; quick where it is already.

    With `refresh` the Hub is asked even so: a branch may have moved on.
    Raises ModelMissing, PermissionDenied, SourceUnreachable, OutputFailed, CorruptModelCache, Usage.
    """
    make_folder(root)
    folder = root / folder_name(repo)
    if not refresh and (found := _present(repo, revision, folder)):
        _log.info("%s@%s is here already: commit %s, %s", repo, revision, found.commit[:12], human_bytes(found.bytes))
        return found
    if offline():
        raise Usage(
            f"{repo} is not in {root}, and HF_HUB_OFFLINE forbids to download it.", hint="Unset HF_HUB_OFFLINE."
        )
    staging = root / STAGING / folder.name
    make_folder(root / STAGING)
    with _only_one(root / STAGING / f"{folder.name}.lock"):
        if not refresh and (found := _present(repo, revision, folder)):
            return found  # another process did it while we waited
        try:
            return _Session(repo, revision, folder, staging, patience or Patience()).run()
        except OSError as error:
            raise explain(error, Path(error.filename or folder), "writing") from error


def _present(repo: str, revision: str, folder: Path) -> Download | None:
    """The model as the manifest says, if a quick look agrees; None where anything is to be done."""
    try:
        commit = resolve(folder, revision)
        manifest = Manifest.read(folder)
        snapshot = manifest.snapshots.get(commit) if manifest and commit else None
        if commit is None or snapshot is None:
            return None
        check(folder, commit)
    except CorruptModelCache as error:
        _log.warning("%s Repairing.", error.message)
        return None
    except OSError as error:
        raise explain(error, folder, "reading") from error
    return Download(
        repo=repo,
        revision=revision,
        commit=commit,
        bytes=snapshot.bytes,
        files=len(snapshot.files),
        path=folder / "snapshots" / commit,
    )


@contextlib.contextmanager
def _only_one(lock: Path) -> Iterator[None]:
    """Let one process at a time download a model; a lock goes with its process, however that ends."""
    try:
        stream = lock.open("w")
    except OSError as error:
        raise explain(error, lock, "writing") from error
    with stream:
        waiting = False
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if error.errno in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
                    _log.warning("%s: this volume has no locks; downloading without", lock)
                    break
                if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                    raise explain(error, lock, "locking") from error
            if not waiting:
                waiting = True
                _log.info("another process downloads this model: waiting for it")
            time.sleep(0.5)
        yield


class _Session:
    """One download, from the list of files to the manifest."""

    def __init__(self, repo: str, revision: str, folder: Path, staging: Path, patience: Patience) -> None:
        self.repo = repo
        self.revision = revision
        self.folder = folder
        self.staging = staging
        self.patience = patience
        from huggingface_hub import constants, get_token

        self.endpoint = (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")
        self.token = get_token()
        self.records: dict[str, FileRecord] = {}

    @property
    def host(self) -> str:
        return host_of(self.endpoint)

    def run(self) -> Download:
        commit, everything = self._list()
        files = choose(everything, self.repo)
        total = sum(file.size for file in files)
        _log.info(
            "downloading %s@%s (commit %s) from %s: %d files, %s",
            self.repo,
            self.revision,
            commit[:12],
            self.host,
            len(files),
            human_bytes(total),
        )
        self._check_space(files)
        make_folder(self.staging / "blobs")
        meter = Meter(total, what=self.repo)
        for file in files:
            self._bring(file, commit, meter)
        meter.finish()
        self._install(commit, files)
        shutil.rmtree(self.staging, ignore_errors=True)
        return Download(
            repo=self.repo,
            revision=self.revision,
            commit=commit,
            bytes=total,
            files=len(files),
            path=self.folder / "snapshots" / commit,
        )

    def _list(self) -> tuple[str, list[HubFile]]:
        """The commit of the revision, and its files; through huggingface_hub, tried again while the Hub fails."""
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HfHubHTTPError
        from huggingface_hub.hf_api import RepoFile

        api = HfApi(endpoint=self.endpoint, token=self.token, library_name="transcription-runner")
        wait = self.patience.first_wait
        for attempt in range(1, _TRIES + 1):
            try:
                information = api.model_info(self.repo, revision=self.revision, timeout=self.patience.stall_seconds)
                commit = information.sha
                if not commit:
                    raise SourceUnreachable(f"{self.host} names no commit for {self.repo}@{self.revision}.")
                tree = api.list_repo_tree(self.repo, recursive=False, revision=commit)
                return commit, [
                    HubFile(
                        name=entry.path,
                        size=entry.lfs.size if entry.lfs else entry.size,
                        git=entry.blob_id,
                        sha256=entry.lfs.sha256 if entry.lfs else None,
                    )
                    for entry in tree
                    if isinstance(entry, RepoFile)
                ]
            except HfHubHTTPError as error:
                status = error.response.status_code
                if (status < 500 and status not in (408, 429)) or attempt == _TRIES:
                    raise self._refused(
                        status, error.response.headers.get("X-Error-Code"), scrub(str(error))
                    ) from error
                pause = retry_after(error.response.headers)
                problem = f"answered {status}"
            except httpx2.TransportError as error:
                explained = unreachable(error, self.endpoint)
                if attempt == _TRIES or "certificate" in explained.message:
                    raise explained from error
                pause, problem = None, explained.message
            pause = min(pause if pause is not None else wait, 60.0)
            wait *= 2
            _log.warning("%s: %s; trying again in %.1f s", self.host, problem, pause)
            time.sleep(pause)
        raise AssertionError("the last try returns or raises")

    def _refused(self, status: int, code: str | None, detail: str) -> RunnerError:
        how = (
            "Set HF_TOKEN (in a cluster the secret in hub.tokenSecret, or the WhisperModel's own) to a token that may "
            "read it, and accept its conditions on its page where it is gated."
        )
        if code == "RevisionNotFound":
            return ModelMissing(
                f"{self.repo} at {self.host} has no revision {self.revision!r}.",
                hint="Check the branch, tag or commit.",
            )
        if code == "GatedRepo" or status == 403:
            return PermissionDenied(f"{self.host} does not let us read {self.repo} ({status}).", hint=how)
        if status == 401 and not self.token and code in (None, "RepoNotFound"):
            # The Hub answers so for a repository that is not there as well, to strangers.
            return PermissionDenied(
                f"{self.host} shows {self.repo} to nobody without a token (401): it is private, gated, or misspelt.",
                hint=f"Check the name. {how}",
            )
        if status == 401:
            return PermissionDenied(f"{self.host} refuses our token for {self.repo} (401).", hint=how)
        if status == 404 or code == "RepoNotFound":
            return ModelMissing(
                f"There is no model {self.repo} at {self.host}.",
                hint="Check the name; a private one needs HF_TOKEN.",
            )
        return SourceUnreachable(
            f"{self.host} answered {status} for {self.repo}: {detail[:200]}.", hint="The next attempt may succeed."
        )

    def _check_space(self, files: list[HubFile]) -> None:
        needed = 0
        for file in files:
            if self._installed(file) or self._staged(file).exists():
                continue
            part = self._part(file)
            needed += file.size - (part.stat().st_size if part.exists() else 0)
        free = free_bytes(self.folder.parent)
        if needed > free:
            raise OutputFailed(
                f"No space left for {self.repo}: it needs {needed} bytes more, and {free} are free in "
                f"{self.folder.parent}.",
                hint="Make room on the volume (remove models that nobody uses), or give it more space.",
            )

    def _staged(self, file: HubFile) -> Path:
        return self.staging / "blobs" / file.blob

    def _part(self, file: HubFile) -> Path:
        return self.staging / "blobs" / f"{file.blob}.part"

    def _installed(self, file: HubFile) -> bool:
        blob = self.folder / "blobs" / file.blob
        return blob.is_file() and blob.stat().st_size == file.size

    def _bring(self, file: HubFile, commit: str, meter: Meter) -> None:
        """Have a file's content in the cache or in staging, compared with its hash."""
        for path in (self.folder / "blobs" / file.blob, self._staged(file)):
            if path.is_file() and path.stat().st_size == file.size:
                sha256, git = file_hashes(path)
                if file.blob in (sha256, git):
                    meter.skip(file.size)
                    self._record(file, sha256)
                    return
                _log.warning("%s in %s does not agree with its hash: downloading it again", file.name, path.parent)
        for attempt in (1, 2):
            content = self._transfer(file, commit, meter)
            if file.blob in (content.sha256, content.git):
                self._part(file).chmod(0o644)
                self._part(file).replace(self._staged(file))
                fsync_folder(self.staging / "blobs")
                self._record(file, content.sha256)
                return
            self._part(file).unlink()
            if attempt == 1:
                _log.warning("%s came with a wrong hash: downloading it again from the start", file.name)
                meter.skip(-file.size)
        raise SourceUnreachable(
            f"{self.host} sent {file.name} of {self.repo} twice with a content that does not agree with its own hash "
            f"({file.blob[:12]}…).",
            hint="A proxy or mirror on the way may hold a broken copy.",
        )

    def _record(self, file: HubFile, sha256: str) -> None:
        self.records[file.name] = FileRecord(size=file.size, sha256=sha256, blob=file.blob)

    def _transfer(self, file: HubFile, commit: str, meter: Meter) -> ContentHash:
        from huggingface_hub import hf_hub_url
        from huggingface_hub.utils._headers import build_hf_headers

        part = self._part(file)
        start = part.stat().st_size if part.exists() else 0
        if start > file.size:
            part.unlink()
            start = 0
        content = ContentHash(file.size)
        if start:
            feed(part, content)
            _log.info("%s: going on at byte %d of %d", file.name, start, file.size)
            meter.skip(start)

        def got(data: bytes) -> None:
            content.update(data)
            meter.add(len(data))

        def restart() -> None:
            nonlocal content
            content = ContentHash(file.size)
            meter.skip(-part.stat().st_size)

        if start < file.size or not part.exists():
            url = hf_hub_url(self.repo, file.name, revision=commit, endpoint=self.endpoint)
            headers = build_hf_headers(token=self.token, library_name="transcription-runner")
            try:
                download(
                    self._client(),
                    url,
                    part,
                    headers=headers,
                    start=start,
                    expected_size=file.size,
                    patience=self.patience,
                    on_bytes=got,
                    on_restart=restart,
                )
            except Refused as refusal:
                code = refusal.headers.get("X-Error-Code")
                raise self._refused(refusal.status, code, str(refusal)) from refusal
        with part.open("rb") as stream:
            os.fsync(stream.fileno())
        return content

    def _client(self) -> httpx2.Client:
        # huggingface_hub's own: its redirects, proxies and hooks; with our time limits.
        from huggingface_hub import get_session

        client = get_session()
        client.timeout = httpx2.Timeout(self.patience.stall_seconds, connect=self.patience.connect_seconds)
        return client

    def _install(self, commit: str, files: list[HubFile]) -> None:
        """Rename what was verified into the cache; the reference and then the manifest come last."""
        snapshot = self.folder / "snapshots" / commit
        for folder in (self.folder / "blobs", snapshot):
            make_folder(folder)
        for file in files:
            staged = self._staged(file)
            if staged.exists():
                staged.replace(self.folder / "blobs" / file.blob)
        fsync_folder(self.folder / "blobs")
        for file in files:
            link(self.folder / "blobs" / file.blob, snapshot / file.name)
        fsync_folder(snapshot)
        if self.revision != commit:
            reference = self.folder / "refs" / self.revision
            make_folder(reference.parent)
            write_durably(reference, commit.encode())
        try:
            manifest = Manifest.read(self.folder)
        except CorruptModelCache:
            manifest = None
        snapshots = dict(manifest.snapshots) if manifest else {}
        snapshots[commit] = Snapshot(revision=self.revision, commit=commit, files=self.records)
        Manifest(repo=self.repo, snapshots=snapshots).write(self.folder)


def link(blob: Path, pointer: Path) -> None:
    """Let `pointer` be a relative link to `blob`, as huggingface_hub does; a copy where the volume has no links."""
    target = os.path.relpath(blob, pointer.parent)
    with contextlib.suppress(OSError):
        if pointer.readlink() == Path(target):
            return
    temporary = pointer.with_name(f".{pointer.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        temporary.symlink_to(target)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        shutil.copyfile(blob, temporary)
    temporary.replace(pointer)


def choose(files: list[HubFile], repo: str) -> list[HubFile]:
    """The files that a runner needs: configuration, tokenizer, and the weights as safetensors, once; no programs.

    Raises ModelMissing for a repository without safetensors.
    """
    names = {file.name for file in files}
    if "model.safetensors" in names:
        weights = {"model.safetensors"}
    else:
        weights = {name for name in names if _SHARD.fullmatch(name)}
    if "adapter_model.safetensors" in names:
        weights.add("adapter_model.safetensors")
    if not weights:
        raise ModelMissing(
            f"{repo} has no weights as safetensors, and other formats are not loaded: they can hold programs.",
            hint="Choose a repository with model.safetensors, or convert it "
            "(https://huggingface.co/docs/safetensors/convert-weights).",
        )
    return sorted(
        (file for file in files if file.name in weights or _KEPT.fullmatch(file.name)),
        key=lambda file: (file.size, file.name),
    )

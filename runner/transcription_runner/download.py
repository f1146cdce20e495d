"""Bring a model from where it is (a Hub, an object store) into a cache that runners share.

Every file goes into `.staging/` first, resumes there after a kill, and is compared with the hash by which its origin
names it. Only then is it renamed into the cache; the manifest comes after all files, and the reference last.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import os
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from transcription_runner.backoff import Patience
from transcription_runner.cache import check, offline, resolve
from transcription_runner.errors import CorruptModelCache, ModelMissing, OutputFailed, Reason, SourceUnreachable, Usage
from transcription_runner.filesystem import (
    explain,
    free_bytes,
    fsync_folder,
    make_folder,
    write_durably,
)
from transcription_runner.flushing import flushing
from transcription_runner.hashes import ContentHash, content_hash, following
from transcription_runner.hub_origin import HubOrigin
from transcription_runner.locks import is_alone, only_one
from transcription_runner.manifest import FileRecord, Manifest, Snapshot
from transcription_runner.model_report import ModelReporter
from transcription_runner.names import folder_name, from_url
from transcription_runner.origin import Listing, Origin, RemoteFile
from transcription_runner.progress import human_bytes
from transcription_runner.selection import CONFIGS, check_whisper, choose
from transcription_runner.store_origin import StoreOrigin
from transcription_runner.tally import Tally, Transfer

PATIENCE = Patience(longest_wait=300.0)
"""A download holds no GPU: it may wait for a Hub that is busy."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Download:
    """What `models download` reports: the model as it is in the cache now, and what it took."""

    repo: str
    revision: str
    commit: str
    bytes: int
    files: int
    path: Path
    transfer: Transfer = field(default_factory=Transfer)

    def receipt(self) -> dict[str, Any]:
        """Its part of the termination message."""
        names = ("repo", "revision", "commit", "bytes", "files")
        return {"model": {name: getattr(self, name) for name in names}, "transfer": asdict(self.transfer)}


def download_model(
    repo: str,
    revision: str,
    root: Path,
    *,
    url: str | None = None,
    patience: Patience = PATIENCE,
    refresh: bool = False,
    reporter: ModelReporter | None = None,
) -> Download:
    """Have `repo` at `revision` in the cache `root`, whole and verified; quick where it is already.

    It comes from the Hub, or with `url` from an object store, whose files are then kept under the name `repo`. With
    `refresh` the origin is asked even so: a branch may have moved on.
    Raises ModelMissing, PermissionDenied, SourceUnreachable, OutputFailed, CorruptModelCache, Usage.
    """
    make_folder(root)
    folder = root / folder_name(repo)
    if not refresh and (found := _present(repo, revision, folder)):
        _log.info("%s@%s is here already: commit %s, %s", repo, revision, found.commit[:12], human_bytes(found.bytes))
        return found
    if url is None and from_url(repo):
        raise ModelMissing(
            f"{repo} is not in {root}, and it comes from an object store, not from a Hub.",
            hint=f"`transcription-runner models download URL --name {repo} --model_dir {root}` brings it.",
        )
    if offline():
        raise Usage(
            f"{repo} is not in {root}, and HF_HUB_OFFLINE forbids to download it.", hint="Unset HF_HUB_OFFLINE."
        )
    tally = Tally(url or repo, reporter)
    with only_one(root, folder.name, doing="downloading", waiting=tally.waiting) as staging, contextlib.closing(tally):
        if not refresh and (found := _present(repo, revision, folder)):
            return found  # another process did it while we waited
        origin = StoreOrigin(url, patience) if url else HubOrigin(repo, revision, patience)
        try:
            return _Session(origin, repo, revision, folder, staging, tally).run()
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


class _Session:
    """One download, from the list of files to the reference."""

    def __init__(self, origin: Origin, repo: str, revision: str, folder: Path, staging: Path, tally: Tally) -> None:
        self.origin = origin
        self.repo = repo
        self.revision = revision
        self.folder = folder
        self.staging = staging
        self.tally = tally
        self.records: dict[str, FileRecord] = {}
        self.known = self._known()

    def run(self) -> Download:
        self.tally.say("asking for the list of files")
        listing = self.origin.list()
        files = choose(listing.files, self.origin.shown)
        total = sum(file.size for file in files)
        _log.info("downloading %s from %s: %d files, %s", self.repo, self.origin.host, len(files), human_bytes(total))
        self._check_space(files)
        make_folder(self.staging / "blobs")
        self.tally.begin(total)
        for file in files:
            self._bring(file)
            if file.name in CONFIGS:
                check_whisper(self._here(file), self.origin.shown)
        self.tally.say("putting the files into the cache")
        commit = self._install(listing, files)
        shutil.rmtree(self.staging, ignore_errors=True)
        return Download(
            repo=self.repo,
            revision=self.revision,
            commit=commit,
            bytes=total,
            files=len(files),
            path=self.folder / "snapshots" / commit,
            transfer=self.tally.transfer(),
        )

    def _known(self) -> dict[tuple[str, int, str], FileRecord]:
        """Files of an object store that an earlier download recorded, by name, size and version."""
        try:
            manifest = Manifest.read(self.folder)
        except CorruptModelCache:
            return {}
        snapshots = manifest.snapshots.values() if manifest else ()
        return {
            (name, record.size, record.etag): record
            for snapshot in snapshots
            for name, record in snapshot.files.items()
            if record.etag
        }

    def _check_space(self, files: list[RemoteFile]) -> None:
        needed = 0
        for file in files:
            blob = self._blob(file)
            if (blob and _has(blob, file.size)) or self._staged(file).exists():
                continue
            part = self._part(file)
            needed += file.size - (part.stat().st_size if part.exists() else 0)
        free = free_bytes(self.folder.parent)
        if needed > free:
            raise OutputFailed(
                f"No space left for {self.repo}: it needs {needed} bytes more, and {free} are free in "
                f"{self.folder.parent}.",
                hint="Make room on the volume (remove models that nobody uses), or give it more space.",
                reason=Reason.VOLUME_FULL,
            )

    def _blob(self, file: RemoteFile) -> Path | None:
        """Where the file's content is in the cache if it is there, as far as that can be told before it is read."""
        name = file.blob or file.sha256
        if name is None and file.etag and (record := self.known.get((file.name, file.size, file.etag))):
            name = record.blob
        return self.folder / "blobs" / name if name else None

    def _staged(self, file: RemoteFile) -> Path:
        return self.staging / "blobs" / file.key

    def _part(self, file: RemoteFile) -> Path:
        return self.staging / "blobs" / f"{file.key}.part"

    def _here(self, file: RemoteFile) -> Path:
        """Where a file's content is that was brought."""
        staged = self._staged(file)
        return staged if staged.exists() else self.folder / "blobs" / self.records[file.name].blob

    def _bring(self, file: RemoteFile) -> None:
        """Have a file's content in the cache or in staging, compared with its hash."""
        self.tally.file(file.name)
        for path in (self._blob(file), self._staged(file)):
            if path is None or not _has(path, file.size):
                continue
            content = content_hash(path, md5=file.md5 is not None)
            if file.agrees(content) and (path == self._staged(file) or path.name == file.name_of(content)):
                self.tally.skip(file.size)
                self._record(file, content)
                return
            _log.warning("%s in %s does not agree with its hash: downloading it again", file.name, path.parent)
            path.unlink()
        for attempt in (1, 2):
            content = self._fetch(file)
            if file.agrees(content):
                self._part(file).chmod(0o644)
                self._part(file).replace(self._staged(file))
                fsync_folder(self.staging / "blobs")
                self._record(file, content)
                return
            self._part(file).unlink()
            if attempt == 1:
                _log.warning("%s came with a wrong hash: downloading it again from the start", file.name)
                self.tally.skip(-file.size)
                self.tally.retry()
        raise SourceUnreachable(
            f"{self.origin.host} sent {file.name} of {self.origin.shown} twice with a content that does not agree with "
            f"its own hash ({(file.blob or file.sha256 or file.md5 or '')[:12]}…).",
            hint="A proxy or mirror on the way may hold a broken copy.",
            reason=Reason.CHECKSUM_MISMATCH,
        )

    def _record(self, file: RemoteFile, content: ContentHash) -> None:
        self.records[file.name] = FileRecord(
            size=file.size, sha256=content.sha256, blob=file.name_of(content), etag=file.etag
        )

    def _fetch(self, file: RemoteFile) -> ContentHash:
        """Have all of a file in its part, from where an earlier attempt left off."""
        part = self._part(file)
        part.touch()
        start = part.stat().st_size
        if start > file.size:
            os.truncate(part, 0)
            start = 0
        with (
            following(part, file.size, git=file.by_git, md5=file.md5 is not None) as follower,
            flushing(part, start) as flusher,
        ):
            if start:
                _log.info("%s: going on at byte %d of %d", file.name, start, file.size)
                self.tally.skip(start)
                follower.advance(start)
            if start < file.size:
                self.origin.fetch(file, part, start, self.tally.arrival(follower, flusher, start))
            self.tally.count(0, flusher.finish())
            return follower.finish()

    def _install(self, listing: Listing, files: list[RemoteFile]) -> str:
        """Rename what was verified into the cache; the manifest and then the reference come last."""
        commit = listing.commit or _commit_of(self.records)
        snapshot = self.folder / "snapshots" / commit
        for folder in (self.folder / "blobs", snapshot):
            make_folder(folder)
        if is_alone(self.staging, self.folder.name):
            for stale in self.folder.rglob(".*.tmp"):  # of a process that was killed in between
                stale.unlink()
        for file in files:
            staged = self._staged(file)
            if staged.exists():
                staged.replace(self.folder / "blobs" / self.records[file.name].blob)
        fsync_folder(self.folder / "blobs")
        for file in files:
            link(self.folder / "blobs" / self.records[file.name].blob, snapshot / file.name)
        fsync_folder(snapshot)
        self._write_manifest(commit)
        if self.revision != commit:
            reference = self.folder / "refs" / self.revision
            make_folder(reference.parent)
            write_durably(reference, commit.encode())
        return commit

    def _write_manifest(self, commit: str) -> None:
        try:
            manifest = Manifest.read(self.folder)
        except CorruptModelCache:
            manifest = None
        snapshots = dict(manifest.snapshots) if manifest else {}
        snapshots[commit] = Snapshot(revision=self.revision, commit=commit, files=self.records)
        Manifest(repo=self.repo, snapshots=snapshots).write(self.folder)


def _has(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _commit_of(records: dict[str, FileRecord]) -> str:
    """A name for exactly these files: 40 hex digits of a sha256 over their names, sizes and hashes."""
    described = [(name, record.size, record.sha256) for name, record in sorted(records.items())]
    return hashlib.sha256(json.dumps(described).encode()).hexdigest()[:40]


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

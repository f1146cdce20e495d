"""A Hub-compatible server: huggingface_hub's real download code runs against it, with `HF_ENDPOINT` set to its URL.

It answers as the Hub does without Xet: revisions by name and by commit, small files by a relative redirect,
large ones by a redirect to another path with `X-Linked-ETag` and `X-Linked-Size`, ranges, error codes in headers.
Faults and the record of requests: in Python through `Hub.behaviour`, over HTTP under `/_control` (`faults.py`).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from aiohttp import web

from tests.materials import weights
from tests.materials.faults import Behaviour, Stage
from tests.materials.hub_repository import Blob, Repository
from tests.materials.pins import WEIGHTS
from tests.materials.web import Answer, Site, running

_DATE = "2023-01-01T00:00:00.000Z"


@dataclass(frozen=True)
class Hub:
    """A running Hub."""

    url: str
    port: int
    #: Where large files come from: another server, as with the real Hub.
    content_port: int
    behaviour: Behaviour

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to use this Hub and no other."""
        return {"HF_ENDPOINT": self.url, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}


def whisper() -> list[Repository]:
    """Return OpenAI's own repositories, rebuilt (`weights.py`)."""
    return [
        Repository(pin.repo, {"main": weights.repository(pin.name)}, commits={"main": pin.revision})
        for pin in WEIGHTS.values()
    ]


@contextlib.contextmanager
def serve(
    repositories: Iterable[Repository] | Mapping[str, Path],
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    content_port: int = 0,
) -> Iterator[Hub]:
    """Run a Hub with these repositories in a thread, and the server of its large files on a port of its own.

    A mapping gives each repository's folder by name, with `main` as its only branch.
    With a host such as 0.0.0.0 the URL names this machine; others put their name for it in its place.
    """
    behaviour = Behaviour()
    if isinstance(repositories, Mapping):
        known = {weights.hub() / pin.repo: {"main": pin.revision} for pin in WEIGHTS.values()}
        named = repositories.items()
        repositories = [Repository(name, {"main": folder}, known.get(folder, {})) for name, folder in named]
    application = _Application(repositories, behaviour)
    with (
        running(application.content(), host, content_port) as application.content_port,
        running(application.app(), host, port) as listening,
    ):
        name = "127.0.0.1" if host == "0.0.0.0" else host
        yield Hub(f"http://{name}:{listening}", listening, application.content_port, behaviour)


@dataclass(frozen=True)
class _Refusal:
    """The Hub's way to say no: a status, a code in a header, a sentence."""

    status: int
    code: str
    message: str

    def answer(self) -> Answer:
        headers = (("X-Error-Code", self.code), ("X-Error-Message", self.message))
        body = json.dumps({"error": self.message}).encode()
        return Answer(self.status, (*headers, ("Content-Type", "application/json")), body)


class _Application:
    def __init__(self, repositories: Iterable[Repository], behaviour: Behaviour) -> None:
        self.repositories = {repository.repo_id: repository for repository in repositories}
        self.site = Site(behaviour)
        self.content_port = 0

    def content(self) -> web.Application:
        """Build the server of large files."""
        app = web.Application()
        app.router.add_get("/{repo:[^/]+/[^/]+}/{sha256}/{path:.+}", self.large_file)
        return app

    def app(self) -> web.Application:
        app = web.Application()
        repo = "{repo:[^/]+/[^/]+}"
        self.site.add_control(app)
        app.router.add_get(f"/api/models/{repo}", self.info)
        app.router.add_get(f"/api/models/{repo}/revision/{{revision}}", self.info)
        app.router.add_get(f"/api/models/{repo}/refs", self.refs)
        app.router.add_get(f"/api/models/{repo}/tree/{{revision}}", self.tree)
        app.router.add_get(f"/api/models/{repo}/tree/{{revision}}/{{path:.+}}", self.tree)
        app.router.add_post(f"/api/models/{repo}/paths-info/{{revision}}", self.paths)
        app.router.add_get(f"/api/resolve-cache/models/{repo}/{{revision}}/{{path:.+}}", self.small_file)
        app.router.add_get(f"/{repo}/resolve/{{revision}}/{{path:.+}}", self.resolve)
        return app

    def _find(self, request: web.Request, *, files: bool = False) -> tuple[Repository, str] | _Refusal:
        """Return the repository and the commit that a request names, if whoever asks may see them."""
        name, revision = request.match_info["repo"], request.match_info.get("revision", "main")
        repository = self.repositories.get(name)
        allowed = repository is not None and (
            repository.token is None or request.headers.get("Authorization") == f"Bearer {repository.token}"
        )
        if repository is None or (not allowed and not repository.gated):
            # Strangers are not told whether a repository is private or not there.
            status = 404 if "Authorization" in request.headers else 401
            return _Refusal(status, "RepoNotFound", "Repository not found")
        if files and not allowed:
            status = 403 if "Authorization" in request.headers else 401
            return _Refusal(status, "GatedRepo", f"Access to model {name} is restricted.")
        commit = repository.commit(revision)
        if commit is None:
            return _Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return repository, commit

    async def _json(self, request: web.Request, value: Any) -> web.StreamResponse:
        if isinstance(value, _Refusal):
            return await self.site.answer(request, request.match_info["repo"], "api", value.answer())
        body = json.dumps(value).encode()
        answer = Answer(headers=(("Content-Type", "application/json"),), body=body)
        return await self.site.answer(request, request.match_info["repo"], "api", answer)

    async def info(self, request: web.Request) -> web.StreamResponse:
        found = self._find(request)
        if isinstance(found, _Refusal):
            return await self._json(request, found)
        repository, commit = found
        blobs = request.query.get("blobs", "").lower() == "true"
        siblings = []
        for blob in repository.files(commit).values():
            sibling: dict[str, Any] = {"rfilename": blob.path}
            if blobs:
                sibling |= {"blobId": blob.oid, "size": blob.size}
                if blob.sha256:
                    sibling["lfs"] = {"sha256": blob.sha256, "size": blob.size, "pointerSize": 134}
            siblings.append(sibling)
        return await self._json(
            request,
            {
                "_id": "0" * 24,
                "id": repository.repo_id,
                "modelId": repository.repo_id,
                "author": repository.repo_id.split("/")[0],
                "sha": commit,
                "lastModified": _DATE,
                "createdAt": _DATE,
                "private": repository.token is not None and not repository.gated,
                "gated": "manual" if repository.gated else False,
                "disabled": False,
                "downloads": 0,
                "likes": 0,
                "tags": ["transformers", "whisper"],
                "pipeline_tag": "automatic-speech-recognition",
                "library_name": "transformers",
                "siblings": siblings,
            },
        )

    async def refs(self, request: web.Request) -> web.StreamResponse:
        found = self._find(request)
        if isinstance(found, _Refusal):
            return await self._json(request, found)
        branches = [
            {"name": name, "ref": f"refs/heads/{name}", "targetCommit": found[0].commit(name)}
            for name in found[0].revisions
        ]
        return await self._json(request, {"branches": branches, "converts": [], "tags": []})

    async def tree(self, request: web.Request) -> web.StreamResponse:
        found = self._find(request)
        if isinstance(found, _Refusal):
            return await self._json(request, found)
        files = found[0].files(found[1])
        root = PurePosixPath(request.match_info.get("path", ""))
        recursive = request.query.get("recursive", "").lower() == "true"
        entries: dict[str, dict[str, Any]] = {}
        for blob in files.values():
            path = PurePosixPath(blob.path)
            if path != root and not path.is_relative_to(root):
                continue
            for parent in path.parents:
                if parent != root and parent.is_relative_to(root) and (recursive or parent.parent == root):
                    entries.setdefault(str(parent), _folder(parent))
            if recursive or path.parent == root:
                entries[blob.path] = _entry(blob)
        if not entries:
            return await self._json(request, _Refusal(404, "EntryNotFound", f"{root} does not exist"))
        return await self._json(request, list(entries.values()))

    async def paths(self, request: web.Request) -> web.StreamResponse:
        found = self._find(request)
        if isinstance(found, _Refusal):
            return await self._json(request, found)
        if request.content_type == "application/json":
            wanted = list((await request.json())["paths"])
        else:
            wanted = [str(path) for path in (await request.post()).getall("paths", [])]
        files = found[0].files(found[1])
        return await self._json(request, [_entry(files[path]) for path in wanted if path in files])

    async def resolve(self, request: web.Request) -> web.StreamResponse:
        """Say where a file is: the Hub itself gives small ones, another server large ones."""
        name, path = request.match_info["repo"], request.match_info["path"]
        found = self._file(request)
        if isinstance(found, _Refusal):
            return await self.site.answer(request, f"{name}/{path}", "resolve", found.answer())
        commit, blob = found
        headers = [("X-Repo-Commit", commit)]
        if blob.sha256 is None:
            where = f"/api/resolve-cache/models/{name}/{commit}/{quote(path)}"
            status = 307
        else:
            # With the host that was asked: pods and this machine know it by different names.
            where = f"http://{request.url.host}:{self.content_port}/{name}/{blob.sha256}/{quote(path)}"
            headers += [("X-Linked-ETag", f'"{blob.sha256}"'), ("X-Linked-Size", str(blob.size))]
            status = 302
        answer = Answer(status, (*headers, ("Location", where)))
        return await self.site.answer(request, f"{name}/{path}", "resolve", answer)

    def _file(self, request: web.Request) -> tuple[str, Blob] | _Refusal:
        found = self._find(request, files=True)
        if isinstance(found, _Refusal):
            return found
        repository, commit = found
        blob = repository.files(commit).get(request.match_info["path"])
        return (commit, blob) if blob else _Refusal(404, "EntryNotFound", "Entry not found")

    async def small_file(self, request: web.Request) -> web.StreamResponse:
        name, path = request.match_info["repo"], request.match_info["path"]
        found = self._file(request)
        stage: Stage = "content" if request.method == "GET" else "resolve"
        if isinstance(found, _Refusal):
            return await self.site.answer(request, f"{name}/{path}", stage, found.answer())
        commit, blob = found
        headers = (("X-Repo-Commit", commit), ("ETag", f'"{blob.oid}"'))
        return await self.site.answer(request, f"{name}/{path}", stage, Answer(headers=headers, file=blob.file))

    async def large_file(self, request: web.Request) -> web.StreamResponse:
        """Give a large file's bytes: like the Hub's, this other server asks for no token."""
        name, sha256, path = (request.match_info[part] for part in ("repo", "sha256", "path"))
        answer = Answer(404)
        if repository := self.repositories.get(name):
            for blobs in repository.every_revision():
                if path in blobs and blobs[path].sha256 == sha256:
                    answer = Answer(headers=(("ETag", f'"{sha256}"'),), file=blobs[path].file)
        return await self.site.answer(request, f"{name}/{path}", "content", answer)


def _entry(blob: Blob) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "path": blob.path, "size": blob.size, "oid": blob.oid}
    if blob.sha256:
        entry["lfs"] = {"oid": blob.sha256, "size": blob.size, "pointerSize": 134}
    return entry


def _folder(path: PurePosixPath) -> dict[str, Any]:
    return {"type": "directory", "path": str(path), "size": 0, "oid": "0" * 40}

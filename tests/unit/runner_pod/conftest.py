"""A web server with faults, a cache, and the command, in this process or in one of its own."""

from __future__ import annotations

import functools
import json
import logging
import os
import ssl
import struct
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiohttp import web

from tests.materials.faults import Behaviour
from tests.materials.web import Answer, Site, running
from transcription_runner import cli
from transcription_runner.errors import BadAudio
from transcription_runner.transcribe import Outcome, Progress

RUNNER = (sys.executable, "-m", "transcription_runner.cli")

RESULT = {
    "text": " Hello world.",
    "segments": [
        {
            "id": 0,
            "seek": 0,
            "start": 0.0,
            "end": 1.5,
            "text": " Hello world.",
            "tokens": [50364, 2425, 1002, 13, 50439],
            "temperature": 0.0,
            "avg_logprob": -0.25,
            "compression_ratio": 0.6,
            "no_speech_prob": 0.01,
        }
    ],
    "language": "en",
}


@dataclass
class Web:
    """A web server of files in a folder, and what goes wrong with it."""

    url: str
    folder: Path
    behaviour: Behaviour

    def put(self, name: str, data: bytes) -> str:
        (self.folder / name).write_bytes(data)
        return f"{self.url}/{name}"


def _files(folder: Path, behaviour: Behaviour) -> web.Application:
    site = Site(behaviour)

    async def get(request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        if name.startswith("moved-"):
            raise web.HTTPFound(f"/{name.removeprefix('moved-')}")
        if name.startswith("private-") and request.headers.get("Authorization") != "Basic dXNlcjpzM2NyZXQ=":
            return await site.answer(request, name, "content", Answer(401))
        path = folder / name
        if not path.exists():
            return await site.answer(request, name, "content", Answer(404))
        status = path.stat()
        answer = Answer(headers=(("ETag", f'"{status.st_mtime_ns}"'),), file=path)
        return await site.answer(request, name, "content", answer)

    app = web.Application()
    app.router.add_get("/{name:.+}", get)
    return app


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Web]:
    folder = tmp_path / "web"
    folder.mkdir()
    behaviour = Behaviour()
    with running(_files(folder, behaviour), "127.0.0.1", 0) as port:
        yield Web(f"http://127.0.0.1:{port}", folder, behaviour)


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def https(tmp_path: Path, authority: trustme.CA) -> Iterator[Web]:
    folder = tmp_path / "https"
    folder.mkdir()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    behaviour = Behaviour()
    with running(_files(folder, behaviour), "localhost", 0, context) as port:
        yield Web(f"https://localhost:{port}", folder, behaviour)


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No variable of the person's shell changes what a test sees, and what it sets does not stay."""
    log = logging.getLogger("transcription_runner")
    before = (log.handlers[:], log.propagate, log.level)
    for name in list(os.environ):
        if name.startswith(("TRANSCRIPTION_", "HF_", "AWS_", "KUBERNETES_")) or name in ("DEVICE", "SSL_CERT_FILE"):
            monkeypatch.delenv(name)
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf-home"))
    yield
    log.handlers[:], log.propagate, log.level = before
    logging.captureWarnings(False)


def safetensors(data: bytes) -> bytes:
    header = json.dumps({"a": {"dtype": "U8", "shape": [len(data)], "data_offsets": [0, len(data)]}}).encode()
    return struct.pack("<Q", len(header)) + header + data


def tiny_repository(folder: Path, weights: bytes = b"\1\2\3\4") -> Path:
    """A repository that no model can be loaded from, but that has every kind of file."""
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(safetensors(weights))
    (folder / "model.fp32-00001-of-00002.safetensors").write_bytes(safetensors(weights + weights))
    (folder / "config.json").write_text('{"model_type": "whisper"}')
    (folder / "tokenizer.json").write_text("{}")
    (folder / "vocab.json").write_text('{"a": 0}')
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "README.md").write_text("# A model\n")
    (folder / "pytorch_model.bin").write_bytes(b"a program, perhaps")
    (folder / "flax_model.msgpack").write_bytes(b"flax")
    (folder / "handler.py").write_text("import os")
    (folder / ".gitattributes").write_text("*.safetensors lfs")
    return folder


def hub_cache(root: Path, repo: str = "openai/whisper-base", commit: str = "a" * 40) -> Path:
    """A model as huggingface_hub leaves it, without our manifest; returns the model's folder."""
    source = tiny_repository(root.parent / f"{root.name}-source")
    folder = root / ("models--" + repo.replace("/", "--"))
    snapshot = folder / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (folder / "blobs").mkdir()
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(commit)
    for path in source.glob("[!.]*"):
        if path.suffix in (".json", ".txt", ".safetensors") and "fp32" not in path.name:
            blob = folder / "blobs" / f"blob-of-{path.name}"
            blob.write_bytes(path.read_bytes())
            (snapshot / path.name).symlink_to(f"../../blobs/{blob.name}")
    return folder


@dataclass
class Listener:
    """A stand-in for the engine: it says the same of whatever it is given, and remembers what that was."""

    result: dict[str, Any] = field(default_factory=lambda: json.loads(json.dumps(RESULT)))
    heard: list[bytes] = field(default_factory=list)
    together: list[str] = field(default_factory=list)
    options: list[Any] = field(default_factory=list)
    loaded: int = 0
    error: Exception | None = None
    device: str = "cpu"

    def transcribe(
        self, engine: object, audio: Path, options: object, *, on_progress: Callable[[Progress], None]
    ) -> dict[str, Any]:
        self.heard.append(audio.read_bytes())
        self.options.append(options)
        on_progress(Progress(0.75, 1.5, 10.0))
        if self.error is not None:
            raise self.error
        on_progress(Progress(1.5, 1.5, 10.0))
        return self.result

    def transcribe_many(
        self,
        engine: object,
        files: Iterable[Path],
        options: object,
        *,
        on_progress: Callable[[Path, Progress], None],
    ) -> Iterator[Outcome]:
        """All files are taken in before the first is finished, as in a batch; the last is finished first."""
        for path in reversed(list(files)):
            self.together.append(path.name)
            tell = functools.partial(on_progress, path)
            try:
                yield Outcome(path, self.transcribe(engine, path, options, on_progress=tell), duration=1.5)
            except BadAudio as error:
                yield Outcome(path, error=error)


@pytest.fixture
def listener(monkeypatch: pytest.MonkeyPatch) -> Listener:
    from transcription_runner import job

    fake = Listener()

    def load(settings: object, path: Path, adapter: Path | None) -> tuple[Any, Any, Any]:
        fake.loaded += 1
        return fake, fake.transcribe, fake.transcribe_many

    monkeypatch.setattr(job, "_engine", load)
    return fake


@dataclass
class Ran:
    """How a call of the command ended."""

    code: int
    out: str
    err: str
    receipt: dict[str, Any] | None


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """The command, in this process, with a model in its cache and a place for the receipt."""
    root = tmp_path / "models"
    hub_cache(root)
    log = tmp_path / "termination-log"

    def call(*words: object, model: bool = True, **environ: str) -> Ran:
        monkeypatch.setenv("TRANSCRIPTION_TERMINATION_LOG", str(log))
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        log.unlink(missing_ok=True)
        extra = ["--model", "base", "--model_dir", str(root)] if model else []
        capsys.readouterr()
        code = cli.main([str(word) for word in (*words, *extra)])
        captured = capsys.readouterr()
        receipt = json.loads(log.read_bytes()) if log.exists() else None
        return Ran(code, captured.out, captured.err, receipt)

    return call


def command(*words: object, stdin: bytes | None = None, **environ: str) -> Ran:
    """The command in a process of its own."""
    done = subprocess.run(
        [*RUNNER, *map(str, words)],
        input=stdin,
        capture_output=True,
        env={**os.environ, **environ},
        timeout=120,
    )
    return Ran(done.returncode, done.stdout.decode(), done.stderr.decode(), None)

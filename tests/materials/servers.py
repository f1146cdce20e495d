"""Servers of recordings: static files over HTTP and HTTPS, and an S3 server."""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trustme
from aiohttp import web

from tests.cluster import tools
from tests.materials.faults import Behaviour
from tests.materials.web import Answer, Site, running


@dataclass(frozen=True)
class Http:
    """A running server of the files in a folder."""

    url: str
    port: int
    folder: Path
    behaviour: Behaviour

    def put(self, name: str, file: Path) -> str:
        """Offer a copy of a file under this name; return its URL."""
        (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, self.folder / name)
        return f"{self.url}/{name}"


@dataclass(frozen=True)
class Https(Http):
    """The same over TLS; the URL has the first of the certificate's names."""

    #: The certificate authority's file.
    ca: Path

    @property
    def ca_pem(self) -> str:
        return self.ca.read_text()


@contextlib.contextmanager
def http_server(folder: Path, *, host: str = "127.0.0.1", port: int = 0) -> Iterator[Http]:
    """Serve a folder over HTTP; ranges and faults as in `faults.py`."""
    behaviour = Behaviour()
    with running(_static(folder, behaviour), host, port) as listening:
        yield Http(f"http://{_own_name(host)}:{listening}", listening, folder, behaviour)


@contextlib.contextmanager
def https_server(
    folder: Path, *, names: Sequence[str] = ("localhost",), host: str = "127.0.0.1", port: int = 0
) -> Iterator[Https]:
    """Serve a folder over HTTPS, with a certificate for these names from an authority of its own."""
    authority = trustme.CA()
    certificate = authority.issue_cert(*dict.fromkeys([*names, "localhost", "127.0.0.1"]))
    with tempfile.TemporaryDirectory() as scratch:
        ca = Path(scratch) / "ca.pem"
        authority.cert_pem.write_to_path(str(ca))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
        behaviour = Behaviour()
        with running(_static(folder, behaviour), host, port, context) as listening:
            yield Https(f"https://{names[0]}:{listening}", listening, folder, behaviour, ca)


def _own_name(host: str) -> str:
    return "127.0.0.1" if host == "0.0.0.0" else host


def _static(folder: Path, behaviour: Behaviour) -> web.Application:
    site = Site(behaviour)

    async def get(request: web.Request) -> web.StreamResponse:
        path = request.match_info["path"]
        file = folder / path
        found = file.is_file() and ".." not in file.parts
        answer = Answer(file=file) if found else Answer(404, body=b"no such file")
        return await site.answer(request, path, "content", answer)

    app = web.Application()
    site.add_control(app)
    app.router.add_get("/{path:.*}", get)
    return app


@dataclass(frozen=True)
class S3:
    """A running S3 server."""

    url: str
    port: int
    bucket: str
    access_key: str
    secret_key: str

    @property
    def environment(self) -> dict[str, str]:
        """What s3fs and other clients read."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def put(self, key: str, file: Path) -> str:
        """Put a file into the bucket; return its URL."""
        self.files().put_file(str(file), f"{self.bucket}/{key}")
        return f"s3://{self.bucket}/{key}"

    def read(self, key: str) -> bytes:
        """Return what is in the bucket under this key."""
        return bytes(self.files().cat_file(f"{self.bucket}/{key}"))

    def files(self) -> Any:
        """Return its contents as s3fs sees them, with all rights: `bucket/key` are the paths."""
        import s3fs  # type: ignore[import-untyped]

        return s3fs.S3FileSystem(
            key=self.access_key, secret=self.secret_key, endpoint_url=self.url, skip_instance_cache=True
        )


@contextlib.contextmanager
def s3_server(
    folder: Path | None = None,
    *,
    files: Mapping[str, Path] | None = None,
    binary: Path | None = None,
    bucket: str = "recordings",
    host: str = "127.0.0.1",
    port: int = 0,
    access_key: str = "materials",
    secret_key: str = "materials-secret",
) -> Iterator[S3]:
    """Run versitygw, with one bucket and these files (key: path) in it.

    Buckets lie in `folder` (one of its own, if none is named); the program is the test cluster's.
    """
    port = port or _free_port(host)
    binary = binary or tools.binary("versitygw")
    with tempfile.TemporaryDirectory(prefix="materials-s3-") as scratch:
        log = Path(scratch) / "log"
        root, notes = folder or Path(scratch) / "buckets", Path(scratch) / "notes"
        notes.mkdir()
        (root / bucket).mkdir(parents=True, exist_ok=True)  # a bucket is a folder, and an object a file in it
        # It ends with us, whatever ends us.
        command = ["setpriv", "--pdeathsig", "KILL", "--", str(binary), "--quiet", "--port", f"{host}:{port}"]
        command += ["--access", access_key, "--secret", secret_key, "posix", "--sidecar", str(notes), str(root)]
        with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out, env={}) as process:
            server = S3(f"http://{_own_name(host)}:{port}", port, bucket, access_key, secret_key)
            try:
                _wait_for(server.url, process, log)
                for key, path in (files or {}).items():
                    server.put(key, path)
                yield server
            finally:
                process.kill()


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path, patience: float = 20) -> None:
    deadline = time.monotonic() + patience
    while True:
        if process.poll() is not None:
            raise RuntimeError(f"the S3 server ended with {process.returncode}: {log.read_text()}")
        try:
            urllib.request.urlopen(url, timeout=2).close()
        except urllib.error.HTTPError:
            return  # it answers, if only to say that we have shown no key
        except OSError:
            if time.monotonic() > deadline:
                raise RuntimeError(f"the S3 server does not answer: {log.read_text()}") from None
            time.sleep(0.05)
        else:
            return


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])

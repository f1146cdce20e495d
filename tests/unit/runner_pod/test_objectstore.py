"""A real S3 server (versitygw) that s3fs talks to."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.materials.servers import S3, s3_server
from transcription_runner.errors import OutputFailed, PermissionDenied, SourceMissing, SourceUnreachable
from transcription_runner.outputs import deliver
from transcription_runner.sources import Source, fetched

DATA = os.urandom(20_000_000)


@dataclass
class Store:
    """A running S3 server over a folder."""

    server: S3
    folder: Path


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    folder = tmp_path_factory.mktemp("s3")
    with s3_server(folder) as running:
        yield Store(running, folder)


@pytest.fixture
def credentials(store: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    for name, value in store.server.environment.items():
        monkeypatch.setenv(name, value)
    return store


def read(url: str) -> bytes:
    with fetched(Source(text=url)) as path:
        return path.read_bytes()


def test_an_object_is_read(credentials):
    (credentials.folder / "recordings" / "a b.mp3").write_bytes(DATA)
    assert read("s3://recordings/a b.mp3") == DATA


def test_what_is_not_there(credentials):
    with pytest.raises(SourceMissing, match=r"s3://recordings/gone\.mp3"):
        read("s3://recordings/gone.mp3")
    with pytest.raises(SourceMissing, match="no-such-bucket"):
        read("s3://no-such-bucket/a.mp3")


@pytest.mark.parametrize("wrong", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_wrong_credentials(credentials, monkeypatch, wrong):
    monkeypatch.setenv(wrong, "wrong")
    (credentials.folder / "recordings" / "private.mp3").write_bytes(b"x")
    with pytest.raises(PermissionDenied) as caught:
        read("s3://recordings/private.mp3")
    assert "credentialsSecret" in (caught.value.hint or "")


def test_no_credentials(store, monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_ENDPOINT_URL", store.server.url)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(PermissionDenied) as caught:
        read("s3://recordings/private.mp3")
    assert "credentialsSecret" in (caught.value.hint or "")


def test_nobody_there(credentials, monkeypatch):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    with pytest.raises(SourceUnreachable, match=f"127.0.0.1:{port}"):
        read("s3://recordings/a.mp3")
    with pytest.raises(OutputFailed, match=f"127.0.0.1:{port}"):
        deliver("s3://recordings/out", {"a.json": b"{}"})


def test_outputs(credentials):
    addresses = deliver("s3://recordings/out/", {"a.json": b"{}", "a.srt": b"1"})
    assert addresses["a.json"] == "s3://recordings/out/a.json"
    assert (credentials.folder / "recordings" / "out" / "a.srt").read_bytes() == b"1"
    assert deliver("s3://recordings/out/", {"a.json": b"{2}"})
    assert (credentials.folder / "recordings" / "out" / "a.json").read_bytes() == b"{2}"
    with pytest.raises(OutputFailed, match="no-such-bucket"):
        deliver("s3://no-such-bucket/out", {"a.json": b"{}"})

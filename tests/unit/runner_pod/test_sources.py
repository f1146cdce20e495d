from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from tests.materials.faults import Fault
from transcription_runner import certificates
from transcription_runner.backoff import Patience
from transcription_runner.errors import OutputFailed, PermissionDenied, SourceMissing, SourceUnreachable, Usage
from transcription_runner.sources import Source, fetched

DATA = os.urandom(3_000_000)
QUICK = Patience(tries=4, first_wait=0.02, connect_seconds=2, stall_seconds=0.5)


def read(url: str, patience: Patience = QUICK) -> bytes:
    with fetched(Source(text=url), patience=patience) as path:
        return path.read_bytes()


def test_a_local_file_is_used_where_it_is(tmp_path):
    path = tmp_path / "a.mp3"
    path.write_bytes(b"x")
    with fetched(Source(text=str(path))) as found:
        assert found == path
    with fetched(Source(text=f"file://{path}")) as found:
        assert found == path
    assert path.exists()


def test_local_trouble(tmp_path):
    with pytest.raises(SourceMissing, match=r"no file .*gone\.mp3"):
        read(str(tmp_path / "gone.mp3"))
    with pytest.raises(SourceMissing, match="is a folder"):
        read(str(tmp_path))
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SourceMissing):
        read(str(tmp_path / "file" / "below.mp3"))


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    path = tmp_path / "a.mp3"
    path.write_bytes(b"x")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")  # root may read everything

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(PermissionDenied, match=f"belongs to uid {os.geteuid()}.*runs as uid {os.geteuid()}"):
        read(str(path))


def test_an_http_file_is_removed_after_use(server):
    url = server.put("a.mp3", DATA)
    with fetched(Source(text=url)) as path:
        assert path.read_bytes() == DATA
    assert not path.exists()
    assert not path.parent.exists()


def test_redirects_and_passwords(server):
    server.put("a.mp3", DATA)
    assert read(f"{server.url}/moved-a.mp3") == DATA
    server.put("private-a.mp3", b"x")
    assert read(f"{server.url}/private-a.mp3".replace("http://", "http://user:s3cret@")) == b"x"


def test_a_cut_is_resumed_where_it_was(server):
    url = server.put("a.mp3", DATA)
    server.behaviour.add(Fault("cut", at=1_000_000, times=1))
    server.behaviour.add(Fault("cut", at=500_000, times=1))
    assert read(url) == DATA
    ranges = [request.range for request in server.behaviour.requests("a.mp3")]
    assert ranges[0] is None
    starts = [int(span.removeprefix("bytes=").rstrip("-")) for span in ranges[1:]]
    assert starts == sorted(starts)
    assert 0 < starts[0] <= 1_000_000 < starts[1] <= 1_500_000


def test_a_stall_is_given_up_and_resumed(server):
    url = server.put("a.mp3", DATA)
    server.behaviour.add(Fault("stall", at=1_000_000, times=1))
    assert read(url) == DATA


def test_a_file_that_changes_on_the_way_is_read_from_its_start(server):
    url = server.put("a.mp3", DATA)
    server.behaviour.add(Fault("cut", at=1_000_000, times=1))
    other = os.urandom(2_000_000)
    seen = []

    def swap(done: int, total: int | None) -> None:
        if not seen:
            seen.append(total)
            server.put("new", other)
            (server.folder / "new").replace(server.folder / "a.mp3")

    with fetched(Source(text=url), patience=QUICK, on_progress=swap) as path:
        assert path.read_bytes() == other


def test_a_passing_failure_is_tried_again(server):
    url = server.put("a.mp3", DATA)
    server.behaviour.add(Fault("status", status=503, retry_after=0.01, times=2))
    assert read(url) == DATA


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (404, SourceMissing),
        (410, SourceMissing),
        (401, PermissionDenied),
        (403, PermissionDenied),
        (500, SourceUnreachable),
        (429, SourceUnreachable),
        (418, SourceUnreachable),
    ],
)
def test_refusals(server, status, error):
    url = server.put("a.mp3", DATA)
    server.behaviour.add(Fault("status", status=status))
    with pytest.raises(error) as caught:
        read(f"{url}?signature=s3cret")
    assert "127.0.0.1" in caught.value.message
    assert "s3cret" not in caught.value.message
    assert caught.value.hint
    tries = len(server.behaviour.requests("a.mp3"))
    assert tries == (QUICK.tries if status in (500, 429) else 1)


def test_a_server_that_always_cuts_is_given_up(server):
    url = server.put("a.mp3", DATA)
    server.behaviour.add(Fault("cut", at=0))
    with pytest.raises(SourceUnreachable, match=r"127\.0\.0\.1"):
        read(url)


def test_nobody_there():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
    with pytest.raises(SourceUnreachable, match=f"127.0.0.1:{port} refused the connection"):
        read(f"http://127.0.0.1:{port}/a.mp3")
    with pytest.raises(SourceUnreachable, match=r"name of no-such-host\.invalid could not be resolved"):
        read("http://no-such-host.invalid/a.mp3")


def test_tls_needs_the_authority(https, authority, tmp_path, monkeypatch):
    url = https.put("a.mp3", DATA)
    with pytest.raises(SourceUnreachable, match="certificate of localhost") as caught:
        read(url)
    assert "TRANSCRIPTION_CA_BUNDLE" in (caught.value.hint or "")
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(bundle)
    monkeypatch.setenv("TRANSCRIPTION_CA_BUNDLE", str(bundle))
    certificates.install()
    assert read(url) == DATA


def test_no_space_is_told_before_the_download(server, monkeypatch):
    url = server.put("a.mp3", DATA)
    monkeypatch.setattr("transcription_runner.sources.free_bytes", lambda _: 1000)
    with pytest.raises(OutputFailed, match="needs 3000000 bytes, and 1000 are free"):
        read(url)


def test_urls_that_are_none(tmp_path):
    with pytest.raises(Usage):
        read("nonsense://host/a")
    with pytest.raises((Usage, SourceUnreachable)):
        read("http://")


def test_any_fsspec_url(tmp_path):
    import fsspec

    with fsspec.open("memory://folder/a.mp3", "wb") as stream:
        stream.write(DATA)
    assert read("memory://folder/a.mp3") == DATA
    with pytest.raises(SourceMissing):
        read("memory://folder/gone.mp3")
    with pytest.raises(SourceMissing, match="folder"):
        read("memory://folder")


def test_names():
    assert Source(text="https://h/a%20b.mp3?x=1").name == "a b.mp3"
    assert Source(text="s3://bucket/k/c.wav").name == "c.wav"
    assert Source(text="-").name == "-"
    assert Source(text="/x/y.ogg").name == "y.ogg"
    assert Source(text="https://u:p@h/a?b").shown == "https://…@h/a?…"
    assert Source(text="file:///x/y").path == Path("/x/y")

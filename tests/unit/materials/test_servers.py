"""The servers of files: HTTPS with an authority of its own, and S3 by s3fs."""

from __future__ import annotations

import ssl
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.materials.faults import Fault
from tests.materials.servers import S3, Https, http_server


def get(server: Https, name: str, span: str | None = None) -> tuple[int, bytes]:
    headers = {} if span is None else {"Range": span}
    request = urllib.request.Request(f"{server.url}/{name}", headers=headers)
    context = ssl.create_default_context(cafile=str(server.ca))
    with urllib.request.urlopen(request, context=context, timeout=5) as answer:
        return answer.status, answer.read()


def test_https_gives_files_and_parts_of_them(https: Https, dashwood: Path) -> None:
    whole = dashwood.read_bytes()
    assert get(https, "dashwood.wav") == (200, whole)
    assert get(https, "dashwood.wav", "bytes=100-199") == (206, whole[100:200])
    assert get(https, "dashwood.wav", "bytes=-10") == (206, whole[-10:])
    assert get(https, "dashwood.wav", f"bytes={len(whole) - 5}-") == (206, whole[-5:])
    for name, span, status in (("dashwood.wav", f"bytes={len(whole)}-", 416), ("nothing.wav", None, 404)):
        with pytest.raises(urllib.error.HTTPError) as error:
            get(https, name, span)
        assert error.value.code == status
        error.value.close()


def test_nobody_else_trusts_it(https: Https) -> None:
    with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
        urllib.request.urlopen(f"{https.url}/dashwood.wav", timeout=5)
    assert https.ca_pem.startswith("-----BEGIN CERTIFICATE-----")


def test_https_faults(https: Https, dashwood: Path) -> None:
    https.behaviour.add(Fault("status", path="dashwood.wav", status=403, times=1))
    with pytest.raises(urllib.error.HTTPError, match="403") as error:
        get(https, "dashwood.wav")
    error.value.close()
    https.behaviour.add(Fault("cut", path="dashwood.wav", at=5000, times=1))
    with pytest.raises(Exception, match="IncompleteRead"):
        get(https, "dashwood.wav")
    assert get(https, "dashwood.wav") == (200, dashwood.read_bytes())
    assert https.behaviour.requests("dashwood.wav")[-2].sent == 5000


def test_files_can_be_put_and_nothing_else_is_seen(tmp_path: Path, dashwood: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "public").mkdir()
    with http_server(tmp_path / "public") as server:
        url = server.put("in/a.wav", dashwood)
        with urllib.request.urlopen(url, timeout=5) as answer:
            assert answer.read() == dashwood.read_bytes()
        for path in ("../secret", "in/../../secret", "%2e%2e/secret", "in"):
            with pytest.raises(urllib.error.HTTPError, match="404") as error:
                urllib.request.urlopen(f"{server.url}/{path}", timeout=5)
            error.value.close()


def test_s3(s3: S3, dashwood: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import s3fs

    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    files = s3fs.S3FileSystem(skip_instance_cache=True)
    assert set(files.find(s3.bucket)) >= {"recordings/dashwood.wav", "recordings/folder/english.mp3"}
    with files.open("s3://recordings/dashwood.wav", block_size=50_000) as file:
        file.seek(1000)
        assert file.read(100) == dashwood.read_bytes()[1000:1100]
    assert files.info("recordings/dashwood.wav")["ETag"]
    files.pipe("recordings/out/a.json", b"{}")
    assert s3.read("out/a.json") == b"{}"
    assert s3.put("again.wav", dashwood) == "s3://recordings/again.wav"
    with pytest.raises(FileNotFoundError):
        files.cat("recordings/nothing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(PermissionError):
        s3fs.S3FileSystem(skip_instance_cache=True).cat("recordings/dashwood.wav")

"""The Hub: huggingface_hub's real download code against it, in good times and bad."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import HfApi, constants, errors, hf_hub_download, snapshot_download
from huggingface_hub.utils import disable_progress_bars

from tests.materials import hub
from tests.materials.faults import Fault
from tests.materials.hub import Hub
from tests.materials.hub_repository import Repository
from tests.materials.pins import BASE

SMALL = "random/whisper"
LARGE_FILE = f"{SMALL}/model.safetensors"


@pytest.fixture(autouse=True)
def _no_xet_and_no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    disable_progress_bars()
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)


def fetch(server: Hub, folder: Path, name: str = "model.safetensors", **more: object) -> Path:
    return Path(hf_hub_download(SMALL, name, endpoint=server.url, cache_dir=folder, **more))


def test_a_snapshot_is_what_the_folder_holds(hub_server: Hub, tiny_random_whisper: Path, tmp_path: Path) -> None:
    got = Path(snapshot_download(SMALL, endpoint=hub_server.url, cache_dir=tmp_path))
    commit = HfApi(endpoint=hub_server.url).model_info(SMALL).sha
    assert got == tmp_path / "models--random--whisper" / "snapshots" / str(commit)
    for file in tiny_random_whisper.iterdir():
        assert (got / file.name).read_bytes() == file.read_bytes()
    weights = (tiny_random_whisper / "model.safetensors").read_bytes()
    # The blob's name is its sha256, as with the Hub's own large files.
    assert (got / "model.safetensors").resolve().name == hashlib.sha256(weights).hexdigest()
    assert hub_server.behaviour.sent(LARGE_FILE) == len(weights)
    assert not hub_server.behaviour.requests(f"{SMALL}/README.md")


def test_openais_repository_has_the_hubs_own_names(hub_server: Hub) -> None:
    info = HfApi(endpoint=hub_server.url).model_info(BASE.repo, files_metadata=True)
    assert info.sha == BASE.revision
    large = {item.rfilename: item.lfs.sha256 for item in info.siblings or [] if item.lfs}
    assert large == {"model.safetensors": BASE.files["model.safetensors"]}
    sizes = {item.rfilename: item.size for item in info.siblings or []}
    assert sizes["model.safetensors"] == 290_403_936


def test_listings(hub_server: Hub, tmp_path: Path) -> None:
    for path in ("a.txt", "deep/b.txt", "deep/er/c.txt"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(path)
    with hub.serve({"some/thing": tmp_path}) as server:
        api = HfApi(endpoint=server.url)
        assert {item.path for item in api.list_repo_tree("some/thing")} == {"a.txt", "deep"}
        every = {item.path for item in api.list_repo_tree("some/thing", recursive=True)}
        assert every == {"a.txt", "deep", "deep/b.txt", "deep/er", "deep/er/c.txt"}
        assert {item.path for item in api.list_repo_tree("some/thing", "deep")} == {"deep/b.txt", "deep/er"}
        assert [item.size for item in api.get_paths_info("some/thing", ["deep/b.txt", "no"])] == [10]
        refs = api.list_repo_refs("some/thing").branches
        assert [(ref.name, ref.target_commit) for ref in refs] == [("main", api.model_info("some/thing").sha)]
        assert api.file_exists("some/thing", "deep/er/c.txt")
        assert not api.file_exists("some/thing", "deep/er/d.txt")


def test_revisions_by_name_and_by_commit(hub_server: Hub, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(name)
    revisions = {"main": tmp_path / "one", "next": tmp_path / "two"}
    with hub.serve([Repository("some/thing", revisions)]) as server:
        second = HfApi(endpoint=server.url).model_info("some/thing", revision="next").sha
        for revision, text in (("main", "one"), ("next", "two"), (second, "two"), (None, "one")):
            got = hf_hub_download(
                "some/thing", "config.json", revision=revision, endpoint=server.url, cache_dir=tmp_path / "cache"
            )
            assert Path(got).read_text() == text


def test_what_is_not_there(hub_server: Hub, tmp_path: Path) -> None:
    api = HfApi(endpoint=hub_server.url)
    with pytest.raises(errors.RepositoryNotFoundError):
        api.model_info("openai/whisper-bass")
    with pytest.raises(errors.RevisionNotFoundError):
        snapshot_download(SMALL, revision="nope", endpoint=hub_server.url, cache_dir=tmp_path)
    with pytest.raises(errors.EntryNotFoundError):
        fetch(hub_server, tmp_path, "nope.json")


def test_private_and_gated(tmp_path: Path, tiny_random_whisper: Path) -> None:
    folder = {"main": tiny_random_whisper}
    mine = [Repository("my/own", folder, token="hf_me"), Repository("a/gated", folder, token="hf_me", gated=True)]
    with hub.serve(mine) as server:
        for token in (False, "hf_other"):
            with pytest.raises(errors.RepositoryNotFoundError):
                HfApi(endpoint=server.url, token=token).model_info("my/own")
            with pytest.raises(errors.GatedRepoError):
                hf_hub_download("a/gated", "config.json", endpoint=server.url, cache_dir=tmp_path, token=token)
        for name in ("my/own", "a/gated"):
            got = snapshot_download(name, endpoint=server.url, cache_dir=tmp_path, token="hf_me")
            assert len(list(Path(got).iterdir())) == len(list(tiny_random_whisper.iterdir()))
        # The token does not leave the Hub: the server of large files never sees it.
        large = server.behaviour.requests("*/model.safetensors", "content")
        assert large
        assert not any(request.authorized for request in large)


def test_a_download_that_is_cut_goes_on_where_it_was(
    hub_server: Hub, tiny_random_whisper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 100_000)
    hub_server.behaviour.add(Fault("cut", path=LARGE_FILE, on="content", at=1_000_000, times=1))
    got = fetch(hub_server, tmp_path)
    assert got.read_bytes() == (tiny_random_whisper / "model.safetensors").read_bytes()
    first, second = hub_server.behaviour.requests(LARGE_FILE, "content")
    assert (first.status, first.range, second.status, second.range) == (200, None, 206, "bytes=1000000-")
    assert first.sent == 1_000_000


def test_faults(hub_server: Hub, tiny_random_whisper: Path, tmp_path: Path) -> None:
    behaviour, whole = hub_server.behaviour, (tiny_random_whisper / "model.safetensors").read_bytes()

    behaviour.add(Fault("corrupt", path=LARGE_FILE, at=1234, times=1))
    got = fetch(hub_server, tmp_path / "corrupt", force_download=True).read_bytes()
    assert [index for index in range(len(whole)) if got[index] != whole[index]] == [1234]

    for status, error in ((403, errors.HfHubHTTPError), (404, errors.HfHubHTTPError), (500, errors.HfHubHTTPError)):
        behaviour.add(Fault("status", path=LARGE_FILE, on="content", status=status, times=1))
        with pytest.raises(error):
            fetch(hub_server, tmp_path / str(status))

    behaviour.add(Fault("status", path=f"{SMALL}/config.json", on="content", status=429, retry_after=0.1, times=1))
    assert fetch(hub_server, tmp_path / "429", "config.json").is_file()
    assert [r.status for r in behaviour.requests(f"{SMALL}/config.json", "content")] == [429, 200]

    behaviour.add(Fault("slow", path=LARGE_FILE, on="content", rate=10_000_000, times=1))
    started = time.monotonic()
    fetch(hub_server, tmp_path / "slow")
    assert time.monotonic() - started > len(whole) / 10_000_000

    behaviour.add(Fault("stall", path=LARGE_FILE, on="content", at=1000, seconds=0.5, times=1))
    started = time.monotonic()
    assert fetch(hub_server, tmp_path / "stall").read_bytes() == whole
    assert time.monotonic() - started > 0.5
    assert behaviour.faults() == []


def test_a_stall_for_ever_ends_with_the_server(tiny_random_whisper: Path) -> None:
    with hub.serve({SMALL: tiny_random_whisper}) as server:
        server.behaviour.add(Fault("stall", path=SMALL, on="api"))
        with pytest.raises(TimeoutError):
            urllib.request.urlopen(f"{server.url}/api/models/{SMALL}", timeout=0.3)
        started = time.monotonic()
    assert time.monotonic() - started < 5


def call(url: str, method: str = "GET", value: object = None) -> object:
    body = None if value is None else json.dumps(value).encode()
    request = urllib.request.Request(url, data=body, method=method)
    with urllib.request.urlopen(request, timeout=5) as answer:
        return json.load(answer)


@pytest.fixture(scope="module")
def command(tiny_random_whisper: Path) -> Iterator[str]:
    """The Hub as a command of its own; its URL."""
    arguments = ["hub", "--port", "0", "--repository", f"some/thing={tiny_random_whisper}"]
    process = subprocess.Popen([sys.executable, "-m", "tests.materials", *arguments], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip().removeprefix("HF_ENDPOINT=")
    finally:
        process.terminate()
        process.wait(timeout=10)
        process.stdout.close()


def test_the_command_and_its_control_path(command: str, tmp_path: Path) -> None:
    call(f"{command}/_control/faults", "POST", {"kind": "status", "status": 503, "path": "some/thing", "on": "api"})
    with pytest.raises(errors.HfHubHTTPError):
        HfApi(endpoint=command).model_info("some/thing")
    assert call(f"{command}/_control/faults", "DELETE") == []
    assert HfApi(endpoint=command).model_info("some/thing").sha
    asked = call(f"{command}/_control/requests?path=some/thing")
    assert [request["status"] for request in asked] == [503, 200]
    assert call(f"{command}/_control/requests", "DELETE") == []
    with pytest.raises(urllib.error.HTTPError, match="400"):
        call(f"{command}/_control/faults", "POST", {"kind": "status", "colour": "red"})

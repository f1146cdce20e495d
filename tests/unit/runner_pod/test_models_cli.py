"""The `models` commands over caches of ours and of huggingface_hub's."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.materials import hub
from tests.materials.faults import Fault
from tests.materials.hub_repository import Repository
from tests.unit.runner_pod.conftest import RUNNER, Ran, hub_cache, tiny_repository
from transcription_runner import arguments, cache, cli, inventory, locks
from transcription_runner.names import parse_model

BASE = "models--openai--whisper-base"


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[hub.Hub]:
    main = tiny_repository(tmp_path / "repos" / "main", os.urandom(3_000_000))
    second = tiny_repository(tmp_path / "repos" / "v2")
    (second / "model.safetensors").write_bytes((main / "model.safetensors").read_bytes())
    (second / "config.json").write_text('{"model_type": "whisper", "v": 2}')
    other = tiny_repository(tmp_path / "repos" / "other")
    repositories = [
        Repository("openai/whisper-base", {"main": main, "v2": second}),
        Repository("openai/whisper-base.en", {"main": other}),
    ]
    with hub.serve(repositories) as running:
        for name, value in running.environment.items():
            monkeypatch.setenv(name, value)
        yield running


@pytest.fixture
def models(tmp_path, monkeypatch, capsys):
    """The command in this process, on one cache."""
    log = tmp_path / "termination-log"
    monkeypatch.setenv("TRANSCRIPTION_TERMINATION_LOG", str(log))

    def call(*words: object) -> Ran:
        log.unlink(missing_ok=True)
        capsys.readouterr()
        code = cli.main(["models", *map(str, words), "--model_dir", str(tmp_path / "cache")])
        said = capsys.readouterr()
        return Ran(code, said.out, said.err, json.loads(log.read_bytes()) if log.exists() else None)

    return call


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def scanned(root: Path) -> dict[tuple[str, str], int]:
    """What huggingface_hub makes of a cache: (repository, commit) and the bytes of that revision."""
    from huggingface_hub import scan_cache_dir

    found = scan_cache_dir(root)
    return {
        (repo.repo_id, revision.commit_hash): revision.size_on_disk
        for repo in found.repos
        for revision in repo.revisions
    }


def listed(models) -> dict[tuple[str, str], int]:
    return {(entry["repo"], entry["commit"]): entry["bytes"] for entry in json.loads(models("list", "--json").out)}


def test_download_several_and_all_commands_agree(served, root, models):
    done = models("download", "base", "base@v2", "base.en", "--json")
    assert done.code == 0, done.err
    values = json.loads(done.out)
    assert [value["model"]["revision"] for value in values] == ["main", "v2", "main"]
    assert [model["commit"] for model in done.receipt["models"]] == [value["model"]["commit"] for value in values]
    assert listed(models) == scanned(root)
    assert models("verify", "--all").code == 0
    used = json.loads(models("du", "--json").out)
    assert used["models"]["openai/whisper-base"] == inventory.size_of(root / BASE)
    assert used["bytes"] == sum(used["models"].values()) + used["stagingBytes"]
    assert 0 < used["freeBytes"] < used["totalBytes"]


def test_the_receipt_of_one(served, models):
    done = models("download", "base", "--json")
    assert set(done.receipt) == {"model", "transfer", "cache"}
    assert set(done.receipt["model"]) == {"repo", "revision", "commit", "bytes", "files"}
    assert set(done.receipt["transfer"]) == {"bytesDownloaded", "bytesResumed", "bytesWritten", "seconds", "retries"}
    assert set(done.receipt["cache"]) == {"bytes", "freeBytes", "totalBytes"}
    assert done.receipt["transfer"]["bytesDownloaded"] == done.receipt["model"]["bytes"]
    verified = models("verify", "base").receipt
    assert (verified["verified"], verified["model"]) == (True, done.receipt["model"])
    removed = models("remove", "base").receipt
    assert removed["removed"]["bytes"] >= done.receipt["model"]["bytes"]
    assert removed["cache"]["bytes"] == 0


def test_removing_a_revision_keeps_what_another_uses(served, root, models):
    models("download", "base", "base@v2", "base.en")
    main = cache.find(parse_model("base"), [root])
    second = cache.find(parse_model("base@v2"), [root])
    size = (second.path / "model.safetensors").stat().st_size
    done = models("remove", "base")
    assert done.receipt["removed"]["bytes"] < size  # the weights are shared
    assert cache.find(parse_model("base"), [root]) is None
    assert not main.path.exists()
    assert cache.verify(root / BASE, second.commit) == []
    assert listed(models) == scanned(root)
    assert set(json.loads((root / BASE / "manifest.json").read_bytes())["snapshots"]) == {second.commit}
    assert models("remove", "base@v2").receipt["removed"]["bytes"] >= size
    assert not (root / BASE).exists()
    # A repository whose name begins like the removed one's stays.
    assert cache.find(parse_model("base.en"), [root]) is not None
    assert listed(models) == scanned(root)


def test_a_commit_with_two_names_stays_for_the_other(served, root, models):
    models("download", "base")
    commit = cache.find(parse_model("base"), [root]).commit
    (root / BASE / "refs" / "stable").write_text(commit)
    assert models("remove", "base").receipt["removed"] == {"bytes": 0, "files": 0}
    assert cache.find(parse_model("base@stable"), [root]).commit == commit
    assert models("remove", f"base@{commit}").code == 0
    assert not (root / BASE).exists()


def test_remove_all(served, root, models):
    models("download", "base", "base.en")
    assert models("remove", "--all").code == 0
    assert scanned(root) == {}
    assert json.loads(models("du", "--json").out)["bytes"] == 0
    assert models("remove", "base").code == 66
    assert models("remove", "base", "--missing_ok").code == 0


def test_an_unfinished_download_is_removed_too(served, root, models):
    served.behaviour.add(Fault("cut", path="*.safetensors", at=1_000_000, times=1))
    served.behaviour.add(Fault("status", path="*.safetensors", on="content", status=403))
    assert models("download", "base").code == 77
    assert json.loads(models("du", "--json").out)["stagingBytes"] > 0
    assert models("remove", "base").receipt["removed"]["bytes"] > 0
    assert json.loads(models("du", "--json").out)["bytes"] == 0


def test_what_huggingface_hub_wrote(served, root, models):
    from huggingface_hub import snapshot_download

    for revision in ("main", "v2"):
        snapshot_download("openai/whisper-base", revision=revision, cache_dir=root, endpoint=served.url)
    assert listed(models) == scanned(root)
    assert models("verify", "--all").code == 0
    left = cache.find(parse_model("base@v2"), [root]).commit
    assert models("remove", "base").code == 0
    assert list(scanned(root)) == [("openai/whisper-base", left)]
    assert cache.verify(root / BASE, left) == []
    snapshot_download("openai/whisper-base", revision="v2", cache_dir=root, local_files_only=True)


def test_huggingface_hub_removes_what_we_wrote(served, root, models):
    from huggingface_hub import scan_cache_dir

    models("download", "base", "base@v2")
    gone = cache.find(parse_model("base"), [root]).commit
    left = cache.find(parse_model("base@v2"), [root]).commit
    scan_cache_dir(root).delete_revisions(gone).execute()
    assert listed(models) == scanned(root)
    assert cache.find(parse_model("base"), [root]) is None
    assert cache.verify(root / BASE, left) == []
    assert models("download", "base").code == 0
    assert cache.verify(root / BASE, gone) == []


def test_verify_names_the_file(served, root, models):
    models("download", "base", "base.en")
    blob = (cache.find(parse_model("base"), [root]).path / "model.safetensors").resolve()
    data = bytearray(blob.read_bytes())
    data[-1] ^= 1
    blob.write_bytes(data)
    done = models("verify", "base.en", "base", "--json")
    assert done.code == 80
    good, bad = json.loads(done.out)
    assert good["verified"]
    assert "model.safetensors does not agree with its sha256" in bad["error"]["message"]
    assert done.receipt["error"]["class"] == "CorruptModelCache"
    assert models("verify", "tiny").code == 66
    assert models("download", "base", "--refresh").code == 0
    assert models("verify", "base").code == 0


def test_verify_a_folder(root, models, tmp_path):
    folder = hub_cache(tmp_path / "elsewhere" / "models") / "snapshots" / ("a" * 40)
    assert models("verify", folder).code == 0
    plain = tiny_repository(tmp_path / "plain")
    assert models("verify", plain).receipt["verified"]
    (plain / "config.json").write_text("{")
    assert models("verify", plain).code == 80


def test_words_that_do_not_fit(models):
    for words in (("verify",), ("remove", "base", "--all"), ("download", "base", "--name", "x"), ("remove", "/a/path")):
        assert models(*words).code == 64, words
    assert models("download", "base", "--stall_timeout", "0").code == 64


def test_two_processes_download_once(served, root):
    """Two commands by hand, or of two machines on one volume."""
    served.behaviour.add(Fault("slow", path="*.safetensors", rate=3_000_000))
    words = ["models", "download", "base", "--model_dir", str(root), "--json"]
    processes = [subprocess.Popen([*RUNNER, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    ended = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], ended
    assert len(served.behaviour.requests("*/model.safetensors", "content")) == 1
    taken = sorted(json.loads(out)["transfer"]["bytesDownloaded"] for out, _ in ended)
    assert taken[0] == 0 < taken[1]


def test_two_processes_on_a_volume_without_locks(served, root):
    """flock that answers ENOLCK stands in for such a volume: none can be mounted here."""
    served.behaviour.add(Fault("slow", path="*.safetensors", rate=3_000_000))
    script = (
        "import errno, fcntl, sys\n"
        "def refuse(*_): raise OSError(errno.ENOLCK, 'no locks')\n"
        "fcntl.flock = refuse\n"
        "from transcription_runner import cli\n"
        "sys.exit(cli.main(sys.argv[1:]))\n"
    )
    words = [RUNNER[0], "-c", script, "models", "download", "base", "--model_dir", str(root)]
    processes = [subprocess.Popen(words, stderr=subprocess.PIPE) for _ in range(2)]
    deadline = time.monotonic() + 60
    while len(locks.staging_of(root, BASE)) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    said = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert cache.verify(root / BASE, cache.find(parse_model("base"), [root]).commit) == []
    assert locks.staging_of(root, BASE) == []


def test_models_of_the_image(root, tmp_path):
    hub_cache(tmp_path / "baked", "openai/whisper-tiny")
    roots = arguments.roots(str(root), {"TRANSCRIPTION_BAKED_MODELS": str(tmp_path / "baked")})
    assert cache.find(parse_model("tiny"), roots).path.is_relative_to(tmp_path / "baked")
    # The volume's own comes first.
    hub_cache(root, "openai/whisper-tiny")
    assert cache.find(parse_model("tiny"), roots).path.is_relative_to(root)

"""kill -9 of a real download at points all along its way: the next one resumes, and the model verifies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.materials import hub
from tests.materials.hub_repository import Repository
from tests.unit.runner_pod.conftest import command, tiny_repository
from transcription_runner import cache
from transcription_runner.names import parse_model

SIZE = 8_000_000

# The command, which kills itself (-9, nothing is cleaned up) when it comes to `point`: the n-th call of a function,
# or the write that goes beyond a byte of the weights.
KILLED = """
import os, pathlib, signal, sys
from transcription_runner import cli, download, filesystem, hashes, manifest, transfer

def die(): os.kill(os.getpid(), signal.SIGKILL)

def at_call(owner, name, number, when=lambda *_: True):
    real, calls = getattr(owner, name), [0]
    def call(*args, **kwargs):
        if when(*args):
            calls[0] += 1
            if calls[0] == number: die()
        return real(*args, **kwargs)
    setattr(owner, name, call)

def at_byte(place):
    real = transfer.write_all
    def write(stream, data):
        if str(stream.name).endswith(".part") and stream.tell() + len(data) > place: die()
        return real(stream, data)
    transfer.write_all = write

point = sys.argv[1]
if point.isdigit(): at_byte(int(point))
elif point == "first-request": at_call(download.HubOrigin, "list", 1)
elif point == "second-file": at_call(download._Session, "_fetch", 2)
elif point == "verify": at_call(hashes.Follower, "finish", 6)
elif point == "rename-verified": at_call(pathlib.Path, "replace", 6, lambda p, *_: p.name.endswith(".part"))
elif point == "rename-third":
    at_call(pathlib.Path, "replace", 3, lambda _, to: to.parent.name == "blobs" and ".staging" not in to.parts)
elif point == "links": at_call(download, "link", 3)
elif point == "manifest": at_call(manifest.Manifest, "write", 1)
elif point == "manifest-rename": at_call(pathlib.Path, "replace", 1, lambda p, t: t.name == "manifest.json")
elif point == "reference": at_call(download, "write_durably", 1)
elif point == "clean-up": at_call(download.shutil, "rmtree", 1)
else: raise SystemExit("no such point: " + point)
sys.exit(cli.main(sys.argv[2:]))
"""

POINTS = {
    "first-request": 0,
    "second-file": 0,
    "1": 0,
    "1000000": 900_000,
    "4000000": 3_900_000,
    "7900000": 7_800_000,
    "verify": SIZE,
    "rename-verified": SIZE,
    "rename-third": SIZE,
    "links": SIZE,
    "manifest": SIZE,
    "manifest-rename": SIZE,
    "reference": SIZE,
    "clean-up": SIZE,
}
"""Where the process dies, and how many bytes of the weights do not come again at least."""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[hub.Hub]:
    main = tiny_repository(tmp_path_factory.mktemp("repos") / "main", os.urandom(SIZE))
    with hub.serve([Repository("openai/whisper-base", {"main": main})]) as running:
        yield running


@pytest.mark.parametrize("point", POINTS)
def test_killed_and_resumed(served, tmp_path, point):
    root = tmp_path / "cache"
    words = ["models", "download", "base", "--model_dir", str(root)]
    environment = {**os.environ, **served.environment}
    killed = subprocess.run([sys.executable, "-c", KILLED, point, *words], env=environment, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    # Before the next attempt nothing of it is taken for a model, unless it was whole.
    found = cache.find(parse_model("base"), [root]) if root.exists() else None
    assert (found is not None) == (point == "clean-up")
    served.behaviour.forget()
    done = command(*words, **served.environment)
    assert done.code == 0, done.err
    assert served.behaviour.sent("*/model.safetensors") <= SIZE + 200 - POINTS[point]
    assert command("models", "verify", "base", "--model_dir", root).code == 0
    assert [*root.rglob("*.part"), *root.rglob("*.tmp")] == []


def test_there_are_ten_points_at_least():
    assert len(POINTS) >= 10


def test_the_weights_are_the_last_of_six_files(served, tmp_path):
    """What the points above count on."""
    done = command("models", "download", "base", "--model_dir", tmp_path, **served.environment)
    assert done.code == 0
    assert len(list(Path(cache.find(parse_model("base"), [tmp_path]).path).iterdir())) == 6
    asked = served.behaviour.requests("openai/whisper-base/*", "content")
    assert asked[-1].path.endswith("model.safetensors")

"""`prepare-folder`, as the pod's user on volumes that belong to others."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

# Root may write everywhere: after the imports, the child becomes somebody else.
AS_NOBODY = """
import os, sys
from transcription_runner import cli
import encodings.idna
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(10001); os.setuid(10001)
os.environ["TRANSCRIPTION_TERMINATION_LOG"] = sys.argv[1]
sys.exit(cli.main(["prepare-folder", sys.argv[2]]))
"""


def prepare(log, folder):
    return subprocess.run(
        [sys.executable, "-c", AS_NOBODY, str(log), str(folder)], capture_output=True, text=True, timeout=60
    )


@pytest.fixture
def place(tmp_path_factory):
    """A folder that every user can reach."""
    import shutil
    import tempfile
    from pathlib import Path

    folder = Path(tempfile.mkdtemp(prefix="prepare-", dir="/tmp"))
    folder.chmod(0o777)
    log = folder / "log"
    log.touch()
    log.chmod(0o666)
    yield folder
    shutil.rmtree(folder)


def test_folders_are_made_755(place):
    done = prepare(place / "log", place / "transcripts" / "team" / "talk")
    assert done.returncode == 0, done.stderr
    for folder in ("transcripts", "transcripts/team", "transcripts/team/talk"):
        assert (place / folder).stat().st_mode & 0o777 == 0o755
    assert (place / "log").read_text() == ""
    assert prepare(place / "log", place / "transcripts" / "team" / "talk").returncode == 0


@pytest.mark.parametrize("exists", [False, True])
def test_a_volume_of_another_user(place, exists):
    (place / "volume").mkdir(mode=0o555)
    wanted = place / "volume" / "team"
    if exists:
        if os.geteuid() != 0:
            wanted = place / "volume"
        else:
            wanted.mkdir(mode=0o555)
    done = prepare(place / "log", wanted)
    assert done.returncode == 77
    error = json.loads((place / "log").read_text())["error"]
    assert (error["class"], error["code"]) == ("PermissionDenied", 77)
    assert f"belongs to uid {os.geteuid()}, gid {os.getegid()}, mode 555" in error["message"]
    if os.geteuid() == 0:
        assert "runs as uid 10001, gid 10001" in error["message"]
        assert "chown 10001:10001" in error["hint"]


def test_nothing_heavy_is_imported():
    script = (
        "import sys; from transcription_runner import cli; "
        "print([m for m in ('torch','numpy','httpx2','huggingface_hub','fsspec') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]"

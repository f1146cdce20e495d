"""The Debian packages that the cluster and the images need."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.cluster import pins

_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/go/bin", "/usr/local/sbin", "/usr/sbin", "/sbin"])


def missing() -> list[pins.DebianPackage]:
    """Those whose program is not here."""
    return [each for each in pins.DEBIAN_PACKAGES if not _present(each.program)]


def ensure(*, install: bool) -> int:
    """Install what is missing where that is possible, or say how to get it; an exit status."""
    wanted = missing()
    if not wanted:
        print("system: every package is here")
        return 0
    print("system: missing here")
    for each in wanted:
        print(f"  {each.name:<28} {each.purpose}")
    if not install or not _can_install():
        print(
            "Install them as root (on Debian and Ubuntu: "
            f"apt-get install --no-install-recommends {' '.join(each.name for each in wanted)}) and run this again.",
            file=sys.stderr,
        )
        return 1
    names = [each.name for each in wanted]
    print(f"system: apt-get install --no-install-recommends {' '.join(names)}", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    quiet = ["apt-get", "-q", "-q"]
    # Nothing that a package brings may start by itself: the programs are run by the tests, and only there.
    policy = Path("/usr/sbin/policy-rc.d")
    ours = not policy.exists()
    if ours:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        for command in ([*quiet, "update"], [*quiet, "install", "-y", "--no-install-recommends", *names]):
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            if done.returncode:
                print(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}", file=sys.stderr)
                return done.returncode
    finally:
        if ours:
            policy.unlink()
    left = [each.name for each in missing()]
    if left:
        print(f"system: still missing after the installation: {' '.join(left)}", file=sys.stderr)
    return 1 if left else 0


def _present(program: str) -> bool:
    return Path(program).exists() if program.startswith("/") else shutil.which(program, path=_PATH) is not None


def _can_install() -> bool:
    return os.geteuid() == 0 and shutil.which("apt-get") is not None

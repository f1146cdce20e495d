"""`prepare-folder`: make the folder that a job's transcript will lie in. Imports nothing heavy."""

from __future__ import annotations

import os
from pathlib import Path

from transcription_runner.errors import PermissionDenied
from transcription_runner.filesystem import describe_owner, identity, make_folder


def prepare_folder(folder: Path) -> None:
    """Make the folder (mode 755) and its parents, and see that this process may write there.

    Raises PermissionDenied, which names the uid found and the uid needed, and OutputFailed.
    """
    make_folder(folder)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionDenied(
            f"Permission denied: writing to {folder}: it belongs to {describe_owner(folder)}, "
            f"and this process runs as {identity()}.",
            hint=f"Give {folder} to uid {os.geteuid()} (chown {os.geteuid()}:{os.getegid()}, mode 755).",
        )

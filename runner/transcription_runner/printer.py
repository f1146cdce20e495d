"""What `--verbose True` prints on standard output: the language that was heard, and each segment, as whisper does."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from transcription_runner.languages import LANGUAGES
from transcription_runner.progress import stand_aside
from transcription_runner.writers import timestamp


class Printer:
    """Prints one transcript after another; each segment once, as soon as it is there."""

    def __init__(self, *, detected: bool) -> None:
        """detected: whether the language is found out, and so worth telling."""
        self._detected = detected
        self._printed = 0
        self._named = not detected
        self._deaf = False

    def so_far(self, language: str | None, segments: Sequence[Mapping[str, Any]]) -> None:
        """All segments of a transcript up to now; those that are new are printed."""
        if not self._named and language is not None:
            self._named = True
            self._print(f"Detected language: {LANGUAGES.get(language, language).title()}")
        for segment in segments[self._printed :]:
            self._print(f"[{timestamp(segment['start'])} --> {timestamp(segment['end'])}] {segment['text']}")
        self._printed = len(segments)

    def whole(self, result: Mapping[str, Any]) -> None:
        """A transcript at its end: whatever of it was not printed yet. The next one begins anew."""
        self.so_far(str(result.get("language")), result["segments"])
        self._printed = 0
        self._named = not self._detected

    def _print(self, line: str) -> None:
        if self._deaf:
            return
        stand_aside()
        encoding = sys.stdout.encoding or "utf-8"
        try:
            print(line.encode(encoding, "replace").decode(encoding), flush=True)
        except BrokenPipeError:  # whoever reads has had enough
            self._deaf = True

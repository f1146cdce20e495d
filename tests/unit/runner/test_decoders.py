"""Files decoded in other processes: the same samples, errors and messages, and nobody left behind."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.differential.comparing import differences
from tests.materials import recordings
from transcription_runner import decoders, errors
from transcription_runner.audio import AudioFile, Samples
from transcription_runner.decoders import Decoders
from transcription_runner.options import TranscribeOptions
from transcription_runner.transcribe import transcribe_many

GREEDY = TranscribeOptions(language="en", beam_size=None, best_of=None, temperature=0.0, batch_size=2)


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[Decoders]:
    """Every file is decoded elsewhere, however short."""
    monkeypatch.setattr(decoders, "_SHORT", 0.0)
    found = Decoders()
    yield found
    found.close()
    assert not children()


def children() -> list[int]:
    """Processes of this one that decode."""
    found = []
    for each in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((each / "stat").read_text().rpartition(")")[2].split()[1])
            words = (each / "cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if parent == os.getpid() and b"transcription_runner.decoders" in words:
            found.append(int(each.name))
    return found


def plain(blocks: Iterator[tuple[int, Samples]]) -> list[tuple[int, list[int]]]:
    return [(index, samples.tolist()) for index, samples in blocks]


@pytest.mark.parametrize("stretch", [(0.0, None), (3.0, 5.5), (60.0, None)])
def test_the_samples_are_the_same(elsewhere: Decoders, stretch: tuple[float, float | None]) -> None:
    path = recordings.english()
    theirs = elsewhere.open(path)
    assert theirs.duration == AudioFile(path).duration
    assert plain(theirs.blocks(*stretch)) == plain(AudioFile(path).blocks(*stretch))


def test_one_process_does_for_one_file_after_the_other(elsewhere: Decoders) -> None:
    for path in (recordings.dashwood(), recordings.english(), recordings.dashwood()):
        assert list(elsewhere.open(path).blocks())
        assert len(children()) == 1


def test_files_at_the_same_time_have_a_process_each(elsewhere: Decoders) -> None:
    path = recordings.english()
    both = [elsewhere.open(path).blocks() for _ in range(2)]
    for one, other in zip(*both, strict=True):
        assert one[0] == other[0]
        assert np.array_equal(one[1], other[1])
    assert len(children()) == 2


def test_what_is_wrong_with_a_file_is_told_here(elsewhere: Decoders, tmp_path: Path) -> None:
    path = tmp_path / "hollow.wav"
    path.write_bytes(recordings.dashwood().read_bytes()[:44])  # a header, and nothing after it
    with pytest.raises(errors.BadAudio) as theirs:
        list(elsewhere.open(path).blocks())
    with pytest.raises(errors.BadAudio) as ours:
        list(AudioFile(path).blocks())
    assert (theirs.value.message, theirs.value.hint) == (ours.value.message, ours.value.hint)
    assert list(elsewhere.open(recordings.dashwood()).blocks()), "the process goes on"
    assert len(children()) == 1


def test_what_is_logged_there_is_logged_here(
    elsewhere: Decoders, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = recordings.english().read_bytes()
    path = tmp_path / "broken.mp3"
    middle = len(whole) // 2
    path.write_bytes(whole[:middle] + b"\xff\xfb\x00" * 2000 + whole[middle:])
    ours = plain(AudioFile(path).blocks())
    said = caplog.messages[:]
    assert said
    caplog.clear()
    assert plain(elsewhere.open(path).blocks()) == ours
    assert caplog.messages == said


def test_a_file_that_is_given_up_takes_its_process_along(elsewhere: Decoders) -> None:
    blocks = elsewhere.open(recordings.english()).blocks()
    next(blocks)
    assert len(children()) == 1
    blocks.close()  # type: ignore[attr-defined]  # a generator
    assert not children()


def test_a_process_that_is_killed_is_an_error_that_says_so(elsewhere: Decoders) -> None:
    list(elsewhere.open(recordings.dashwood()).blocks())
    (process,) = children()
    os.kill(process, signal.SIGKILL)
    with pytest.raises(errors.Internal, match=r"dashwood.*the process that decoded it ended \(exit status -9\)"):
        list(elsewhere.open(recordings.dashwood()).blocks())
    assert list(elsewhere.open(recordings.dashwood()).blocks()), "there is another"


def test_short_files_are_decoded_here() -> None:
    found = Decoders()
    assert plain(found.open(recordings.dashwood()).blocks()) == plain(AudioFile(recordings.dashwood()).blocks())
    assert not children()
    found.close()


@pytest.mark.parametrize("kept", [True, False])
def test_a_run_is_the_same(random_engine, monkeypatch: pytest.MonkeyPatch, kept: bool) -> None:
    files = [recordings.with_long_pauses(), recordings.empty(), recordings.english()]
    found = []
    for there in (False, True):
        monkeypatch.setattr("transcription_runner.transcribe.decodes_elsewhere", lambda _, there=there: there)
        monkeypatch.setattr("transcription_runner.recording.KEPT_SECONDS", 600 if kept else 5)
        outcomes = {outcome.path: outcome for outcome in transcribe_many(random_engine, files, GREEDY)}
        assert not children()
        found.append(outcomes)
    for path in files:
        one, other = (outcomes[path] for outcomes in found)
        assert type(one.error) is type(other.error)
        assert str(one.error) == str(other.error)
        if one.result is not None:
            assert differences(one.result, other.result).found == []
    assert any(outcome.error for outcome in found[1].values())


def test_a_run_that_is_given_up_leaves_no_process(random_engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transcription_runner.transcribe.decodes_elsewhere", lambda _: True)
    outcomes = transcribe_many(random_engine, itertools.repeat(recordings.english(), 5), GREEDY)
    next(outcomes)
    outcomes.close()
    assert not children()

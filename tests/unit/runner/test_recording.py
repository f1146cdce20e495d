"""How much sound is kept in memory."""

from __future__ import annotations

import math
import threading

import numpy as np
import pytest

from tests.materials import recordings
from transcription_runner import recording
from transcription_runner.ahead import Stopped
from transcription_runner.audio import SAMPLE_RATE, AudioFile
from transcription_runner.mel import LogMel
from transcription_runner.options import TranscribeOptions
from transcription_runner.recording import Recording, Room
from transcription_runner.transcribe import transcribe_many
from transcription_runner.windows import Cut

MEL = LogMel(80)
WINDOW = Cut(((0, 700),))


def scanned(room: Room) -> Recording:
    found = Recording(AudioFile(recordings.dashwood()), MEL, room)
    found.scan([(0.0, None)])
    return found


def heard(sound):
    return [piece.tolist() for piece in sound.pieces], sound.loudest


def kept(found: Recording) -> bool:
    return found.is_kept


def test_sound_is_kept_as_far_as_there_is_room_for_all():
    room = Room(15)  # two files of 7.1 s
    first, second, third = (scanned(room) for _ in range(3))
    assert [kept(each) for each in (first, second, third)] == [True, True, False]
    same = first.sound(WINDOW)
    assert all(heard(each.sound(WINDOW)) == heard(same) for each in (second, third)), (
        "what is not kept is decoded again"
    )
    first.close()
    assert kept(scanned(room)), "room that was given back is there for the next"


def test_a_long_file_is_not_kept_and_holds_no_room():
    room = Room(15, each=5)
    assert not kept(scanned(room))
    assert room.take(15 * SAMPLE_RATE)


def test_files_side_by_side_share_one_room(random_engine, monkeypatch):
    """However many are open: never more than all may keep, and all of it is given back."""
    least = []
    rooms = []

    class Watched(Room):
        def __init__(self, *_):
            super().__init__(16)
            rooms.append(self)

        def take(self, samples):
            taken = super().take(samples)
            least.append(self._free)
            return taken

    monkeypatch.setattr("transcription_runner.transcribe.room_for", Watched)
    options = TranscribeOptions(language="en", beam_size=None, best_of=None, temperature=0.0, batch_size=4)
    files = [recordings.dashwood()] * 5 + [recordings.empty()]
    outcomes = list(transcribe_many(random_engine, files, options))
    texts = {outcome.result["text"] for outcome in outcomes if outcome.result}
    assert len(outcomes) == 6
    assert len(texts) == 1
    assert 0 <= min(least) < 16 * SAMPLE_RATE
    (room,) = rooms
    assert room.take(16 * SAMPLE_RATE), "nothing was left taken"


def test_what_is_read_is_what_was_kept():
    found = scanned(Room(0))
    whole = np.concatenate([block for _, block in AudioFile(recordings.dashwood()).blocks()])
    assert np.array_equal(found._read(1600, 32_000), whole[1600:32_000])


@pytest.mark.parametrize("seconds", [0, 1])
def test_a_room_is_never_overdrawn(seconds):
    room = Room(seconds)
    assert not room.take(seconds * SAMPLE_RATE + 1)
    assert room.take(seconds * SAMPLE_RATE)


class Ear:
    """Hears blocks of a second; raises `error` at the third."""

    def __init__(self, error=None):
        self.heard = []
        self.error = error

    def add(self, start, samples):
        if self.error is not None and len(self.heard) == 2:
            raise self.error
        self.heard.append((start, samples.tolist()))


def ahead():
    return [thread for thread in threading.enumerate() if thread.name.startswith("ahead-")]


@pytest.mark.parametrize("clips", [[(0.0, None)], [(1.0, 3.5), (4.0, None)]])
def test_a_long_stretch_is_read_ahead_and_heard_alike(clips, monkeypatch):
    monkeypatch.setattr("transcription_runner.audio.BLOCK", SAMPLE_RATE)
    found = []
    for long in (math.inf, 0.0):
        monkeypatch.setattr(recording, "_LONG", long)
        each, ear = Recording(AudioFile(recordings.dashwood()), MEL), Ear()
        each.scan(clips, [ear])
        found.append((ear.heard, each.samples, heard(each.sound(WINDOW))))
        each.close()
    assert found[0] == found[1]
    assert len(found[0][0]) >= 6
    assert not ahead()


def test_nobody_reads_on_when_a_scan_is_given_up(monkeypatch):
    """Whoever hears of the error closes the file: nobody may be at it then."""
    monkeypatch.setattr("transcription_runner.audio.BLOCK", SAMPLE_RATE)
    monkeypatch.setattr(recording, "_LONG", 0.0)
    found = Recording(AudioFile(recordings.dashwood()), MEL)
    with pytest.raises(Stopped) as caught:
        found.scan([(0.0, None)], [Ear(Stopped())])
    assert caught.value is not None
    assert not ahead()
    found.close()


@pytest.mark.parametrize(
    ("device", "batch_size", "megabytes"), [("cpu", 16, 116), ("cuda", 128, 922), ("cuda", 1024, 1967)]
)
def test_a_gpu_has_more_room_and_a_batch_always_fits(device, batch_size, megabytes):
    room = recording.room_for(device, batch_size)
    assert room.take(megabytes * 500_000 - 500_000)
    assert not room.take(1_000_000)

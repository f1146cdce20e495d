"""What docs/differences.md says of openai-whisper, asked of openai-whisper itself, and of ours.

Where its way through a file is meant, and not its model, the windows' results are scripted: the loop around them is
its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import wave
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch

from tests.differential.hearing import clips_alone, samples
from tests.materials import recordings, weights
from tests.unit.runner import scripted
from tests.unit.runner.test_sequential import drive, forever
from transcription_runner import errors
from transcription_runner.arguments import transcription_parser
from transcription_runner.audio import AudioFile
from transcription_runner.mel import LogMel
from transcription_runner.options import TranscribeOptions
from transcription_runner.recording import Recording
from transcription_runner.sequential import Sequential
from transcription_runner.transcribe import plain, transcribe
from transcription_runner.windows import Cut

whisper = pytest.importorskip("whisper")

GREEDY = {"beam_size": None, "best_of": None, "temperature": 0.0}
BEGIN, WORD = 50363, 1000  # tiny.en's first timestamp, and any word
SPOKEN = (BEGIN, WORD, BEGIN + 1500)


class EnoughError(Exception):
    """So many windows were asked for that there is no end in sight."""


class Heard:
    """openai-whisper's own loop over scripted windows: the audio and the prompt that it asks each with."""

    def __init__(self, model, seconds: float, tokens=SPOKEN, *, most: int = 60, **options) -> None:
        self.mels: list[torch.Tensor] = []
        self.prompts: list[list[int]] = []
        self.audio = np.random.default_rng(0).normal(0, 0.1, round(seconds * 16_000)).astype(np.float32)
        self.mel = whisper.log_mel_spectrogram(self.audio, padding=480_000)

        def decode(mel, asked):
            if len(self.mels) == most:
                raise EnoughError
            self.mels.append(mel)
            self.prompts.append(list(asked.prompt or []))
            return whisper.DecodingResult(
                mel, "en", tokens=list(tokens), text="a", avg_logprob=-0.1, no_speech_prob=0.0, compression_ratio=1.0
            )

        with mock.patch.object(model, "decode", decode):
            self.result = model.transcribe(
                self.audio, **{"language": "en", "temperature": 0.0, "fp16": False, **options}
            )

    def spans(self) -> list[tuple[int, int]]:
        """The frames of the file that each window began with, and their number."""
        found = []
        for mel in self.mels:
            length = int(mel.abs().sum(0).count_nonzero())
            starts = [s for s in range(self.mel.shape[1] - length + 1) if torch.equal(self.mel[:, s], mel[:, 0])]
            found.append((starts[0], length))
        return found


def asked_here(frames: int, tokens=SPOKEN, **options) -> list[Cut]:
    """The windows that ours asks for, with the same results."""
    codec = mock.Mock(eot=50256, timestamp_begin=BEGIN, decode=scripted.Codec().decode)
    machine = Sequential(TranscribeOptions(**GREEDY, **options), codec, frames=frames, language="en")
    return [request.cut for request in drive(machine, forever(scripted.result(tokens)))]


def test_sampling_says_something_else_at_each_run(openai_tiny_en, random_engine):
    mel = whisper.log_mel_spectrogram(whisper.pad_or_trim(samples(recordings.dashwood())))
    asked = whisper.DecodingOptions(language="en", temperature=1.0, sample_len=20, fp16=False)
    texts = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        texts.append(openai_tiny_en.decode(mel, asked).tokens)
    assert texts[0] != texts[1]
    options = TranscribeOptions(temperature=1.0, best_of=None)
    first, second = (transcribe(random_engine, recordings.dashwood(), options) for _ in range(2))
    assert first == second
    assert first["segments"]


def test_a_clip_beyond_the_end_never_ends(openai_tiny_en):
    with pytest.raises(EnoughError):
        Heard(openai_tiny_en, 5, clip_timestamps="2,8")
    assert asked_here(500, clip_timestamps="2,8") == [Cut(((200, 500),))]
    assert asked_here(500, clip_timestamps="7,8") == []


def test_clips_are_taken_as_they_come(openai_tiny_en):
    assert Heard(openai_tiny_en, 9, clip_timestamps="5,8,2,4").spans() == [(500, 300), (200, 200)]
    assert Heard(openai_tiny_en, 9, clip_timestamps="0,4,2,6").spans() == [(0, 400), (200, 400)]
    assert Heard(openai_tiny_en, 9, clip_timestamps="3,3").spans() == []
    with pytest.raises(ValueError, match="could not convert"):
        Heard(openai_tiny_en, 9, clip_timestamps="a,b")
    for clips in ("5,8,2,4", "0,4,2,6", "3,3", "a,b"):
        with pytest.raises(errors.Usage):
            TranscribeOptions(clip_timestamps=clips)


def test_the_floor_is_the_whole_files(openai_tiny_en):
    # The first 10 s are loud, what is after them is not.
    heard = samples(recordings.english())
    heard[10 * 16_000 :] *= 0.01
    heard = np.round(heard * 32768) / np.float32(32768)
    clip = (1200, 1500)
    theirs = whisper.log_mel_spectrogram(heard, padding=480_000)[:, slice(*clip)]
    alone = whisper.log_mel_spectrogram(clips_alone(heard, "12,15"), padding=480_000)[:, slice(*clip)]
    assert (theirs - alone).abs().max() > 0.1
    with mock.patch.object(AudioFile, "blocks", lambda _, start=0.0, end=None: _blocks(heard, start, end)):
        recording = Recording(AudioFile(recordings.english()), LogMel(80))
        recording.scan(((12.0, 15.0),))
        ours = LogMel(80).windows([recording.sound(Cut((clip,)))])[0, :, :300]
    assert (ours - alone).abs().max() < 1e-3


def _blocks(heard, start, end):
    first = round(start * 16_000)
    yield first, np.round(heard[first : None if end is None else round(end * 16_000)] * 32768).astype(np.int16)


def test_a_language_is_heard_in_the_first_half_minute_whatever_the_clips(reference_base):
    seen = []

    def detect(mel):
        seen.append(mel)
        return None, {"en": 1.0}

    with mock.patch.object(reference_base.model, "detect_language", detect):
        heard = Heard(reference_base.model, 40, clip_timestamps="31,33", language=None)
    assert torch.equal(seen[0], heard.mel[:, :3000])


@pytest.mark.parametrize("words", [223, 300])
def test_a_carried_prompt_that_is_too_long_slips_out(openai_tiny_en, words):
    prompt = " ".join(["hello"] * words)
    text = (BEGIN, *range(1000, 1080), BEGIN + 1500)
    heard = Heard(openai_tiny_en, 65, text, initial_prompt=prompt, carry_initial_prompt=True)
    taken = [asked[-223:] for asked in heard.prompts]  # what its decoder keeps
    assert taken[0] != taken[-1]
    assert taken[-1].count(taken[0][0]) < 223


def test_special_tokens_in_a_prompt_are_a_traceback(openai_tiny_en, tiny_en):
    with pytest.raises(ValueError, match="disallowed special token"):
        Heard(openai_tiny_en, 1, initial_prompt="<|en|>")
    tokens = tiny_en.tokenizer.encode(" <|en|>")
    assert tiny_en.tokenizer.decode(tokens) == " <|en|>"
    assert all(token < tiny_en.tokenizer.eot for token in tokens)


def test_a_window_that_leads_nowhere_is_asked_for_without_end(openai_tiny_en):
    nowhere = (BEGIN, BEGIN)
    with pytest.raises(EnoughError):
        Heard(openai_tiny_en, 5, nowhere)
    assert asked_here(500, nowhere) == [Cut(((0, 500),))]


def test_creeping_is_never_cut_short(openai_tiny_en):
    creeping = (BEGIN, WORD, BEGIN + 1, BEGIN + 1, WORD)
    heard = Heard(openai_tiny_en, 5, creeping, most=1000)
    assert len(heard.mels) == 250
    assert len(asked_here(500, creeping)) == 10


def test_digital_silence_has_words(openai_tiny_en, tiny_en, tmp_path):
    said = samples(recordings.dashwood())
    heard = np.concatenate([said, np.zeros(70 * 16_000, np.float32)])
    options = {**GREEDY, "condition_on_previous_text": False}
    theirs = openai_tiny_en.transcribe(heard, fp16=False, language="en", **options)
    assert [segment["text"] for segment in theirs["segments"] if segment["start"] >= 30]
    path = tmp_path / "a.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes((heard * 32768).astype(np.int16).tobytes())
    ours = transcribe(tiny_en, path, TranscribeOptions(**options))
    assert [segment["text"] for segment in ours["segments"]] == [theirs["segments"][0]["text"]]
    ours = transcribe(tiny_en, path, TranscribeOptions(**options, no_speech_threshold=None))
    theirs = openai_tiny_en.transcribe(heard, fp16=False, language="en", **options, no_speech_threshold=None)
    assert ours["text"] == theirs["text"]


def test_what_json_lacks_is_written(tmp_path):
    result = {"text": "", "segments": [{"no_speech_prob": float("nan")}], "language": "en"}
    whisper.utils.get_writer("json", str(tmp_path))(result, "a.wav")
    assert "NaN" in (tmp_path / "a.json").read_text()
    assert "NaN" not in json.dumps(plain(result))


def test_a_hallucination_threshold_without_words_has_no_effect(openai_tiny_en):
    with_it = Heard(openai_tiny_en, 40, hallucination_silence_threshold=0.1)
    assert with_it.result == Heard(openai_tiny_en, 40).result
    with pytest.raises(errors.Usage, match="needs word_timestamps"):
        TranscribeOptions(hallucination_silence_threshold=0.1)


def test_no_beams_are_a_traceback(openai_tiny_en):
    with pytest.raises(AssertionError, match="Invalid beam size"):
        openai_tiny_en.transcribe(np.zeros(1600, np.float32), beam_size=0, temperature=0.0, fp16=False)
    with pytest.raises(errors.Usage, match="beam_size must lie between"):
        TranscribeOptions(beam_size=0)


def test_half_precision_on_a_processor_is_a_warning(openai_tiny_en):
    with pytest.warns(UserWarning, match="FP16 is not supported on CPU"):
        Heard(openai_tiny_en, 1, fp16=True)


def test_turbo_is_another_model():
    assert whisper._MODELS["turbo"] == whisper._MODELS["large-v3-turbo"]


def command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """openai-whisper's command."""
    main = "from whisper.transcribe import cli; cli()"
    return subprocess.run([sys.executable, "-W", "ignore", "-c", main, *arguments], capture_output=True, text=True)


def test_a_file_that_fails_is_a_success(tmp_path):
    ran = command(recordings.not_audio(), "--model", weights.checkpoint("tiny.en"), "--output_dir", tmp_path)
    assert ran.returncode == 0
    assert "Traceback" in ran.stderr
    assert "Skipping" in ran.stdout
    assert list(tmp_path.iterdir()) == []


def test_abbreviated_options_are_taken():
    ran = command("a.wav", "--lang", "nothing")
    assert "argument --language: invalid choice: 'nothing'" in ran.stderr
    with pytest.raises(errors.Usage):
        transcription_parser({}).parse_args(["a.wav", "--lang", "en"])


def test_two_files_of_one_name_overwrite_each_other(tmp_path):
    writer = whisper.utils.get_writer("txt", str(tmp_path))
    for name in ("a.mp3", "a.wav"):
        writer({"text": name, "segments": [{"text": name}], "language": "en"}, name)
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]

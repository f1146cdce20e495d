from __future__ import annotations

import pytest

from transcription_runner import errors, languages
from transcription_runner.options import TranscribeOptions, VadOptions


def test_the_command_s_defaults():
    options = TranscribeOptions()
    assert (options.beam_size, options.best_of, options.suppress_tokens) == (5, 5, "-1")
    assert options.temperature == (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    assert (options.compression_ratio_threshold, options.logprob_threshold, options.no_speech_threshold) == (
        2.4,
        -1.0,
        0.6,
    )
    assert options.clips == ((0.0, None),)
    assert options.condition_on_previous_text
    assert not options.carry_initial_prompt


def test_languages_are_openai_whispers():
    whisper = pytest.importorskip("whisper.tokenizer")
    assert list(languages.LANGUAGES.items()) == list(whisper.LANGUAGES.items())
    assert all(languages.to_code(name) == code for name, code in whisper.TO_LANGUAGE_CODE.items())


@pytest.mark.parametrize(
    ("given", "code"), [("auto", None), (None, None), ("EN", "en"), ("French", "fr"), ("castilian", "es")]
)
def test_a_language_by_code_or_name(given, code):
    assert TranscribeOptions(language=given).language == code


@pytest.mark.parametrize(
    ("clips", "pairs"),
    [
        ("0", ((0.0, None),)),
        ("", ((0.0, None),)),
        ("1.5,3,4", ((1.5, 3.0), (4.0, None))),
        ([1, 2], ((1.0, 2.0),)),
    ],
)
def test_clips(clips, pairs):
    assert TranscribeOptions(clip_timestamps=clips).clips == pairs


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"language": "frensh"}, "did you mean french"),
        ({"language": "en-GB"}, "did you mean en"),
        ({"language": "xyzzy"}, "unknown language 'xyzzy'"),
        ({"language": "de", "languages": ("en", "fr")}, "not among"),
        ({"task": "sing"}, "task must be"),
        ({"mode": "fast"}, "mode must be"),
        ({"temperature": -1.0}, "temperature"),
        ({"temperature": ()}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"beam_size": 0}, "beam_size"),
        ({"best_of": 0}, "best_of"),
        ({"beam_size": None, "patience": 1.0}, "patience needs beam_size"),
        ({"patience": 0.0}, "patience"),
        ({"length_penalty": 1.5}, "length_penalty"),
        ({"suppress_tokens": "1,x"}, "suppress_tokens"),
        ({"suppress_tokens": "-2"}, "suppress_tokens"),
        ({"clip_timestamps": "a,b"}, "clip_timestamps"),
        ({"clip_timestamps": "5,3"}, "ends at 3.0 s and begins at 5.0"),
        ({"clip_timestamps": "5,9,8,12"}, "clip 2 begins at 8.0 s"),
        ({"clip_timestamps": "-1"}, "from 0 on"),
        ({"clip_timestamps": "nan"}, "from 0 on"),
        ({"hallucination_silence_threshold": 2.0}, "needs word_timestamps"),
        ({"compression_ratio_threshold": float("inf")}, "compression_ratio_threshold"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_what_means_nothing_is_refused(options, message):
    with pytest.raises(errors.Usage, match=message):
        TranscribeOptions(**options)


@pytest.mark.parametrize("options", [{"threshold": 1.5}, {"threshold": 0}, {"speech_pad_ms": -1}])
def test_vad_options_are_checked(options):
    with pytest.raises(errors.Usage, match="vad_"):
        VadOptions(**options)

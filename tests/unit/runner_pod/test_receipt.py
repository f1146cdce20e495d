from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from transcription_runner import receipt
from transcription_runner.errors import BadAudio


def test_a_digest_does_not_see_how_numbers_and_keys_are_written():
    assert receipt.digest({"a": 1.0, "b": [True, None, "é"]}) == receipt.digest({"b": [True, None, "é"], "a": 1})


def test_a_digest_sees_every_value():
    values = [{"a": 1}, {"a": 2}, {"a": True}, {"a": "1"}, {"a": [1]}, {"a": None}, {"b": 1}]
    assert len({receipt.digest(value) for value in values}) == len(values)


def test_the_digest_that_the_contract_describes():
    # sha256 of {"end":1.5,"ok":true,"start":0.0,"text":"é"}
    import hashlib

    text = '{"end":1.5,"ok":true,"start":0.0,"text":"é"}'
    value = {"text": "é", "start": 0, "end": 1.5, "ok": True}
    assert receipt.digest(value) == hashlib.sha256(text.encode()).hexdigest()


@given(st.text(max_size=3000), st.text(max_size=3000), st.integers(1, 40))
def test_a_receipt_always_fits(text, path, times):
    value = {
        "version": 1,
        "result": {"path": path * times, "sha256": "0" * 64},
        "text": text * times,
        "language": "en",
    }
    data = receipt.encode(value)
    assert len(data) <= receipt.LIMIT
    found = json.loads(data)
    assert found["language"] == "en"
    assert found["result"]["sha256"] == "0" * 64


def test_texts_are_cut_between_characters():
    found = json.loads(receipt.encode({"text": "中" * 5000}))
    assert set(found["text"].rstrip("…")) == {"中"}


def test_a_failure_names_class_code_and_hint_but_no_secret():
    error = BadAudio("https://u:s3cret@host/a.mp3?X-Signature=s3cret is no audio", hint="look at it")
    found = receipt.failure(error)["error"]
    assert found == {
        "class": "BadAudio",
        "reason": "BadAudio",
        "code": 65,
        "message": "https://…@host/a.mp3?… is no audio",
        "hint": "look at it",
    }


def test_a_log_that_cannot_be_written_changes_nothing(tmp_path):
    receipt.write({"version": 1}, {"TRANSCRIPTION_TERMINATION_LOG": str(tmp_path / "no" / "such")})
    receipt.write({"version": 1}, {})

"""The output's keys beside the source's."""

from __future__ import annotations

import os

import pytest

from transcription_runner import credentials, outputs
from transcription_runner.errors import PermissionDenied


@pytest.fixture(autouse=True)
def source_keys(monkeypatch):
    for name in [n for n in os.environ if n.startswith(("AWS_", credentials.PREFIX))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "source")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of-the-source")


def test_without_keys_of_its_own_the_output_has_the_sources():
    with credentials.of_output():
        assert os.environ["AWS_ACCESS_KEY_ID"] == "source"


def test_keys_of_its_own_take_the_place_of_the_sources_and_give_it_back(monkeypatch):
    monkeypatch.setenv("TRANSCRIPTION_OUTPUT_AWS_ACCESS_KEY_ID", "output")
    monkeypatch.setenv("TRANSCRIPTION_OUTPUT_AWS_DEFAULT_REGION", "eu-north-1")
    before = dict(os.environ)
    with credentials.of_output():
        assert os.environ["AWS_ACCESS_KEY_ID"] == "output"
        assert os.environ["AWS_DEFAULT_REGION"] == "eu-north-1"
        assert "AWS_SESSION_TOKEN" not in os.environ
    assert dict(os.environ) == before


def test_a_real_store_takes_the_outputs_keys(s3, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.url)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(PermissionDenied):
        outputs.deliver(f"s3://{s3.bucket}/out", {"a.txt": b"words"})
    for name, value in s3.environment.items():
        monkeypatch.setenv(credentials.PREFIX + name, value)
    outputs.deliver(f"s3://{s3.bucket}/out", {"a.txt": b"words"})
    assert s3.read("out/a.txt") == b"words"

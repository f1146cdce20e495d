"""Pytest's fixtures for all of this: `from tests.materials.fixtures import *` in a conftest, or as a plugin."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.materials import hub, recordings, servers, tiny_random, weights
from tests.materials.hub import Hub
from tests.materials.hub_repository import Repository
from tests.materials.recordings import Recording
from tests.materials.servers import S3, Https


@pytest.fixture(scope="session")
def whisper_base() -> Path:
    """The repository of openai/whisper-base."""
    return weights.whisper_base()


@pytest.fixture(scope="session")
def whisper_tiny_en() -> Path:
    """The repository of openai/whisper-tiny.en."""
    return weights.whisper_tiny_en()


@pytest.fixture(scope="session")
def tiny_random_whisper() -> Path:
    """The repository of a small random model with the real tokenizer."""
    return tiny_random.tiny_random()


@pytest.fixture(scope="session")
def _hub() -> Iterator[Hub]:
    small = Repository("random/whisper", {"main": tiny_random.tiny_random()})
    with hub.serve([*hub.whisper(), small]) as running:
        yield running


@pytest.fixture
def hub_server(_hub: Hub) -> Iterator[Hub]:
    """A Hub with base, tiny.en and `random/whisper`; without faults and with an empty record for every test."""
    _hub.behaviour.clear()
    _hub.behaviour.forget()
    yield _hub
    _hub.behaviour.clear()


@pytest.fixture(scope="session")
def s3() -> Iterator[S3]:
    """An S3 server with `recordings/dashwood.wav` and `recordings/folder/english.mp3`."""
    files = {"dashwood.wav": recordings.dashwood(), "folder/english.mp3": recordings.english()}
    with servers.s3_server(files=files) as running:
        yield running


@pytest.fixture(scope="session")
def _https(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Https]:
    folder = tmp_path_factory.mktemp("https")
    for recording in (recordings.dashwood(), recordings.english(), recordings.not_audio()):
        shutil.copyfile(recording, folder / recording.name)
    with servers.https_server(folder, names=("localhost", "www.test")) as running:
        yield running


@pytest.fixture
def https(_https: Https) -> Iterator[Https]:
    """An HTTPS server with dashwood.wav, english.mp3 and not_audio.bin; without faults for every test."""
    _https.behaviour.clear()
    _https.behaviour.forget()
    yield _https
    _https.behaviour.clear()


@pytest.fixture(scope="session")
def dashwood() -> Path:
    """One English sentence, wav."""
    return recordings.dashwood()


@pytest.fixture(scope="session")
def english() -> Path:
    """Ten English sentences, mp3."""
    return recordings.english()


@pytest.fixture(scope="session")
def french() -> Path:
    """Ten French sentences, flac."""
    return recordings.french()


@pytest.fixture(scope="session")
def spanish() -> Path:
    """Ten Spanish sentences, Opus."""
    return recordings.spanish()


@pytest.fixture(scope="session")
def english_20min() -> Recording:
    """Twenty minutes of English, mp3."""
    return recordings.english_20min()


@pytest.fixture(scope="session")
def silence() -> Path:
    """Half a minute of nothing."""
    return recordings.silence()


@pytest.fixture(scope="session")
def noise() -> Path:
    """Half a minute of white noise."""
    return recordings.noise()


@pytest.fixture(scope="session")
def not_audio() -> Path:
    """Bytes that are no recording."""
    return recordings.not_audio()

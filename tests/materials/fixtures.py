"""Pytest's fixtures for all of this: `from tests.materials.fixtures import *` in a conftest, or as a plugin."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.materials import hub, ready, servers, tiny_random, weights
from tests.materials.hub import Hub
from tests.materials.hub_repository import Repository
from tests.materials.ready import Recording
from tests.materials.servers import S3, Files


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
    from tests.cluster import tools

    if tools.built() is None and not os.environ.get("CI"):
        pytest.skip("versitygw is not built yet: `make cluster-up` builds it")
    files = {"dashwood.wav": ready.dashwood().path, "folder/english.mp3": ready.english().path}
    with servers.s3_server(tools.binary("versitygw"), files) as running:
        yield running


@pytest.fixture(scope="session")
def _https(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Files]:
    folder = tmp_path_factory.mktemp("https")
    for recording in (ready.dashwood(), ready.english(), ready.not_audio()):
        (folder / recording.path.name).symlink_to(recording.path)
    with servers.https_server(folder, names=("localhost", "www.test")) as running:
        yield running


@pytest.fixture
def https(_https: Files) -> Iterator[Files]:
    """An HTTPS server with dashwood.wav, english.mp3 and not_audio.bin; without faults for every test."""
    _https.behaviour.clear()
    _https.behaviour.forget()
    yield _https
    _https.behaviour.clear()


@pytest.fixture(scope="session")
def dashwood() -> Recording:
    """One English sentence, wav."""
    return ready.dashwood()


@pytest.fixture(scope="session")
def english() -> Recording:
    """Ten English sentences, mp3."""
    return ready.english()


@pytest.fixture(scope="session")
def french() -> Recording:
    """Ten French sentences, flac."""
    return ready.french()


@pytest.fixture(scope="session")
def spanish() -> Recording:
    """Ten Spanish sentences, Opus."""
    return ready.spanish()


@pytest.fixture(scope="session")
def english_20min() -> Recording:
    """Twenty minutes of English, mp3."""
    return ready.english_20min()


@pytest.fixture(scope="session")
def silence() -> Recording:
    """Half a minute of nothing."""
    return ready.silence()


@pytest.fixture(scope="session")
def noise() -> Recording:
    """Half a minute of white noise."""
    return ready.noise()


@pytest.fixture(scope="session")
def not_audio() -> Recording:
    """Bytes that are no recording."""
    return ready.not_audio()

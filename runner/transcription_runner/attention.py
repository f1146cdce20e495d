"""The attention of one new token a row: torch's own, or, on a GPU, a kernel that reads each key and value once.

The kernel (decode_attention.cu) is compiled for the card at hand by NVRTC, which comes with torch: no compiler is
needed. What it needs is in the docstring of `Kernels.load`; without it torch's attention does the same.
"""

from __future__ import annotations

import ctypes
import logging
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional

_log = logging.getLogger(__name__)

_SOURCE: Final = Path(__file__).with_name("decode_attention.cu")
_THREADS: Final = 128
_WIDTH: Final = 64
"""The size of a head, in every Whisper model."""
_NUMBERS: Final = 8
"""Numbers that a lane reads at once."""
_TYPES: Final = {torch.float16: "half_type", torch.bfloat16: "bfloat_type"}


def attend(q: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None) -> Tensor:
    """torch's attention. q: (n, heads, m, width); keys, values: (n, heads, length, width)."""
    if q.device.type == "cpu" and q.dtype == torch.bfloat16:
        # torch's own takes five times as long there for a query or few, as its products are not oneDNN's.
        scores = (q * q.shape[-1] ** -0.5) @ keys.transpose(-1, -2)
        if mask is not None:
            scores = scores.masked_fill(~mask, float("-inf"))
        mixed: Tensor = scores.softmax(-1) @ values
    else:
        mixed = functional.scaled_dot_product_attention(q, keys, values, attn_mask=mask)
    return mixed


class Kernels:
    """The kernel for one card and one precision."""

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        """Use `load`."""
        from cuda.bindings import driver

        major, minor = torch.cuda.get_device_capability(device)
        image = compile_source(f"sm_{major}{minor}", _TYPES[dtype])
        torch.cuda.current_stream(device).synchronize()  # the driver's context is there
        with torch.cuda.device(device):
            module = _checked(driver.cuModuleLoadData(image))
        self._function = _checked(driver.cuModuleGetFunction(module, b"attend_rows"))

    @classmethod
    def load(cls, dtype: torch.dtype, device: torch.device, *, width: int) -> Kernels | None:
        """For a card; None where the kernel does not fit (another precision or head) or cannot be compiled."""
        if device.type != "cuda" or dtype not in _TYPES or width != _WIDTH:
            return None
        try:
            return cls(dtype, device)
        except (ImportError, OSError, RuntimeError, AttributeError) as error:
            _log.warning("the attention kernel cannot be used, torch's own is: %s", error)
            return None

    def attend(
        self, new: Tensor, keys: Tensor, values: Tensor, *, places: Tensor, open_: Tensor, table: Tensor | None
    ) -> Tensor:
        """Each row over its own entries before `places` and its new one, which is kept there.

        new: (rows, 3, heads, 64): query, key, value. keys, values: (all rows, heads, length, 64). places: (rows,).
        open_: (windows,), whether a window is being decoded; the rows of others stay as they are. table: (all rows,
        length), int32, the row that each token's entries lie in; None for its own. Returns (rows, heads, 64).
        """
        return self._run(new[:, 0], keys, values, open_, new=new, places=places, table=table)

    def listen(self, q: Tensor, keys: Tensor, values: Tensor, *, open_: Tensor) -> Tensor:
        """Each row over all entries of its window. q: (windows, heads, 64); keys, values: (n, heads, 1500, 64)."""
        return self._run(q, keys, values, open_)

    def _run(
        self,
        q: Tensor,
        keys: Tensor,
        values: Tensor,
        open_: Tensor,
        *,
        new: Tensor | None = None,
        places: Tensor | None = None,
        table: Tensor | None = None,
    ) -> Tensor:
        from cuda.bindings import driver

        rows, heads, width = q.shape
        out = torch.empty((rows, heads, width), dtype=q.dtype, device=q.device)

        def address(tensor: Tensor | None) -> int:
            return 0 if tensor is None else tensor.data_ptr()

        values_ = (
            *(address(each) for each in (q, *((new[:, 1], new[:, 2]) if new is not None else (None, None)))),
            *(address(each) for each in (keys, values, out, places, open_, table)),
            *(keys.shape[2], 0 if table is None else table.stride(0), rows // len(open_)),
            *(q.stride(0) // _NUMBERS, keys.stride(0), keys.stride(1)),
        )
        kinds = (ctypes.c_void_p,) * 9 + (ctypes.c_int,) * 3 + (ctypes.c_longlong,) * 3
        launched = driver.cuLaunchKernel(
            self._function,
            *(heads, rows, 1),
            *(_THREADS, 1, 1),
            0,
            torch.cuda.current_stream(q.device).cuda_stream,
            (values_, kinds),
            0,
        )
        _checked(launched)
        return out


def compile_source(architecture: str, kind: str) -> bytes:
    """The kernel as machine code for an architecture (`sm_90`). Raises RuntimeError with the compiler's words."""
    from cuda.bindings import nvrtc

    program = _checked(nvrtc.nvrtcCreateProgram(_SOURCE.read_bytes(), _SOURCE.name.encode(), 0, [], []))
    options = [f"--gpu-architecture={architecture}", "--std=c++17", "--use_fast_math", f"--define-macro=KIND={kind}"]
    (result,) = nvrtc.nvrtcCompileProgram(program, len(options), [option.encode() for option in options])
    if result != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        said = b" " * _checked(nvrtc.nvrtcGetProgramLogSize(program))
        _checked(nvrtc.nvrtcGetProgramLog(program, said))
        raise RuntimeError(said.decode(errors="replace").strip("\0 \n"))
    image: bytes = b" " * _checked(nvrtc.nvrtcGetCUBINSize(program))
    _checked(nvrtc.nvrtcGetCUBIN(program, image))
    _checked(nvrtc.nvrtcDestroyProgram(program))
    return image


def _checked(answer: tuple[Any, ...]) -> Any:
    """What a call of the driver returned. Raises RuntimeError."""
    status, *rest = answer
    if int(status) != 0:
        raise RuntimeError(f"{type(status).__name__}: {status.name}")
    return rest[0] if rest else None

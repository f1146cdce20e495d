"""The GPU's attention kernel as far as a machine without a GPU shows it: NVRTC takes it for every card that counts.

What it computes was compared with torch's attention on an H100 (bench/RESULTS.md).
"""

from __future__ import annotations

import pytest
import torch

from transcription_runner.attention import Kernels, compile_source


@pytest.mark.parametrize("kind", ["half_type", "bfloat_type"])
@pytest.mark.parametrize("architecture", ["sm_80", "sm_90", "sm_100"])
def test_the_kernel_compiles(architecture, kind):
    image = compile_source(architecture, kind)
    assert image.startswith(b"\x7fELF"), "machine code, and not an intermediate form"
    assert b"attend_rows" in image


def test_what_the_compiler_says_is_told():
    with pytest.raises(RuntimeError, match="no_such_type"):
        compile_source("sm_90", "no_such_type")


def test_elsewhere_it_is_torch_s_attention():
    assert Kernels.load(torch.float16, torch.device("cpu"), width=64) is None

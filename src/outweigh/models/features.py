"""The backbone's features of every distinct text, computed once and kept on disk."""

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoModel
from transformers.utils.hub import cached_file

from outweigh.data.cache import appearing_whole, cache_folder
from outweigh.data.config import TokenConfig
from outweigh.data.pairs import PairSet
from outweigh.data.records import Text
from outweigh.data.rendering import Renderer
from outweigh.data.tokens import encode, truncate
from outweigh.errors import DataError, ModelError
from outweigh.models.batches import Forward, forwards, token_budget
from outweigh.models.config import DEPTH
from outweigh.models.loading import check_positions, explained, load_tokenizer, quiet, resolve
from outweigh.models.packing import backbone_packs
from outweigh.models.precision import autocast_dtype, default_device
from outweigh.progress import progress

CHUNK = 4096  # texts encoded and sorted by length at once
IDENTIFYING = ("*.safetensors", "*.json", "*.jinja", "*.py")
LAYOUT = 6  # raised when the cached files' content changes


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """What turns a text into a vector."""

    backbone: str
    tokens: TokenConfig
    depth: float = DEPTH  # share of the layers that is kept
    pooling: Literal["mean", "first"] = "mean"  # over all tokens, or the first one, an encoder's [CLS]
    precision: str = "auto"
    trust_remote_code: bool = False

    def identity(self) -> str:
        """Changes with whatever may change a vector."""
        settings = asdict(self) | {"backbone": checkpoint_identity(self.backbone)}
        return repr((LAYOUT, sorted(settings.items())))


class Features(NamedTuple):
    """Features of N distinct texts, memory-mapped, and which of them each pair holds against each other."""

    matrix_NH: np.ndarray  # float32
    chosen_B: np.ndarray  # rows of the matrix
    rejected_B: np.ndarray

    def swapped(self, marked_B: np.ndarray) -> "Features":
        """The same, chosen and rejected changed where marked."""
        chosen_B = np.where(marked_B, self.rejected_B, self.chosen_B)
        return Features(self.matrix_NH, chosen_B, np.where(marked_B, self.chosen_B, self.rejected_B))


def pair_features(pairs: PairSet, encoder: Encoder, *, cache_dir: Path | None = None) -> Features:
    """Features of the pairs' texts (prompt and response together), from the cache where they are known there.

    A text that several pairs share is computed once; labels and order don't matter to what is known.
    """
    prompt, chosen, rejected = pairs.text_keys()
    both = np.concatenate([np.stack([prompt, chosen], 1), np.stack([prompt, rejected], 1)])
    distinct, first, inverse = np.unique(both, axis=0, return_index=True, return_inverse=True)
    texts = (_text(pairs, int(place)) for place in first)
    key = hashlib.sha256(distinct.tobytes()).hexdigest()
    matrix_NH = text_vectors(texts, len(first), encoder, key=key, cache_dir=cache_dir)
    return Features(matrix_NH, inverse[: len(pairs)], inverse[len(pairs) :])


def given_features(pairs: PairSet) -> Features | None:
    """Features that the data brings, of texts or of what its texts only name; None where it brings none.

    Raises:
        DataError: of one side alone, of rows of K responses, or not as many numbers in every list.
    """
    chosen_BH, rejected_BH = pairs.vectors("features_chosen"), pairs.vectors("features_rejected")
    if chosen_BH is None and rejected_BH is None:
        return None
    if chosen_BH is None or rejected_BH is None:
        raise DataError("features: got those of one side alone. Add features_rejected and features_chosen.")
    if "row_pairs" in pairs.columns:
        raise DataError(
            "features_chosen: stands on rows of K responses, of which none is its own. Write a row a pair."
        )
    if chosen_BH.shape != rejected_BH.shape:
        raise DataError(
            f"features: got {chosen_BH.shape[1]} numbers for chosen, {rejected_BH.shape[1]} for rejected, "
            "want as many for both. Correct the rows."
        )
    places = np.arange(len(pairs))
    return Features(np.concatenate([chosen_BH, rejected_BH]), places, places + len(pairs))


def text_vectors(
    texts: Iterable[tuple[Text, Text]],
    count: int,
    encoder: Encoder,
    *,
    key: str,
    cache_dir: Path | None = None,
) -> np.ndarray:
    """A vector of each (prompt, response), float32 (N, H), from the cache where `key` is known there.

    `key` stands for the texts; with the encoder it names the folder in the cache.
    """
    name = hashlib.sha256(f"{key} {encoder.identity()}".encode()).hexdigest()[:24]
    folder = (cache_dir or cache_folder()) / f"features-{name}"
    if not folder.exists():
        _compute(texts, count, encoder, folder)
    found: np.ndarray = np.load(folder / "features.npy", mmap_mode="r")
    return found


def checkpoint_identity(name: str) -> str:
    """A hash that changes with a checkpoint's weights, tokenizer, template, code; on the Hub, its commit."""
    folder = Path(resolve(name))
    if not folder.is_dir():
        with explained(name):
            return str(Path(str(cached_file(name, "config.json"))).parent.name)
    digest = hashlib.sha256()
    for path in sorted(path for kind in IDENTIFYING for path in folder.glob(kind)):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


@torch.inference_mode()
def _compute(texts: Iterable[tuple[Text, Text]], count: int, encoder: Encoder, folder: Path) -> None:
    device = default_device()
    trusted = encoder.trust_remote_code
    # Weights, too: under autocast each pass would cast them, and layers hand on float32
    dtype = autocast_dtype(device, encoder.precision) or torch.float32
    tokenizer = load_tokenizer(encoder.backbone, trust_remote_code=trusted)
    with explained(encoder.backbone), quiet():
        model = AutoModel.from_pretrained(
            resolve(encoder.backbone), dtype=dtype, use_safetensors=True, trust_remote_code=trusted
        )
    check_positions(model, encoder.tokens.max_tokens)
    cut_layers(model, encoder.depth)
    model = model.to(device).eval()
    # A pad token that we added has no embedding here; which one stands in its place is masked
    known = tokenizer.pad_token_id < model.get_input_embeddings().num_embeddings
    pad_token = tokenizer.pad_token_id if known else 0
    renderer = Renderer(tokenizer, encoder.tokens.template)
    pooled = {"mean": mean_over_tokens, "first": first_token}[encoder.pooling]
    packs = backbone_packs(model, encoder.tokens.max_tokens, dtype)
    how: dict[str, Any] = {"pad_token": pad_token, "device": device, "packs": packs}
    how["max_tokens"] = 2 * token_budget(device)
    with appearing_whole(folder) as unfinished, progress("features", count) as advance:
        matrix = np.lib.format.open_memmap(
            unfinished / "features.npy", mode="w+", dtype=np.float32, shape=(count, model.config.hidden_size)
        )
        left, start = iter(texts), 0
        while chunk := list(islice(left, CHUNK)):
            ids = [truncate(text, encoder.tokens.max_tokens).ids for text in encode(chunk, renderer)]
            for forward in forwards(ids, **how):
                hidden_RLH = model(**forward.inputs).last_hidden_state
                matrix[start + forward.places] = pooled(hidden_RLH.float(), forward).cpu().numpy()
                advance(len(forward.places))
            start += len(chunk)
        matrix.flush()


def _text(pairs: PairSet, place: int) -> tuple[Text, Text]:
    """Prompt and response at a place among all chosen, then all rejected texts."""
    pair = pairs[place % len(pairs)]
    return pair.prompt, pair.chosen if place < len(pairs) else pair.rejected


def cut_layers(model: Any, depth: float = DEPTH) -> None:
    """Nothing; the model keeps the first `depth` of its layers (at least one), and its final norm.

    Raises:
        ModelError: the architecture keeps its layers elsewhere.
    """
    if depth == 1:
        return
    for owner in model.modules():
        for name in ("layers", "layer", "h"):
            layers = getattr(owner, name, None)
            if isinstance(layers, nn.ModuleList) and len(layers) == model.config.num_hidden_layers:
                setattr(owner, name, layers[: max(1, round(depth * len(layers)))])
                return
    raise ModelError(f"{type(model).__name__}: its layers are not found. Choose another backbone for probes.")


def mean_over_tokens(hidden_RLH: Tensor, forward: Forward) -> Tensor:
    """The mean over each text's tokens, (S, H); those that several texts of a pack share count in each."""
    places = zip(forward.rows.tolist(), forward.columns, strict=True)
    means = [hidden_RLH[row, torch.from_numpy(columns)].mean(0) for row, columns in places]
    return torch.stack(means)


def first_token(hidden_RLH: Tensor, forward: Forward) -> Tensor:
    """The vector of each text's first token, (S, H): [CLS] of an encoder that has one."""
    return hidden_RLH[forward.rows.tolist(), [int(columns[0]) for columns in forward.columns]]

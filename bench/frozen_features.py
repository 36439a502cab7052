"""A frozen encoder's features of every distinct text at each of its layers, for the benchmarks."""

from pathlib import Path

import numpy as np
import torch
from transformers import AutoModel

from outweigh.data.pairs import PairSet
from outweigh.data.rendering import Renderer
from outweigh.data.tokens import encode, truncate
from outweigh.models.batches import length_batches, pad
from outweigh.models.loading import load_tokenizer, quiet, resolve

BATCH_TOKENS = 4096


def text_rows(pairs: PairSet) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Places of the distinct texts among all chosen, then all rejected ones; rows of chosen and rejected."""
    prompt, chosen, rejected = pairs.text_ids()
    both = np.concatenate([np.stack([prompt, chosen], 1), np.stack([prompt, rejected], 1)])
    _, first, inverse = np.unique(both, axis=0, return_index=True, return_inverse=True)
    return first, inverse[: len(pairs)], inverse[len(pairs) :]


@torch.inference_mode()
def layer_features(pairs: PairSet, name: str, cache: Path, max_tokens: int = 256) -> np.ndarray:
    """(N, 2 * layers + 1, H), float16: each layer's mean over all tokens, over the response's, and [CLS]."""
    path = cache / f"{name}-{pairs.sha256[:12]}-{max_tokens}.npy"
    if path.exists():
        return np.asarray(np.load(path, mmap_mode="r"))
    tokenizer = load_tokenizer("minilm")
    with quiet():
        model = AutoModel.from_pretrained(resolve("minilm"), dtype=torch.float32).eval()
    places, _, _ = text_rows(pairs)
    texts = []
    for place in places:
        pair = pairs[int(place) % len(pairs)]
        texts.append((pair.prompt, pair.chosen if place < len(pairs) else pair.rejected))
    encoded = [truncate(text, max_tokens) for text in encode(texts, Renderer(tokenizer, "auto"))]
    layers = model.config.num_hidden_layers + 1
    found = np.empty((len(texts), 2 * layers + 1, model.config.hidden_size), np.float16)
    for batch in length_batches([len(text.ids) for text in encoded], BATCH_TOKENS):
        inputs = pad([encoded[i].ids for i in batch], tokenizer.pad_token_id, torch.device("cpu"))
        mask_BL = inputs["attention_mask"]
        response_BL = mask_BL.clone()
        for row, i in enumerate(batch):
            start = encoded[i].start
            response_BL[row, : min(start, len(encoded[i].ids) - 1)] = 0
        with torch.autocast("cpu", torch.bfloat16):
            hidden = [each.float() for each in model(**inputs, output_hidden_states=True).hidden_states]
        means = [
            (each * weight[..., None]).sum(1) / weight.sum(1, keepdim=True)
            for weight in (mask_BL, response_BL)
            for each in hidden
        ]
        found[batch] = torch.stack([*means, hidden[-1][:, 0]], dim=1).numpy()
    cache.mkdir(parents=True, exist_ok=True)
    np.save(path, found)
    return found


def pooled(layers_NLH: np.ndarray, pooling: str) -> np.ndarray:
    """(N, H) float32 by name: `all-4`, `response-4` (mean of layer 4), `response-2+4+6` (joined), `first`."""
    count = layers_NLH.shape[1] // 2
    if pooling == "first":
        return np.asarray(layers_NLH[:, -1], np.float32)
    kind, numbers = pooling.split("-")
    at = [int(number) + (count if kind == "response" else 0) for number in numbers.split("+")]
    layers = [np.asarray(layers_NLH[:, each], np.float32) for each in at]
    return np.concatenate(layers, axis=1)

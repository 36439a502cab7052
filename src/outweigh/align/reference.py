"""Log-probabilities of the reference policy: computed once, kept in the cache."""

import hashlib
from dataclasses import asdict
from typing import Any

import datasets
import numpy as np

from outweigh.align.config import DPOConfig
from outweigh.data.cache import appearing_whole, cache_folder
from outweigh.models.features import checkpoint_identity
from outweigh.models.policy import Policy, load_policy
from outweigh.models.precision import autocast_dtype
from outweigh.progress import progress

LAYOUT = 1  # raised when the cached file's content changes
CHUNK = 512  # pairs scored at once, sorted by length among themselves


def reference_log_probabilities(
    dataset: datasets.Dataset, count: int, tokenizer: Any, config: DPOConfig, *, key: str
) -> np.ndarray:
    """log p(response | prompt) of each pair's chosen and rejected response, float32 (count, 2) in nats.

    NaN for pairs that truncation dropped. From the cache where the data (`key`), the reference and how texts
    are cut are known there. With adapters this is the policy with its adapters off.
    """
    name = config.reference or config.backbone
    policy = Policy(
        load_policy(name, trust_remote_code=config.trust_remote_code),
        tokenizer,
        config.tokens,
        precision=config.precision,
    )
    dtype = str(autocast_dtype(policy.device, config.precision))
    parts = (LAYOUT, key, checkpoint_identity(name), tokenizer.chat_template, asdict(config.tokens), dtype)
    digest = hashlib.sha256(repr(parts).encode()).hexdigest()[:24]
    folder = cache_folder() / f"reference-{digest}"
    if not folder.exists():
        found = np.full((count, 2), np.nan, dtype=np.float32)
        with progress("reference", len(dataset)) as done:
            for batch in dataset.iter(CHUNK):
                ids, starts = (
                    [each for row in batch[name] for each in row]
                    for name in ("response_ids", "response_starts")
                )
                found[batch["item"]] = policy.score_ids(ids, starts).reshape(-1, 2)
                done(len(batch["item"]))
        with appearing_whole(folder) as unfinished:
            np.save(unfinished / "log_probabilities.npy", found)
    loaded: np.ndarray = np.load(folder / "log_probabilities.npy")
    return loaded

"""Log-probabilities of the reference policy: computed once, kept in the cache."""

import hashlib
from dataclasses import asdict
from typing import Any

import datasets
import numpy as np

from outweigh.align.config import DPOConfig
from outweigh.data.cache import appearing_whole, cache_folder
from outweigh.errors import ConfigError
from outweigh.models.features import checkpoint_identity
from outweigh.models.loading import load_tokenizer
from outweigh.models.policy import Policy, load_policy
from outweigh.models.precision import autocast_dtype, default_device
from outweigh.progress import progress

LAYOUT = 2  # raised when the cached file's content changes
CHUNK = 512  # pairs scored at once, sorted by length among themselves


def reference_log_probabilities(
    dataset: datasets.Dataset, count: int, tokenizer: Any, config: DPOConfig, *, key: str
) -> np.ndarray:
    """log p(response | prompt) of each pair's chosen and rejected response, float32 (count, 2) in nats.

    NaN for pairs that truncation dropped. From the cache where the data (`key`), the reference and how texts
    are cut are known there. With adapters this is the policy with its adapters off.

    Raises:
        ConfigError: the reference has another vocabulary than the policy.
    """
    name = config.reference or config.backbone
    dtype = str(autocast_dtype(default_device(), config.precision))
    spelling = (tokenizer.backend_tokenizer.to_str(), tokenizer.chat_template, asdict(config.tokens))
    digest = hashlib.sha256(repr((LAYOUT, key, checkpoint_identity(name), spelling, dtype)).encode())
    folder = cache_folder() / f"reference-{digest.hexdigest()[:24]}"
    if not folder.exists():
        policy = Policy(
            _reference(name, tokenizer, config), tokenizer, config.tokens, precision=config.precision
        )
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


def _reference(name: str, tokenizer: Any, config: DPOConfig) -> Any:
    if name != config.backbone:
        own = load_tokenizer(name, own_pad=False, trust_remote_code=config.trust_remote_code)
        if own.get_vocab() != tokenizer.get_vocab():
            raise ConfigError(
                f"reference: {name} has another vocabulary than {config.backbone}, so that its tokens mean "
                "others. Want a reference with the policy's tokenizer."
            )
    return load_policy(name, trust_remote_code=config.trust_remote_code)

"""Columns that a source needs and the data does not have: worked out from the texts, before training."""

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import datasets
import numpy as np
from torch import Tensor, from_numpy

from outweigh.data.config import TokenConfig
from outweigh.data.records import Text
from outweigh.errors import ConfigError
from outweigh.models.config import DEPTH
from outweigh.models.features import Encoder, text_vectors
from outweigh.objectives.caps import form_of, similarity
from outweigh.objectives.learned import check_enough
from outweigh.objectives.sources import COLUMN, LIMITS, LIVE, SOURCES, Bound
from outweigh.training.config import SimilarityConfig, TrainConfig
from outweigh.training.items import Items
from outweigh.training.objective import Objective
from outweigh.training.tokenwise import shared_tokens

logger = logging.getLogger(__name__)

OPEN_CAP = 20.0
"""Nats: a cap that no gap comes near, so that the pair is trained by plain Bradley-Terry."""
MOST_OPEN = 0.9
"""Share of caps above that from which on the cap does nothing to speak of."""
QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
CHUNK = 4096  # pairs whose vectors are multiplied at once


def length_ratios(items: Items, dataset: datasets.Dataset, config: TrainConfig) -> np.ndarray:
    """Shorter over longer length of each pair's responses, (B,), NaN for pairs that truncation dropped.

    Lengths are tokens from the first one in which the responses differ to each one's end, what closes the
    text counted, padding not, after truncation.

    Source: Zhou et al. 2024, arXiv:2404.00978, authors' code.
    """
    ratio_B = np.full(_count(items), np.nan)
    for batch in dataset.iter(1000):
        each = zip(batch["item"], batch["response_ids"], batch["response_starts"], strict=True)
        for item, ids, starts in each:
            chosen, rejected = (row[start:] for row, start in zip(ids, starts, strict=True))
            ratio_B[item] = length_ratio(chosen, rejected)
    return ratio_B


def length_ratio(chosen: list[int], rejected: list[int]) -> float:
    """Shorter over longer length, from the first token in which they differ; 1 if they are equal."""
    shared = shared_tokens(chosen, rejected)
    lengths = len(chosen) - shared, len(rejected) - shared
    return min(lengths) / max(lengths) if max(lengths) else 1.0


def cosines(items: Items, dataset: datasets.Dataset, config: TrainConfig) -> np.ndarray:
    """Cosine of the two texts' vectors, (B,) in [-1, 1], as `config.similarity` says."""
    cosine = []
    for vectors in _vectors(items, config, depth=1.0):
        unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        cosine.append((unit[::2] * unit[1::2]).sum(1))
    return np.concatenate(cosine).clip(-1, 1)


def differences(items: Items, dataset: datasets.Dataset, config: TrainConfig) -> np.ndarray:
    """Vector of the chosen text less that of the rejected one, (B, H), from the layer that serves probes."""
    return np.concatenate([vectors[::2] - vectors[1::2] for vectors in _vectors(items, config, depth=DEPTH)])


def _vectors(items: Items, config: TrainConfig, *, depth: float) -> Iterator[np.ndarray]:
    """Vectors of both texts of some pairs at a time, (2 b, H), chosen first."""
    how, count = config.similarity, _count(items)
    encoder = Encoder(
        backbone=how.encoder,
        tokens=TokenConfig(max_tokens=how.max_tokens, template=config.tokens.template),
        depth=depth,
        pooling=how.pooling,
        trust_remote_code=config.trust_remote_code,
    )
    vectors = text_vectors(_texts(items, how), 2 * count, encoder, key=f"{items.key} {how.text}")
    return (vectors[2 * start : 2 * (start + CHUNK)] for start in range(0, count, CHUNK))


def prompts(items: Items, dataset: datasets.Dataset, config: TrainConfig) -> np.ndarray:
    """A number for each distinct prompt, (B,)."""
    numbers: dict[Text, int] = {}
    return np.array([numbers.setdefault(item.prompt, len(numbers)) for item in items.read()])


DERIVE: dict[str, Callable[[Items, datasets.Dataset, TrainConfig], np.ndarray]] = {
    "length_ratio": length_ratios,
    "cosine": cosines,
    "feature_difference": differences,
    "prompt_number": prompts,
}


def prepared(
    objective: Objective, items: Items, dataset: datasets.Dataset, config: TrainConfig
) -> tuple[Items, Objective, dict[str, Any]]:
    """The items with every column that the objective reads; the objective fitted to them; what its caps are.

    Raises:
        ConfigError: a cap is not above 0, or a column has what its argument can't be.
    """
    if isinstance(objective.cap, Bound) and objective.cap.fit is not None and objective.cap.name == "learned":
        check_enough(len(dataset))  # before an encoder reads them
    asked = [name for name in DERIVE if name in objective.reads and name not in items.columns]
    found = {name: DERIVE[name](items, dataset, config) for name in asked}
    items = items._replace(columns=items.columns | found)
    columns = _tensors(items, dataset)
    objective = fitted(objective, columns)
    kept = {
        name: column for name, column in items.columns.items() if name not in {*found} - {*objective.needs}
    }
    check_columns(objective, columns)
    if not objective.auxiliary and config.contrast.kind == "none":  # which have no weights
        check_weights(objective, columns)
    return items._replace(columns=kept), objective, check_caps(objective, columns)


def fitted(objective: Objective, columns: Mapping[str, Tensor]) -> Objective:
    """The objective, every source that is fitted to data fitted to these columns, (N,) each."""
    found: dict[str, Any] = {
        key: source.fitted(columns)
        for key, source in objective._asdict().items()
        if isinstance(source, Bound)
    }
    return objective._replace(**found)


def check_columns(objective: Objective, columns: Mapping[str, Tensor]) -> None:
    """Nothing, once what is made of columns for an argument of the loss is what that may be.

    Raises:
        ConfigError: a pair's value is out of its range, or NaN.
    """
    for key in SOURCES:
        source, (lowest, highest) = getattr(objective, key), LIMITS.get(key, (-np.inf, np.inf))
        if isinstance(source, Bound) and not {*source.needs} & {*LIVE}:
            value_B = source(columns)
            wrong = ~((lowest <= value_B) & (value_B <= highest))
            if wrong.any() and (key != "cap" or source.name == COLUMN):  # others are told with their inputs
                place = int(wrong.nonzero()[0])
                whence = f"column {source.needs[0]!r}" if source.name == COLUMN else repr(source.name)
                raise ConfigError(
                    f"{key} from {whence}: got {value_B[place].item():.4g} at pair "
                    f"{columns['item'][place].item()} (0-based), want {lowest:g} to {highest:g}."
                )


def check_weights(objective: Objective, columns: Mapping[str, Tensor]) -> None:
    """Nothing, if some pair has a weight.

    Raises:
        ConfigError: all weights are 0, so that nothing would be learnt.
    """
    source = objective.weight
    if source == 0 or (isinstance(source, Bound) and not source(columns).any()):
        raise ConfigError("weight: is 0 for every pair, so nothing would be learnt. Choose another source.")


def check_caps(objective: Objective, columns: Mapping[str, Tensor]) -> dict[str, Any]:
    """Quantiles of the caps, and of the columns that they come from. Warns where most caps do nothing.

    Raises:
        ConfigError: a cap is not above 0, so that the loss would pull its gap to 0 or below.
    """
    cap = objective.cap
    if not isinstance(cap, Bound):
        return {}
    cap_B = cap(columns).double().numpy()
    stored = [need for need in cap.needs if need not in LIVE]
    if not (cap_B > 0).all():
        place = int(np.argmin(cap_B))
        seen = "".join(f", {need} {columns[need][place].item():.4g}" for need in stored)
        raise ConfigError(
            f"cap from {cap.name!r}: got {cap_B[place]:.4g} at pair {columns['item'][place].item()} (0-based)"
            f"{seen}; want more than 0 on every pair: a capped gap rests at half its cap. Raise beta3, "
            "or take another preset."
        )
    open_share = float((cap_B > OPEN_CAP).mean())
    if open_share > MOST_OPEN:
        logger.warning(
            "cap from %r: %.0f %% of the caps are above %g nats, which is plain Bradley-Terry. Lower beta1, "
            "or take another preset, encoder or source.",
            cap.name,
            100 * open_share,
            OPEN_CAP,
        )
    found = {"cap": _quantiles(cap_B), "open_share": open_share, "options": cap.options, **cap.found}
    found |= {need: _quantiles(columns[need].double().numpy()) for need in stored}
    if cap.name == "cosine":  # what the cap is of is not the raw one
        alike_B = similarity(columns["cosine"], form_of(cap.options))
        found["similarity"] = _quantiles(alike_B.double().numpy())
    return found


def _quantiles(values: np.ndarray) -> dict[str, float]:
    found = np.quantile(values, QUANTILES)
    return {f"{share:g}": float(value) for share, value in zip(QUANTILES, found, strict=True)}


def _tensors(items: Items, dataset: datasets.Dataset) -> Mapping[str, Tensor]:
    """Every numeric column of the pairs in the dataset, and what the trainer would give at the first step."""
    place = np.array(dataset["item"])
    columns = {
        name: from_numpy(np.asarray(values, dtype=np.float32)[place])
        for name, values in items.columns.items()
        if values.dtype != object
    }
    return {**columns, "item": from_numpy(place), "step": from_numpy(np.zeros(1, dtype=np.int64))}


def _count(items: Items) -> int:
    sizes = {len(column) for column in items.columns.values()}
    return sizes.pop() if sizes else sum(1 for _ in items.read())


def _texts(items: Items, how: SimilarityConfig) -> Iterator[tuple[Text, Text]]:
    for item in items.read():
        if len(item.responses) != 2:
            raise ConfigError("cosine: want pairs, got rows of K responses. Train with objective pairs.")
        for response in item.responses:
            yield (item.prompt if how.text == "whole" else ()), response

"""Pairs or rankings -> what a training run needs of them."""

import hashlib
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from outweigh.data.pairs import PairSet
from outweigh.data.records import Ranking
from outweigh.data.split import hold_out
from outweigh.data.tokens import Item
from outweigh.errors import ConfigError, DataError
from outweigh.objectives.sources import AUXILIARY, bind
from outweigh.training.config import TrainConfig
from outweigh.training.trainer import Objective


class Items(NamedTuple):
    """K responses to a prompt each, with what the loss and the split ask about them."""

    read: Callable[[], Iterable[Item]]
    key: str  # hash of the content
    columns: dict[str, np.ndarray]  # (B,) float
    split: Callable[
        [float, int], tuple[np.ndarray, np.ndarray, str]
    ]  # fraction, seed -> rest, held out, unit


def items_of(data: PairSet | Sequence[Ranking]) -> Items:
    """The items of pairs (K = 2, chosen first) or of rankings."""
    if isinstance(data, PairSet):
        pairs = data
        return Items(
            lambda: (Item(p.prompt, (p.chosen, p.rejected), (0.0, 1.0), p.origin) for p in pairs),
            pairs.fingerprint(),
            {name: column for name in pairs.columns if (column := pairs.column(name)) is not None},
            lambda fraction, seed: hold_out(pairs, fraction, seed),
        )
    rankings = data
    return Items(
        lambda: (Item(r.prompt, r.responses, r.ranks, r.origin) for r in rankings),
        hashlib.sha256(repr(rankings).encode()).hexdigest(),
        {},
        lambda fraction, seed: _hold_out_prompts(rankings, fraction, seed),
    )


def objective_of(config: TrainConfig, columns: Collection[str]) -> Objective:
    """The configured loss, bound to the data's columns.

    Raises:
        ConfigError: an unknown objective, source or auxiliary term, a missing column, or a pairwise argument
            with the listwise objective.
    """
    if unknown := set(config.auxiliary) - set(AUXILIARY):
        raise ConfigError(f"auxiliary: got {', '.join(sorted(unknown))}, want {', '.join(AUXILIARY)}.")
    if config.objective not in ("pairs", "listwise"):
        raise ConfigError(f"objective: got {config.objective!r}, want pairs or listwise.")
    specs = {key: getattr(config, key) for key in ("margin", "flip_rate", "cap", "weight")}
    if config.objective == "listwise":
        set_too = [key for key, spec in specs.items() if spec not in (None, "none", "auto")]
        set_too += ["auxiliary"] if config.auxiliary else []
        if set_too:
            raise ConfigError(f"objective listwise: takes no {', '.join(set_too)}. Use objective pairs.")
        return Objective(listwise=True)
    if specs["weight"] == "auto" and "weight" not in columns and "row_pairs" in columns:
        specs["weight"] = "row"  # a row of K responses counts once, not C(K, 2) times
    bound = {key: bind(key, spec, columns) for key, spec in specs.items()}
    return Objective(**bound, auxiliary=config.auxiliary)  # type: ignore[arg-type]


def check_ranks(rankings: Sequence[Ranking]) -> None:
    """Nothing, once every ranking prefers at least one response to another.

    Raises:
        DataError: all responses of a row share one rank.
    """
    for ranking in rankings:
        if len(set(ranking.ranks)) < 2:
            raise DataError(
                f"{ranking.origin}: all responses share one rank, want at least two. Drop the row."
            )


def _hold_out_prompts(
    rankings: Sequence[Ranking], fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray, str]:
    prompts = sorted({ranking.prompt for ranking in rankings})
    chosen = np.random.default_rng(seed).permutation(len(prompts))[: round(fraction * len(prompts))]
    held_out = {prompts[i] for i in chosen}
    is_held = np.array([ranking.prompt in held_out for ranking in rankings])
    return np.flatnonzero(~is_held), np.flatnonzero(is_held), "prompt"

"""Pairs or rankings -> what a training run needs of them."""

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from outweigh.data.fields import OPTIONAL
from outweigh.data.pairs import PairSet
from outweigh.data.records import Ranking
from outweigh.data.split import hold_out
from outweigh.data.tokens import Item
from outweigh.errors import ConfigError, DataError
from outweigh.objectives.listwise import MOST_TIED
from outweigh.objectives.sources import AUXILIARY, COLUMN, DERIVED, LIVE, SOURCES, Bound, bind, named
from outweigh.training.config import TrainConfig
from outweigh.training.objective import Objective


class Items(NamedTuple):
    """K responses to a prompt each, with what the loss and the split ask about them."""

    read: Callable[[], Iterable[Item]]
    key: str  # hash of the content
    columns: dict[str, np.ndarray]  # (B,) float
    split: Callable[
        [float, int], tuple[np.ndarray, np.ndarray, str]
    ]  # fraction, seed -> rest, held out, unit


Data = PairSet | Sequence[Ranking] | Items


def items_of(data: Data) -> Items:
    """The items of pairs (K = 2, chosen first) or of rankings; items as they are."""
    if isinstance(data, Items):
        return data
    if isinstance(data, PairSet):
        pairs = data
        return Items(
            lambda: (Item(p.prompt, (p.chosen, p.rejected), (0.0, 1.0), p.origin) for p in pairs),
            pairs.fingerprint(),
            {name: column for name in pairs.scalars if (column := pairs.column(name)) is not None},
            lambda fraction, seed: hold_out(pairs, fraction, seed),
        )
    rankings = data
    return Items(
        lambda: (Item(r.prompt, r.responses, r.ranks, r.origin) for r in rankings),
        hashlib.sha256(repr(rankings).encode()).hexdigest(),
        {},
        lambda fraction, seed: _hold_out_prompts(rankings, fraction, seed),
    )


def swapped_items(items: Items, swapped: NDArray[np.bool_]) -> Items:
    """The items (pairs) with the two responses of the marked ones, (B,), in each other's place."""
    if not swapped.any():
        return items

    def read() -> Iterator[Item]:
        for item, turned in zip(items.read(), swapped, strict=True):
            yield item._replace(responses=item.responses[::-1]) if turned else item

    return items._replace(read=read, key=_derived(items.key, swapped))


def some_items(items: Items, places: NDArray[np.int64]) -> Items:
    """The items at these places, ascending; they can't be split any further."""
    wanted = np.isin(np.arange(int(places.max()) + 1), places)

    def read() -> Iterator[Item]:
        return (item for item, keep in zip(items.read(), wanted, strict=False) if keep)

    columns = {name: column[places] for name, column in items.columns.items()}
    return items._replace(read=read, key=_derived(items.key, places), columns=columns, split=_no_split)


def _derived(key: str, array: NDArray[Any]) -> str:
    return hashlib.sha256(key.encode() + array.tobytes()).hexdigest()


def _no_split(fraction: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64], str]:
    raise ConfigError("validation: a part of the items can't be split again, want validation 0.")


def asked_columns(config: TrainConfig) -> list[str]:
    """Columns that the configured sources need and that are read from data only where they are asked for.

    Raises:
        ConfigError: an unknown source or option.
    """
    bound = [named(key, getattr(config, key)) for key in SOURCES]
    sources = [source for source in bound if isinstance(source, Bound)]
    named_columns = {need for source in sources if source.name == COLUMN for need in source.needs}
    reads = {need for source in sources for need in source.reads}
    return sorted((reads - {*LIVE, *DERIVED} | named_columns) - {*OPTIONAL})


def objective_of(config: TrainConfig, columns: Collection[str]) -> Objective:
    """The configured loss, bound to the data's columns.

    Raises:
        ConfigError: an unknown source or auxiliary term, a missing column, or a pairwise argument
            with the listwise objective.
    """
    if unknown := set(config.auxiliary) - set(AUXILIARY):
        raise ConfigError(f"auxiliary: got {', '.join(sorted(unknown))}, want {', '.join(AUXILIARY)}.")
    if config.loss_at == "tokens" and (config.objective == "listwise" or config.contrast.kind != "none"):
        raise ConfigError("loss_at tokens: is of pairs, without a contrastive term. Want loss_at last.")
    specs = {key: getattr(config, key) for key in SOURCES}
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


def check_fits(data: Data, config: TrainConfig) -> None:
    """Nothing, once pairs meet the pairwise objective, and rows with some preference the listwise one.

    Raises:
        ConfigError: the objective is for the other kind of data.
        DataError: all responses of a row share one rank, or too many do.
    """
    if isinstance(data, PairSet | Items):
        if config.objective == "listwise":
            raise ConfigError("objective listwise: got pairs, want rows of K ranked or rated responses.")
        return
    if config.objective == "pairs":
        raise ConfigError("objective pairs: got rankings, want pairs. Read the data with read_pairs.")
    for ranking in data:
        if len(set(ranking.ranks)) < 2:
            raise DataError(f"{ranking.origin}: all responses share one rank, want two. Drop the row.")
        if (tied := max(Counter(ranking.ranks).values())) > MOST_TIED:
            raise DataError(
                f"{ranking.origin}: {tied} responses share one rank, want {MOST_TIED} at most. Drop the row, "
                "or train with objective pairs, which drops ties."
            )


def check_steps(objective: Objective, config: TrainConfig, pairs: int) -> None:
    """Nothing, once every optimizer step has as many pairs as its sources need.

    Raises:
        ConfigError: a margin from the step's gaps, and a step of one pair, whose mean is its own gap.
    """
    if "step_gap" in objective.needs and 1 in (config.batch_pairs, pairs % config.batch_pairs):
        raise ConfigError(
            f"margin from the step: {pairs} pairs in steps of {config.batch_pairs} leave one with a single "
            "pair, want two or more in each. Choose another batch_pairs."
        )


def _hold_out_prompts(
    rankings: Sequence[Ranking], fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray, str]:
    prompts = sorted({ranking.prompt for ranking in rankings})
    chosen = np.random.default_rng(seed).permutation(len(prompts))[: round(fraction * len(prompts))]
    held_out = {prompts[i] for i in chosen}
    is_held = np.array([ranking.prompt in held_out for ranking in rankings])
    return np.flatnonzero(~is_held), np.flatnonzero(is_held), "prompt"

"""Where margin, flip_rate, cap and weight come from: one function a source, one line in a dict.

A source is named in the configuration by its name, by a number (the `fixed` source), or by a mapping with
its options: `margin: strength`, `margin: 0.5`, `margin: {source: strength, scale: 0.5, clip: 2}`.
"""

from collections.abc import Callable, Collection, Mapping
from inspect import signature
from typing import Any, NamedTuple

import torch
from torch import Tensor

from outweigh.errors import ConfigError
from outweigh.objectives.pairwise import squared_reward_sum
from outweigh.objectives.spec import Spec

LARGEST_FLIP_RATE = 0.499
"""At 0.5 a label says nothing and the optimum gap is 0; past it the label would be the wrong one."""


class Source(NamedTuple):
    """A function of columns (B,) and options, and the columns that it needs."""

    function: Callable[..., Tensor]
    needs: tuple[str, ...] = ()


class Bound(NamedTuple):
    """A source with its options set; call it with a batch's columns, each (B,)."""

    name: str
    function: Callable[..., Tensor]
    needs: tuple[str, ...]
    options: dict[str, Any]

    def __call__(self, columns: Mapping[str, Tensor]) -> Tensor:
        return self.function(*(columns[need] for need in self.needs), **self.options)


def given(column: Tensor) -> Tensor:
    """The column as it stands."""
    return column


def scaled(column: Tensor, *, scale: float = 1.0, clip: float | None = None) -> Tensor:
    """scale * column, held within [-clip, clip] where a clip is given.

    Source: with strength, arXiv:2401.06080 section 2.5, which uses the raw signed mean (scale 1, no clip)
        and advises that margins stay fairly small; scale and clip are ours.
    """
    margin = scale * column
    return margin if clip is None else margin.clamp(-clip, clip)


def rating_difference(
    chosen: Tensor, rejected: Tensor, *, scale: float = 1.0, clip: float | None = None
) -> Tensor:
    """scale * (rating chosen - rating rejected), clipped as `scaled` does.

    Source: Touvron et al. 2023, arXiv:2307.09288, section 3.2.2, where annotators' grades set the margin.
    """
    return scaled(chosen - rejected, scale=scale, clip=clip)


def vote_flip_rate(chosen: Tensor, rejected: Tensor, equal: Tensor, *, prior: float = 0.5) -> Tensor:
    """Chance that the label is wrong, from the votes on the pair, below 0.5.

        flip_rate = (votes_rejected + votes_equal / 2 + prior) / (votes + 2 prior)

    A prior of 0.5 a side is Jeffreys'; without one, three votes of three would claim certainty.
    Source: reconstructed.
    """
    against = rejected + equal / 2
    return ((against + prior) / (chosen + rejected + equal + 2 * prior)).clamp(max=LARGEST_FLIP_RATE)


def one_over(column: Tensor) -> Tensor:
    """1 / column: with `row_pairs`, each row of K responses weighs as much as one pair."""
    return 1.0 / column


COLUMN = "column"  # needs whichever column the key or the option `column` names

MARGINS: dict[str, Source] = {
    COLUMN: Source(scaled),
    "rating": Source(rating_difference, needs=("rating_chosen", "rating_rejected")),
    "strength": Source(scaled, needs=("strength",)),
}
FLIP_RATES: dict[str, Source] = {
    COLUMN: Source(given),
    "votes": Source(vote_flip_rate, needs=("votes_chosen", "votes_rejected", "votes_equal")),
}
CAPS: dict[str, Source] = {COLUMN: Source(given)}
WEIGHTS: dict[str, Source] = {COLUMN: Source(given), "row": Source(one_over, needs=("row_pairs",))}
SOURCES = {"margin": MARGINS, "flip_rate": FLIP_RATES, "cap": CAPS, "weight": WEIGHTS}

AUXILIARY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"centring": squared_reward_sum}
"""Terms added to the loss with a coefficient: name -> function of both rewards, (B,) in and out."""


def bind(key: str, spec: Spec, columns: Collection[str]) -> Bound | float | None:
    """The source that `spec` names for `key`, checked against the data's columns before anything is loaded.

    A number, or None where the argument is to keep its default, comes back as it is. "auto" is the column of
    the key's own name where the data has it, else None.

    Raises:
        ConfigError: an unknown source, a missing column, or an option that the source does not have.
    """
    if spec is None or spec == "none" or (spec == "auto" and key not in columns):
        return None
    if isinstance(spec, int | float) and not isinstance(spec, bool):
        return _number(key, float(spec))
    options = dict(spec) if isinstance(spec, Mapping) else {"source": COLUMN if spec == "auto" else spec}
    name = str(options.pop("source", None))
    sources = SOURCES[key]
    if name not in sources:
        raise ConfigError(f"{key}: got {name!r}, want a number or one of none, auto, {', '.join(sources)}.")
    source = sources[name]
    needs = (str(options.pop("column", key)),) if name == COLUMN else source.needs
    if missing := [need for need in needs if need not in columns]:
        raise ConfigError(
            f"{key} from {name!r}: the data has no column {', '.join(missing)}, only "
            f"{', '.join(sorted(columns)) or 'the texts'}. Add it, or choose another source."
        )
    known = [p.name for p in signature(source.function).parameters.values() if p.kind is p.KEYWORD_ONLY]
    if unknown := sorted(set(options) - set(known)):
        raise ConfigError(
            f"{key} from {name!r}: unknown option {', '.join(unknown)}, want {', '.join(known) or 'none'}."
        )
    return Bound(name, source.function, needs, options)


def _number(key: str, value: float) -> float:
    lowest, highest = {"flip_rate": (0.0, LARGEST_FLIP_RATE), "weight": (0.0, torch.inf)}.get(
        key, (-torch.inf, torch.inf)
    )
    if not lowest <= value <= highest:
        raise ConfigError(f"{key}: got {value}, want a number from {lowest} to {highest}.")
    return value

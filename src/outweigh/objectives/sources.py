"""Where margin, flip_rate, cap and weight come from: one function a source, one line in a dict.

A source is named in the configuration by its name, by a number (the `fixed` source), or by a mapping with
its options: `margin: strength`, `margin: 0.5`, `margin: {source: strength, scale: 0.5, clip: 2}`.
"""

from collections.abc import Callable, Collection, Mapping
from inspect import signature
from types import MappingProxyType
from typing import Any, NamedTuple, get_args, get_type_hints

import torch
from torch import Tensor

from outweigh.errors import ConfigError
from outweigh.objectives.batch import batch_margin, batch_sum, exponential_batch_margin
from outweigh.objectives.caps import (
    betas_of_cosine,
    betas_of_length,
    cosine_cap,
    learned_cap,
    length_cap,
    random_cap,
)
from outweigh.objectives.learned import fit_learned_cap
from outweigh.objectives.pairwise import squared_reward_sum
from outweigh.objectives.spec import Spec

LARGEST_FLIP_RATE = 0.499
"""At 0.5 a label says nothing and the optimum gap is 0; past it the label would be the wrong one."""
LEAST_CAP = 1e-3
"""A capped gap rests at half its cap: under 0 the loss would prefer the rejected response."""
LIMITS = {
    "flip_rate": (0.0, LARGEST_FLIP_RATE),
    "weight": (0.0, torch.inf),
    "cap": (LEAST_CAP, torch.inf),
}
"""What the pairwise equation takes; a margin may be any number."""


OF_STEP = ("step_gap", "step_sum")
"""Gaps, and sums of both rewards, of all pairs of the optimizer step, (S,), without gradient."""
LIVE = ("gap", *OF_STEP, "item", "step")
"""What the trainer itself gives: the pairs' gaps, (B,), without gradient; what is of the whole step; the
pairs' places among the data; the number of the step."""
DERIVED = ("length_ratio", "cosine", "feature_difference", "prompt_number")
"""Columns worked out from the texts before training, where a source needs them: `feature_difference` is
(N, H), `prompt_number` numbers the prompts."""


class Fit(NamedTuple):
    """What finds a source's options in the whole data, before training: columns (N,) -> options, and what
    there is to say of them."""

    function: Callable[..., tuple[dict[str, float], dict[str, Any]]]
    needs: tuple[str, ...]
    always: bool = False  # unless options are given; else where `beta: auto` asks for it


class Source(NamedTuple):
    """A function of columns (B,) and options, the columns that it needs, and what fits it."""

    function: Callable[..., Tensor]
    needs: tuple[str, ...] = ()
    fit: Fit | None = None


class Bound(NamedTuple):
    """A source with its options set; call it with a batch's columns, each (B,)."""

    name: str
    function: Callable[..., Tensor]
    needs: tuple[str, ...]
    options: dict[str, Any]
    fit: Fit | None = None  # to be called before training
    found: Mapping[str, Any] = MappingProxyType({})  # by the fit

    def __call__(self, columns: Mapping[str, Tensor]) -> Tensor:
        return self.function(*(columns[need] for need in self.needs), **self.options)

    def fitted(self, columns: Mapping[str, Tensor]) -> "Bound":
        """The source with the options that its fit finds in the whole data's columns, each (N,)."""
        if self.fit is None:
            return self
        options, found = self.fit.function(*(columns[need] for need in self.fit.needs), **self.options)
        return self._replace(options=self.options | options, fit=None, found=found)

    @property
    def reads(self) -> tuple[str, ...]:
        """Every column that it needs, in training or for its fit."""
        return tuple(dict.fromkeys((*self.needs, *(self.fit.needs if self.fit else ()))))


def given(column: Tensor) -> Tensor:
    """The column as it stands."""
    return column


def scaled(column: Tensor, *, scale: float = 1.0, clip: float | None = None) -> Tensor:
    """scale * column, held within [-clip, clip] where a clip is given.

    Source: with strength, arXiv:2401.06080 section 2.5, which uses the raw signed mean (scale 1, no clip)
        and advises that margins stay fairly small; scale and clip are ours.
    Raises:
        ConfigError: the clip is below 0.
    """
    if clip is not None and clip < 0:
        raise ConfigError(f"clip: got {clip}, want 0 or more.")
    margin = scale * column
    return margin if clip is None else margin.clamp(-clip, clip)


def rating_difference(
    chosen: Tensor, rejected: Tensor, *, scale: float = 1.0, clip: float | None = None
) -> Tensor:
    """scale * (rating chosen - rating rejected), clipped as `scaled` does.

    Source: Touvron et al. 2023, arXiv:2307.09288, section 3.2.2, where annotators' grades set the margin.
    """
    return scaled(chosen - rejected, scale=scale, clip=clip)


def log_rating_difference(
    chosen: Tensor, rejected: Tensor, *, scale: float = 1.0, least: float = 0.1
) -> Tensor:
    """scale * log(rating chosen - rating rejected): the margin grows ever slower; under a difference of 1 it
    is negative. Differences below `least`, ties and contradictions among them, count as that.

    Source: Amini et al. 2024, arXiv:2402.10571 (ODPO), its offset; `least` is ours.
    """
    return scale * (chosen - rejected).clamp(min=least).log()


def rating_flip_rate(chosen: Tensor, rejected: Tensor, *, scale: float = 1.0) -> Tensor:
    """Chance that the label is wrong if ratings are rewards, sigma(-scale * difference), below 0.5.

    Source: Kim et al. 2024, arXiv:2410.03145 (MMPO), whose soft label is 1 minus this.
    """
    return torch.sigmoid(-scale * (chosen - rejected)).clamp(max=LARGEST_FLIP_RATE)


def rating_weight(chosen: Tensor, rejected: Tensor) -> Tensor:
    """|rating chosen - rating rejected|: a pair counts as much as its raters saw a difference.

    Source: Wang et al. 2024, arXiv:2410.01257 (HelpSteer2-Preference), scaled Bradley-Terry.
    """
    return (chosen - rejected).abs()


def vote_flip_rate(chosen: Tensor, rejected: Tensor, equal: Tensor, *, prior: float = 0.5) -> Tensor:
    """Chance that the label is wrong, from the votes on the pair, below 0.5.

        flip_rate = (votes_rejected + votes_equal / 2 + prior) / (votes + 2 prior)

    A prior of 0.5 a side is Jeffreys'; without one, three votes of three would claim certainty.

    Raises:
        ConfigError: the prior is below 0.
    Source: reconstructed.
    """
    if not prior >= 0:
        raise ConfigError(f"prior: got {prior}, want 0 or more.")
    against = rejected + equal / 2
    return ((against + prior) / (chosen + rejected + equal + 2 * prior)).clamp(max=LARGEST_FLIP_RATE)


def robust_flip_rate(item: Tensor, *, rate: float = 0.1) -> Tensor:
    """-rate / (1 - 2 rate) for each pair, (B,): the equation is then an unbiased estimate of the loss on
    clean labels where a share `rate` of them is wrong. It has no lower bound: gaps grow as far as they can.

    Raises:
        ConfigError: the rate is not in [0, 0.5).
    Source: Chowdhury et al. 2024, arXiv:2403.00409, equation 12, on any gap.
    """
    if not 0 <= rate < 0.5:
        raise ConfigError(f"rate: got {rate}, want a number from 0 to under 0.5.")
    return torch.full_like(item, -rate / (1 - 2 * rate), dtype=torch.float32)


def one_over(column: Tensor) -> Tensor:
    """1 / column: with `row_pairs`, each row of K responses weighs as much as one pair."""
    return 1.0 / column


RATINGS = ("rating_chosen", "rating_rejected")
COLUMN = "column"  # needs whichever column the key or the option `column` names

MARGINS: dict[str, Source] = {
    COLUMN: Source(scaled),
    "rating": Source(rating_difference, needs=RATINGS),
    "rating-log": Source(log_rating_difference, needs=RATINGS),
    "strength": Source(scaled, needs=("strength",)),
    "batch": Source(batch_margin, needs=("gap", "step_gap")),
    "batch-exponential": Source(exponential_batch_margin, needs=("gap", "step_gap")),
}
FLIP_RATES: dict[str, Source] = {
    COLUMN: Source(given),
    "rating": Source(rating_flip_rate, needs=RATINGS),
    "robust": Source(robust_flip_rate, needs=("item",)),
    "votes": Source(vote_flip_rate, needs=("votes_chosen", "votes_rejected", "votes_equal")),
}
CAPS: dict[str, Source] = {
    COLUMN: Source(given),
    "length": Source(
        length_cap,
        needs=("length_ratio",),
        fit=Fit(betas_of_length, needs=("length_ratio", "wrong_probability")),
    ),
    "cosine": Source(
        cosine_cap, needs=("cosine",), fit=Fit(betas_of_cosine, needs=("cosine", "wrong_probability"))
    ),
    "learned": Source(
        learned_cap,
        needs=("length_ratio", "cosine", "strength"),
        fit=Fit(
            fit_learned_cap,
            needs=("length_ratio", "cosine", "strength", "feature_difference", "prompt_number"),
            always=True,
        ),
    ),
    "random": Source(random_cap, needs=("item", "step")),
}
WEIGHTS: dict[str, Source] = {
    COLUMN: Source(given),
    "rating": Source(rating_weight, needs=RATINGS),
    "row": Source(one_over, needs=("row_pairs",)),
}
SOURCES = {"margin": MARGINS, "flip_rate": FLIP_RATES, "cap": CAPS, "weight": WEIGHTS}


class Term(NamedTuple):
    """A function of both rewards, (B,) in and out, and of what else it needs of LIVE."""

    function: Callable[..., Tensor]
    needs: tuple[str, ...] = ()


AUXILIARY: dict[str, Term] = {
    "centring": Term(squared_reward_sum),
    "batch-sum": Term(batch_sum, needs=("step_sum",)),
}
"""Terms added to the loss with a coefficient."""


def bind(key: str, spec: Spec, columns: Collection[str]) -> Bound | float | None:
    """The source that `spec` names for `key`, checked against the data's columns before anything is loaded.

    A number, or None where the argument is to keep its default, comes back as it is. "auto" is the column of
    the key's own name where the data has it, else None.

    Raises:
        ConfigError: what `named` raises, or a column is missing.
    """
    if spec == "auto" and key not in columns:
        return None
    bound = named(key, spec)
    if not isinstance(bound, Bound):
        return bound
    if missing := [need for need in bound.reads if need not in (*columns, *LIVE, *DERIVED)]:
        raise ConfigError(
            f"{key} from {bound.name!r}: the data has no column {', '.join(missing)}, only "
            f"{', '.join(sorted(columns)) or 'the texts'}. Add it, or choose another source."
        )
    return bound


def named(key: str, spec: Spec) -> Bound | float | None:
    """The source that `spec` names for `key`, whatever columns the data has; numbers and None as they are.

    Raises:
        ConfigError: an unknown source, or an option that the source does not have.
    """
    if spec is None or spec == "none":
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
    fit = _asked_fit(key, name, source, options)
    known = [p.name for p in signature(source.function).parameters.values() if p.kind is p.KEYWORD_ONLY]
    if unknown := sorted(set(options) - set(known)):
        known += ["beta"] if source.fit and not source.fit.always else []
        raise ConfigError(
            f"{key} from {name!r}: unknown option {', '.join(unknown)}, want {', '.join(known) or 'none'}."
        )
    bound = Bound(name, source.function, needs, options, fit)
    _try(key, bound)
    return bound


def _try(key: str, bound: Bound) -> None:
    """Nothing, once the source takes its options: it is called with two made-up pairs.

    Raises:
        ConfigError: it does not, as where an option is of the wrong type or out of its range.
    """
    whole = ("item", "step")
    columns = {need: torch.ones(2, dtype=torch.long if need in whole else None) for need in bound.needs}
    numbers = [name for name, hint in get_type_hints(bound.function).items() if str not in _types(hint)]
    try:
        for name in {*numbers} & {*bound.options}:
            if isinstance(bound.options[name], str):
                raise TypeError(f"{name}: got {bound.options[name]!r}, want a number.")
        bound(columns | {"step": torch.ones(1, dtype=torch.long)})
    except (ConfigError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise ConfigError(f"{key} from {bound.name!r}: {reason}.") from None


def _types(hint: Any) -> set[Any]:
    return {hint, *get_args(hint)}


def _asked_fit(key: str, name: str, source: Source, options: dict[str, Any]) -> Fit | None:
    """The fit asked for, by naming the source, or by `beta: auto`, which is taken out of the options."""
    if source.fit is not None and source.fit.always:
        return None if options else source.fit
    if source.fit is None or "beta" not in options:
        return None
    if (asked := options.pop("beta")) != "auto":
        raise ConfigError(f"{key} from {name!r}, beta: got {asked!r}, want auto; or give beta1 and beta3.")
    if given_too := sorted({"preset", "beta1", "beta3"} & {*options}):
        raise ConfigError(f"{key} from {name!r}: beta auto finds what {', '.join(given_too)} says. Name one.")
    return source.fit


def _number(key: str, value: float) -> float:
    lowest, highest = LIMITS.get(key, (-torch.inf, torch.inf))
    if not lowest <= value <= highest:
        raise ConfigError(f"{key}: got {value}, want a number from {lowest} to {highest}.")
    return value

"""What is done to each pair, from what the audit says of it."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray

from outweigh.errors import ConfigError
from outweigh.metrics.arrays import FloatArray, check_pairs

HIGHEST_FLIP_RATE = 0.499  # a flip rate is under one half; a label more doubtful than that is flipped


@dataclass(frozen=True, kw_only=True)
class RepairOptions:
    """What the policies leave open. The defaults are measured: docs/measurements.md, repair."""

    fraction: float | None = None
    """Share of pairs that flip and drop take, most doubtful first, and smooth, weakest first. None: those
    likelier wrong than right, or in smooth's band."""
    smoothing: float | None = None
    """Flip rate of smoothed pairs; None: the pair's own wrong probability."""
    smooth_band: float = 0.0
    """Smooth pairs whose strength is below this, in nats: 0 the negative ones, more the ambiguous too."""
    smooth_floor: float | None = None
    """But none whose strength is below this: -0.5 and a band of 0.5 are the ambiguous pairs alone."""
    smooth_spread: float | None = None
    """Smooth pairs whose spread is above this, in nats, too."""
    margin_scale: float = 1.0
    """Nats of margin for each nat of strength."""
    margin_clip: float | None = 2.0
    """Largest size of a margin, in nats; the paper advises small ones. None: no limit."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and not math.isfinite(value):
                raise ConfigError(f"repair {name}: got {value}, want a finite number.")
        if self.fraction is not None and not 0 <= self.fraction <= 1:
            raise ConfigError(f"repair fraction: got {self.fraction}, want 0 to 1.")
        if self.smoothing is not None and not 0 <= self.smoothing < 0.5:
            raise ConfigError(f"repair smoothing: got {self.smoothing}, want 0 to under 0.5.")
        if self.smooth_floor is not None and not self.smooth_floor < self.smooth_band:
            raise ConfigError(
                f"repair smooth_floor: got {self.smooth_floor}, want less than smooth_band, "
                f"{self.smooth_band}."
            )
        if self.margin_clip is not None and not self.margin_clip > 0:
            raise ConfigError(f"repair margin_clip: got {self.margin_clip}, want more than 0, or none.")


@dataclass(frozen=True, slots=True, eq=False)
class Repair:
    """What becomes of B pairs; everything (B,), and after the flip where a pair is flipped.

    `sets` names the columns on which the policy decides; on the others the user's values stay.
    """

    flip: NDArray[np.bool_]
    drop: NDArray[np.bool_]
    margin: FloatArray
    flip_rate: FloatArray  # in [0, 0.5)
    strength: FloatArray  # negated on flipped pairs
    spread: FloatArray
    wrong_probability: FloatArray  # of the label as it is now: 1 - p on flipped pairs
    action: NDArray[np.str_]  # keep, or flip, smooth, margin, drop joined by +
    sets: tuple[str, ...] = ()


Policy = Callable[[Repair, RepairOptions], Repair]


def keep(before: Repair, options: RepairOptions) -> Repair:
    """Every pair as it is."""
    return before


def flip(before: Repair, options: RepairOptions) -> Repair:
    """The labels of the most doubtful pairs changed. Source: arXiv:2401.06080, section 2.4."""
    flipped = most_doubtful(before, options.fraction)
    return replace(
        before,
        flip=flipped,
        strength=np.where(flipped, -before.strength, before.strength),
        wrong_probability=np.where(flipped, 1 - before.wrong_probability, before.wrong_probability),
    )


def drop(before: Repair, options: RepairOptions) -> Repair:
    """The most doubtful pairs left out."""
    return replace(before, drop=most_doubtful(before, options.fraction))


def smooth(before: Repair, options: RepairOptions) -> Repair:
    """A flip rate on pairs of weak strength, by a band or a share of the pairs, or of high spread; others get
    0.

    Source: Wang et al. 2024, arXiv:2401.06080, section 2.5: negative strength. The paper's constant rate
    is not stated (0.2 fits its figure); the wrong probability in its place, band, floor and spread are ours.
    """
    if options.fraction is None:
        floor = -np.inf if options.smooth_floor is None else options.smooth_floor
        chosen = (floor <= before.strength) & (before.strength < options.smooth_band)
    else:
        chosen = first_of(np.argsort(before.strength, kind="stable"), options.fraction)
    if options.smooth_spread is not None:
        chosen |= before.spread > options.smooth_spread
    rate = before.wrong_probability if options.smoothing is None else np.full(len(chosen), options.smoothing)
    return _with_flip_rate(before, np.where(chosen, rate, 0.0))


def soften(before: Repair, options: RepairOptions) -> Repair:
    """On every pair the probability that its label, after the flip, is wrong."""
    return _with_flip_rate(before, before.wrong_probability)


def margin(before: Repair, options: RepairOptions) -> Repair:
    """The signed strength as margin, scaled and clipped; of a flipped pair, the negated strength.

    Source: Wang et al. 2024, arXiv:2401.06080, section 2.5, inside the logistic [reconstructed].
    """
    margin_B = options.margin_scale * before.strength
    if options.margin_clip is not None:
        margin_B = np.clip(margin_B, -options.margin_clip, options.margin_clip)
    return replace(before, margin=margin_B, sets=(*before.sets, "margin"))


def _with_flip_rate(before: Repair, flip_rate: FloatArray) -> Repair:
    return replace(
        before, flip_rate=np.minimum(flip_rate, HIGHEST_FLIP_RATE), sets=(*before.sets, "flip_rate")
    )


READS: dict[Policy, tuple[str, ...]] = {
    flip: ("fraction",),
    drop: ("fraction",),
    smooth: ("fraction", "smoothing", "smooth_band", "smooth_floor", "smooth_spread"),
    margin: ("margin_scale", "margin_clip"),
}
"""The options that a step of a policy reads."""

POLICIES: dict[str, tuple[Policy, ...]] = {
    "keep": (keep,),
    "flip": (flip,),
    "drop": (drop,),
    "smooth": (smooth,),
    "margin": (margin,),
    "flip+smooth": (flip, soften),
    "flip+margin": (flip, margin),
    "smooth+margin": (smooth, margin),
}

PAPER_FRACTION = 0.1  # of the labels, the weakest, flipped in the figures; the text calls a fifth harmful
PAPER_SMOOTHING = 0.2  # not stated; fits the floor of 0.50 nats in the figure

PRESETS: dict[str, tuple[str, RepairOptions]] = {
    "secrets-flip": ("flip", RepairOptions(fraction=PAPER_FRACTION)),
    "secrets-soft": ("smooth", RepairOptions(smoothing=PAPER_SMOOTHING)),
    "secrets-margin": ("margin", RepairOptions(margin_clip=None)),
    "secrets-flip+margin": ("flip+margin", RepairOptions(fraction=PAPER_FRACTION, margin_clip=None)),
    "secrets-soft+margin": ("smooth+margin", RepairOptions(smoothing=PAPER_SMOOTHING, margin_clip=None)),
}
"""A policy with a paper's options. Source: Wang et al. 2024, arXiv:2401.06080, sections 2.4 and 2.5; fraction
and smoothing are reconstructed from its figures."""


def check_options(policy: str, options: RepairOptions) -> None:
    """Nothing, once the policy reads each option that is not as it is by default.

    Raises:
        ConfigError: it does not; a preset reads none.
    """
    given = [name for name, value in asdict(options).items() if value != getattr(RepairOptions(), name)]
    read = {name for step in POLICIES.get(policy, ()) for name in READS.get(step, ())}
    if unread := [name for name in given if name not in read]:
        raise ConfigError(
            f"policy {policy}: reads no {', '.join(unread)}, want {', '.join(sorted(read)) or 'no options'}."
        )
    if policy == "drop" and options.fraction == 1:
        raise ConfigError(f"policy {policy}: fraction 1 drops every pair. Lower it.")
    if options.fraction is not None and {"smooth_band", "smooth_floor"} & {*given}:
        raise ConfigError("repair fraction: got a band of strengths, too. Name the share or the band.")


def repair(
    policy: str,
    strength: FloatArray,
    spread: FloatArray,
    wrong_probability: FloatArray,
    options: RepairOptions | None = None,
) -> Repair:
    """What the policy does to B pairs, from their strength, spread and wrong probability, all (B,).

    A preset is a policy with a paper's options; it takes no others.

    Raises:
        ConfigError: no policy of that name, or a preset with options.
        ShapeError: the three are not of one shape (B,).
        DataError: a value is not finite.
    """
    if policy in PRESETS:
        if options not in (None, RepairOptions()):
            raise ConfigError(
                f"policy {policy}: is a paper's, with its own options. Take {PRESETS[policy][0]} with yours."
            )
        policy, options = PRESETS[policy]
    if policy not in POLICIES:
        raise ConfigError(f"policy: got {policy!r}, want one of {', '.join((*POLICIES, *PRESETS))}.")
    check_pairs(strength=strength, spread=spread, wrong_probability=wrong_probability)
    none, zero = np.zeros(len(strength), dtype=bool), np.zeros(len(strength))
    action = np.full(len(strength), "keep")
    result = Repair(none, none, zero, zero, strength, spread, wrong_probability, action)
    for step in POLICIES[policy]:
        result = step(result, options or RepairOptions())
    return replace(result, action=_actions(result))


def most_doubtful(of: Repair, fraction: float | None) -> NDArray[np.bool_]:
    """Marks (B,) the given share of pairs likeliest to be wrong, of equally likely ones the weakest first; or
    those likelier wrong than right."""
    if fraction is None:
        return np.asarray(of.wrong_probability > 0.5)
    return first_of(np.lexsort((of.strength, -of.wrong_probability)), fraction)


def first_of(order: NDArray[np.intp], fraction: float) -> NDArray[np.bool_]:
    """Marks (B,) the given share of pairs that stand first in the order."""
    marked = np.zeros(len(order), dtype=bool)
    marked[order[: round(fraction * len(marked))]] = True
    return marked


def _actions(result: Repair) -> NDArray[np.str_]:
    parts = {
        "flip": result.flip,
        "smooth": result.flip_rate > 0,
        "margin": result.margin != 0,
        "drop": result.drop,
    }
    marks = np.stack(list(parts.values()), axis=1)
    names = np.array(["+".join(np.array(list(parts))[row]) or "keep" for row in np.unique(marks, axis=0)])
    return names[np.unique(marks, axis=0, return_inverse=True)[1].reshape(-1)]

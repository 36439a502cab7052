"""A cap learnt from held-out pairs: how far apart rewards may go, from how alike two responses are.

Training can't learn what limits it: it would lift the limit. So a linear reward model on frozen features
stands in for it. It is trained to the end on half of the pairs (4,000 at most) under a given cap, without
margin, flip rate or weight, and the cap is the one under which it has the least log loss on a further
quarter. The gradient of that through the trained weights is exact.
"""

from collections.abc import Collection, Mapping
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import solve
from scipy.optimize import minimize
from scipy.special import expit

from outweigh.errors import ConfigError
from outweigh.metrics.intervals import bootstrap_mean, choose_unit
from outweigh.objectives.caps import LEARNED, learned_cap

FloatArray = NDArray[np.float64]

FEWEST_PAIRS = 200
FOLDS = 5  # in which the stand-in's own strengths are found
MOST_PAIRS = 4000  # that the stand-in trains on: its cost is pairs * features^2
FEWEST_PROMPTS = 12  # with fewer, pairs are parted and not prompts
NEWTON_STEPS = 50  # under 10 as a rule
SMALL = 1e-9  # largest slope of a loss, in nats, that counts as none
RIDGE = "log_ridge"
START = {**LEARNED, RIDGE: -4.6}  # PCRM's fixed cap of 4.5; e^-4.6 = .01
BOUNDS = {
    "base": (-4.0, 20.0),
    "by_length": (0.0, 40.0),
    "by_cosine": (0.0, 40.0),
    "by_strength": (0.0, 10.0),
    RIDGE: (-9.0, 3.0),
}


class Pairs(NamedTuple):
    """Differences of the two texts' features, chosen - rejected, (B, H), and what a cap is a function of."""

    difference: FloatArray
    about: dict[str, torch.Tensor]  # (B,) float64 each

    def at(self, places: NDArray[np.int64]) -> "Pairs":
        """The pairs at these places."""
        return Pairs(self.difference[places], {name: column[places] for name, column in self.about.items()})


def fit_learned_cap(
    length_ratio: torch.Tensor,
    cosine: torch.Tensor,
    strength: torch.Tensor,
    feature_difference: torch.Tensor,
    prompt_number: torch.Tensor,
) -> tuple[dict[str, float], dict[str, Any]]:
    """Options of `learned_cap` of the least held-out log loss, and how it compares with the best constant.

    Columns are (B,), differences of features (B, H). The comparison is on the last quarter of the pairs,
    which chose neither: both log losses, and what the learnt cap saves, with its interval, in nats. The
    audit's strengths have seen every label, those of the last quarter too. So the stand-in is given
    strengths of its own, out of fold within the half that it trains on, brought to the level and spread of
    the audit's.

    Raises:
        ConfigError: fewer than 200 pairs.
    Source: ours, an answer to an open question of arXiv:2404.00978; gradients of a held-out loss through
        trained weights are those of Bengio 2000, gradient-based optimisation of hyper-parameters.
    """
    check_enough(len(strength))
    prompt_B = prompt_number.numpy().astype(np.int64)
    parts = _parts(prompt_B)
    scale = max(float(feature_difference.square().mean().sqrt()), 1e-12)
    about = {"length_ratio": length_ratio, "cosine": cosine, "strength": strength}
    train, choose, judge = (
        Pairs(
            feature_difference[places].double().numpy() / scale,
            {name: column[places].double() for name, column in about.items()},
        )
        for places in parts
    )
    train = train._replace(about=train.about | {"strength": own_strength(train, prompt_B[parts[0]])})
    learned = learn(train, choose, tuple(START))
    fixed = learn(train, choose, ("base", RIDGE))
    loss, loss_fixed = (
        np.logaddexp(0, -judge.difference @ trained(train, each)) for each in (learned, fixed)
    )
    saved = bootstrap_mean(loss_fixed - loss, choose_unit(prompt_B[parts[2]]))
    found = {
        "fixed_cap": float(_cap(fixed, judge)[0]),
        "log_loss": float(loss.mean()),
        "log_loss_fixed": float(loss_fixed.mean()),
        "saved": asdict(saved),
    }
    return {name: learned[name] for name in LEARNED}, found


def check_enough(pairs: int) -> None:
    """Nothing, if a cap can be learnt from so many pairs.

    Raises:
        ConfigError: they are fewer than 200.
    """
    if pairs < FEWEST_PAIRS:
        raise ConfigError(
            f"cap from 'learned': got {pairs} pairs, want {FEWEST_PAIRS} or more to learn from. Take "
            "cap: 4.5, or name the options that were learnt elsewhere."
        )


def own_strength(pairs: Pairs, prompt_B: NDArray[np.int64]) -> torch.Tensor:
    """Gap of each pair, (B,), by weights trained on no pair of its prompt, at the audit's level and spread of
    strength; where prompts are few, on other pairs alone."""
    _, own_B = np.unique(prompt_B, return_inverse=True)
    unit_B = own_B if own_B.max() + 1 >= FEWEST_PROMPTS else np.arange(len(own_B))
    fold_B = (np.random.default_rng(1).permutation(unit_B.max() + 1) % FOLDS)[unit_B]
    gap_B = np.empty(len(fold_B))
    for fold in range(FOLDS):
        weight = trained(pairs.at(np.flatnonzero(fold_B != fold)), START)
        gap_B[fold_B == fold] = pairs.difference[fold_B == fold] @ weight
    given_B = pairs.about["strength"].numpy()
    level = (gap_B - gap_B.mean()) / max(float(gap_B.std()), 1e-12)
    return torch.from_numpy(given_B.mean() + given_B.std() * level)


def learn(train: Pairs, choose: Pairs, free: Collection[str]) -> dict[str, float]:
    """START with the free settings of the least log loss on `choose` of weights trained on `train`."""
    names = list(free)

    def held_out(values: FloatArray) -> tuple[float, FloatArray]:
        settings = START | dict(zip(names, values.tolist(), strict=True))
        loss, slope = held_out_loss(train, choose, settings)
        return loss, np.array([slope[name] for name in names])

    found = minimize(
        held_out,
        np.array([START[name] for name in names]),
        jac=True,
        method="L-BFGS-B",
        bounds=[BOUNDS[name] for name in names],
        options={"maxiter": 25, "ftol": 1e-7},
    )
    return START | dict(zip(names, map(float, found.x), strict=True))


def held_out_loss(
    train: Pairs, choose: Pairs, settings: Mapping[str, float]
) -> tuple[float, dict[str, float]]:
    """Log loss in nats on `choose` of weights trained on `train` under the settings, and its slope by each.

    With w the trained weights, at which the training loss F has no slope, and G the held-out loss,

        dG/ds = -(grad_w G)' (grad_w grad_w F)^-1 (d/ds grad_w F)
    """
    weight = trained(train, settings)
    held_out = choose.difference @ weight
    slope_H = -choose.difference.T @ expit(-held_out) / len(held_out)
    ridge = np.exp(settings[RIDGE])
    gap, cap = train.difference @ weight, _cap(settings, train)
    direction_H = solve(_curvature(train.difference, gap, cap, ridge), slope_H, assume_a="pos")
    # d/dcap of a pair's slope sigma(gap - cap) is -sigma'(gap - cap)
    by_cap = train.difference @ direction_H * _sigmoid_slope(gap - cap) / len(gap)
    options = {
        name: torch.tensor(settings[name], dtype=torch.float64, requires_grad=True) for name in LEARNED
    }
    caps = learned_cap(**train.about, **options)
    slopes = torch.autograd.grad((caps * torch.from_numpy(by_cap)).sum(), list(options.values()))
    found = {name: float(slope) for name, slope in zip(options, slopes, strict=True)}
    return float(np.logaddexp(0, -held_out).mean()), found | {RIDGE: float(-ridge * direction_H @ weight)}


def trained(pairs: Pairs, settings: Mapping[str, float]) -> FloatArray:
    """Weights (H,) of the least capped loss, mean over pairs in nats, plus ridge / 2 times their square."""
    wide, ridge, cap = pairs.difference, np.exp(settings[RIDGE]), _cap(settings, pairs)

    def loss(weight: FloatArray) -> float:
        gap = wide @ weight
        each = np.logaddexp(0, -gap) + np.logaddexp(0, gap - cap)
        return float(each.mean() + ridge / 2 * weight @ weight)

    weight = np.zeros(wide.shape[1])
    for _ in range(NEWTON_STEPS):
        gap = wide @ weight
        slope = wide.T @ (expit(gap - cap) - expit(-gap)) / len(gap) + ridge * weight
        if np.abs(slope).max() < SMALL:
            break
        step = solve(_curvature(wide, gap, cap, ridge), slope, assume_a="pos")
        share, before, promised = 1.0, loss(weight), float(slope @ step)
        while share > 1e-6 and loss(weight - share * step) > before - 1e-4 * share * promised:
            share /= 2  # far from the least loss a whole step may lead past it
        weight = weight - share * step
    return weight


def _curvature(wide: FloatArray, gap: FloatArray, cap: FloatArray, ridge: float) -> FloatArray:
    bend = _sigmoid_slope(gap) + _sigmoid_slope(gap - cap)
    curvature: FloatArray = (wide.T * bend) @ wide / len(gap) + ridge * np.eye(wide.shape[1])
    return curvature


def _sigmoid_slope(value: FloatArray) -> FloatArray:
    slope: FloatArray = expit(value) * expit(-value)
    return slope


def _cap(settings: Mapping[str, float], pairs: Pairs) -> FloatArray:
    options = {name: torch.tensor(settings[name], dtype=torch.float64) for name in LEARNED}
    found: FloatArray = learned_cap(**pairs.about, **options).numpy()
    return found


def _parts(prompt_B: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Places of half of the pairs to train on, a quarter to choose by and one to judge by, prompts whole."""
    unit_B = prompt_B if len(np.unique(prompt_B)) >= FEWEST_PROMPTS else np.arange(len(prompt_B))
    units, inverse = np.unique(unit_B, return_inverse=True)
    rank_B = np.random.default_rng(0).permutation(len(units))[inverse]
    half, rest = len(units) // 2, 3 * len(units) // 4
    parts = [
        np.flatnonzero(which) for which in (rank_B < half, (half <= rank_B) & (rank_B < rest), rest <= rank_B)
    ]
    return [part[:: max(1, -(-len(part) // MOST_PAIRS))] for part in parts]

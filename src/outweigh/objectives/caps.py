"""Caps: the largest gap that a pair is allowed, from how alike its responses are (PCRM)."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import softplus

from outweigh.errors import ConfigError

PRESETS: dict[str, dict[str, tuple[float, float]]] = {
    "length": {"dialogue": (10.0, -5.0), "summarisation": (10.0, -5.0), "dialogue-dpo": (20.0, -15.0)},
    "cosine": {"dialogue": (20.0, -15.0), "summarisation": (30.0, -25.0), "dialogue-dpo": (30.0, -25.0)},
}
"""beta1 and beta3 of each feature and task. They add up to 5: responses that are alike are capped there."""
BETA2 = 0.001
LEARNED = {"base": 2.1, "by_length": 0.0, "by_cosine": 0.0, "by_strength": 0.0}
"""Options of `learned_cap` before anything is learnt: a cap of 4.5 on every pair, PCRM's fixed one."""
LEAST_LEARNED = 0.1  # nats
BINS = 20  # of similarity, with equally many pairs each, where the betas are fitted
HIGHEST_NOISE = 0.45  # of a bin: at one half the cap would be 0, and the loss would pull the gap there


def prior_cap(alike: Tensor, *, beta1: float, beta3: float, beta2: float = BETA2) -> Tensor:
    """Cap of each pair, (B,) in nats, from how alike its texts are, (B,) in [0, 1]: the more, the lower.

        cap = beta1 / (alike + beta2) + beta3

    Source: Zhou et al. 2024, arXiv:2404.00978, and the authors' code.
    """
    return beta1 / (alike + beta2) + beta3


def length_cap(
    length_ratio: Tensor,
    *,
    preset: str = "dialogue",
    beta1: float | None = None,
    beta2: float = BETA2,
    beta3: float | None = None,
) -> Tensor:
    """Cap from the shorter length over the longer, in tokens from where the responses first differ.

    `preset` is dialogue, summarisation or dialogue-dpo; beta1 and beta3 stand in place of the preset's.

    Raises:
        ConfigError: no such preset.
    Source: arXiv:2404.00978, authors' code.
    """
    beta1, beta3 = betas("length", preset, beta1, beta3)
    return prior_cap(length_ratio, beta1=beta1, beta2=beta2, beta3=beta3)


def cosine_cap(
    cosine: Tensor,
    *,
    form: str | None = None,
    preset: str = "dialogue",
    beta1: float | None = None,
    beta2: float = BETA2,
    beta3: float | None = None,
) -> Tensor:
    """Cap from the cosine of the two texts' embeddings, as an angular similarity or raw.

    `form` angular is what the authors' reward models use, raw what their DPO does; None: what the preset was
    made for. Both take a negative cosine for 0, where raw would divide by nothing. The presets were fitted to
    BERT's [CLS].

    Raises:
        ConfigError: no such form or preset.
    Source: arXiv:2404.00978, authors' code; the clamp of the raw form is ours.
    """
    beta1, beta3 = betas("cosine", preset, beta1, beta3)
    alike = similarity(cosine, form_of({"form": form, "preset": preset}))
    return prior_cap(alike, beta1=beta1, beta2=beta2, beta3=beta3)


def form_of(options: Mapping[str, Any]) -> str:
    """The form of `cosine_cap` with these options: angular, or raw as its presets of DPO are."""
    return options.get("form") or ("raw" if str(options.get("preset")).endswith("-dpo") else "angular")


def similarity(cosine: Tensor, form: str) -> Tensor:
    """The cosine in the form angular or raw, held at 0 or more.

    Raises:
        ConfigError: no such form.
    """
    if form not in ("angular", "raw"):
        raise ConfigError(f"cap from 'cosine', form: got {form!r}, want angular or raw.")
    return angular(cosine) if form == "angular" else cosine.clamp(min=0)


def angular(cosine: Tensor) -> Tensor:
    """1 - angle / pi of vectors with this cosine, which is held in [0, 1]: from 0.5 to 1."""
    return (math.pi - torch.arccos(cosine.clamp(0, 1))) / math.pi


def random_cap(item: Tensor, step: Tensor, *, low: float = 4.0, high: float = 5.0, seed: int = 0) -> Tensor:
    """Cap drawn evenly from [low, high), anew for each pair and step: what a cap gives without a feature.

    Equal seeds give equal draws, on however many devices. The paper draws from 4 to 5 in dialogue, from 5 to
    6 in summarisation.

    Raises:
        ConfigError: low is not above 0, or above high.
    Source: arXiv:2404.00978, ablation.
    """
    if not 0 < low <= high:
        raise ConfigError(f"cap from 'random': got low {low} and high {high}, want 0 < low <= high.")
    at = int(step)
    drawn = [np.random.default_rng((seed, at, place)).uniform(low, high) for place in item.tolist()]
    return torch.tensor(drawn, dtype=torch.float32, device=item.device)


def learned_cap(
    length_ratio: Tensor,
    cosine: Tensor,
    strength: Tensor,
    *,
    base: Tensor | float = LEARNED["base"],
    by_length: Tensor | float = LEARNED["by_length"],
    by_cosine: Tensor | float = LEARNED["by_cosine"],
    by_strength: Tensor | float = LEARNED["by_strength"],
) -> Tensor:
    """Cap of each pair, (B,) in nats: lower where responses are alike, higher where the label is sure.

        cap = .1 + 2 softplus(base - by_length * length_ratio - by_cosine * angular + by_strength * strength)

    With coefficients of 0 or more it is monotone in each; `angular` is of the cosine. Half of it is where the
    gap rests.

    Source: ours; what fits the coefficients is `objectives.learned.fit_learned_cap`.
    """
    room = base - by_length * length_ratio - by_cosine * angular(cosine) + by_strength * strength
    return LEAST_LEARNED + 2 * softplus(torch.as_tensor(room))


def betas(feature: str, preset: str, beta1: float | None, beta3: float | None) -> tuple[float, float]:
    """beta1 and beta3 as given, else the preset's.

    Raises:
        ConfigError: no such preset.
    """
    if preset not in PRESETS[feature]:
        known = ", ".join(PRESETS[feature])
        raise ConfigError(f"cap from {feature!r}, preset: got {preset!r}, want one of {known}.")
    first, third = PRESETS[feature][preset]
    return first if beta1 is None else beta1, third if beta3 is None else beta3


def betas_of_length(
    length_ratio: Tensor, wrong_probability: Tensor, *, beta2: float = BETA2, **others: Any
) -> tuple[dict[str, float], dict[str, Any]]:
    """The betas of `length_cap` that audited noise asks for: see `fitted_betas`."""
    return fitted_betas(length_ratio.numpy(), wrong_probability.numpy(), beta2=beta2), {}


def betas_of_cosine(
    cosine: Tensor, wrong_probability: Tensor, *, form: str = "angular", beta2: float = BETA2, **others: Any
) -> tuple[dict[str, float], dict[str, Any]]:
    """The betas of `cosine_cap` that audited noise asks for: see `fitted_betas`."""
    return fitted_betas(similarity(cosine, form).numpy(), wrong_probability.numpy(), beta2=beta2), {}


def fitted_betas(
    similarity_B: NDArray[Any], wrong_probability_B: NDArray[Any], *, beta2: float = BETA2
) -> dict[str, float]:
    """beta1 and beta3 for which a capped pair rests where its label's noise says.

    A capped gap rests at cap / 2, and labels of which a share e is wrong support a gap of logit(1 - e), so

        cap(s) = 2 logit(1 - e(s))

    with e(s) the mean wrong probability of pairs at similarity s. Both betas are the least squares line of
    that through 1 / (s + beta2), in bins of equally many pairs. Where noise does not rise with similarity
    beta1 is 0, and the cap constant.

    Source: ours; the derivation is in docs/papers.md.
    """
    order = np.argsort(similarity_B, kind="stable")
    bins = np.array_split(order, min(BINS, len(order)))
    noise = np.array([wrong_probability_B[each].mean() for each in bins]).clip(1e-4, HIGHEST_NOISE)
    asked = 2 * np.log((1 - noise) / noise)
    opening = np.array([(1 / (similarity_B[each] + beta2)).mean() for each in bins])
    spread = opening - opening.mean()
    slope = float(spread @ (asked - asked.mean()) / max(float(spread @ spread), 1e-12))
    beta1 = max(slope, 0.0)
    lowest = float((1 / (similarity_B + beta2)).min())  # the line must stay above 0 on every pair
    beta3 = float(asked.mean() - beta1 * opening.mean())
    return {"beta1": beta1, "beta3": max(beta3, float(asked.min()) / 2 - beta1 * lowest)}

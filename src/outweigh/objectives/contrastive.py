"""Contrastive terms on the features that the reward head reads, from two views of each text.

A view is one pass with its own dropout. The sample set H of a step has a row for each response, or with
`differences` for each pair's f_c - f_r and f_r - f_c. Of row i the *positive* is row i of the other view; the
*negatives* are all other rows of the other view: the same pair's other response among them.
"""

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, normalize

from outweigh.errors import ShapeError
from outweigh.objectives.shapes import at_least_float32


def signed_differences(feature_SH: Tensor) -> Tensor:
    """f_c - f_r and f_r - f_c in the places of f_c and f_r, (S, H), from rows that are c, r, c, r and so on.

    Source: Wang et al. 2024, arXiv:2401.06080, section 3.1, the sample set of its "-diff" forms.
    """
    difference_BH = feature_SH[::2] - feature_SH[1::2]
    return torch.stack([difference_BH, -difference_BH], 1).flatten(0, 1)


def simcse(view_SH: Tensor, other_SH: Tensor, *, temperature: float = 0.05) -> Tensor:
    """Loss of each row, (S,) in nats, from its features in two views, (S, H) each.

        -log( exp(cos(h_i, g_i) / temperature) / sum_j exp(cos(h_i, g_j) / temperature) )

    Raises:
        ShapeError: the views are not both of one shape (S, H).
    Source: Gao et al. 2021, arXiv:2104.08821, equation 4, as arXiv:2401.06080, section 3.1, takes it; there
        the temperature is not stated, 0.05 is SimCSE's own.
    """
    view_SH, other_SH = _unit(view_SH, other_SH)
    similarity_SS = view_SH @ other_SH.T / temperature
    return -log_softmax(similarity_SS, dim=1).diagonal()


def swav(
    view_SH: Tensor,
    other_SH: Tensor,
    prototype_KH: Tensor,
    *,
    temperature: float = 0.1,
    epsilon: float = 0.05,
    rounds: int = 3,
) -> Tensor:
    """Loss of each row, (S,) in nats: each view is to predict the prototype that the other is assigned to.

        -sum_k [ q_k log p'_k + q'_k log p_k ],   p = softmax(cos(h, c) / temperature)

    q, without gradient, is the `assignment` of the view to the prototypes c (K, H); primes mark the other
    view.

    Raises:
        ShapeError: the views are not both of one shape (S, H).
    Source: Caron et al. 2020, arXiv:2006.09882, equation 2 and its code, as arXiv:2401.06080, section 3.1,
        takes it; there temperature, epsilon and rounds are not stated, these are SwAV's own.
    """
    view_SH, other_SH = _unit(view_SH, other_SH)
    prototype_KH = normalize(at_least_float32(prototype_KH), dim=1)
    score_SK, other_SK = view_SH @ prototype_KH.T, other_SH @ prototype_KH.T
    target_SK = assignment(score_SK.detach(), epsilon=epsilon, rounds=rounds)
    other_target_SK = assignment(other_SK.detach(), epsilon=epsilon, rounds=rounds)
    predicted = target_SK * log_softmax(other_SK / temperature, dim=1)
    swapped = other_target_SK * log_softmax(score_SK / temperature, dim=1)
    return -(predicted + swapped).sum(1)


def assignment(score_SK: Tensor, *, epsilon: float = 0.05, rounds: int = 3) -> Tensor:
    """Shares of each row's prototypes, (S, K), rows summing to 1, all prototypes used about equally.

    Sinkhorn's iteration on exp(score / epsilon), columns first, rows last, so that rows sum to 1 exactly.

    Source: Cuturi 2013, arXiv:1306.0895; Caron et al. 2020, arXiv:2006.09882, section 3.1.
    """
    log_SK = at_least_float32(score_SK) / epsilon
    for _ in range(rounds):
        log_SK = log_SK - log_SK.logsumexp(0, keepdim=True)
        log_SK = log_SK - log_SK.logsumexp(1, keepdim=True)
    return log_SK.exp()


def _unit(view_SH: Tensor, other_SH: Tensor) -> tuple[Tensor, Tensor]:
    if view_SH.dim() != 2 or view_SH.shape != other_SH.shape:
        raise ShapeError(
            f"contrastive: got views {tuple(view_SH.shape)} and {tuple(other_SH.shape)}, want (S, H) twice."
        )
    return normalize(at_least_float32(view_SH), dim=1), normalize(at_least_float32(other_SH), dim=1)

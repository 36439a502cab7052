"""What the best of n responses is worth, for every n at once: over all choices of n of K, none drawn.

`value` is anything that a kept response has: its gold score, its chance to beat another one.
"""

from functools import cache

import numpy as np
from scipy.special import gammaln

from outweigh.metrics.arrays import FloatArray, IntArray, check_pairs


def expected_best(reward: FloatArray, value: FloatArray) -> FloatArray:
    """Expected value of the best by reward of n out of K responses, n = 1 ... K; reward and value are (K,).

        sum_i  C(i, n - 1) / C(K, n)  value of the response with i others below it

    Responses of equal reward are kept equally often, so each stands with the mean value of its equals.
    Source: order statistics; as an estimator of best-of-n, Nakano et al. 2021, arXiv:2112.09332, appendix I.
    """
    check_pairs(reward=reward, value=value)
    _, group, sizes = np.unique(reward, return_inverse=True, return_counts=True)
    means: FloatArray = np.bincount(group, weights=value) / sizes
    return _chances_NK(len(reward), 1) @ np.repeat(means, sizes)


def duel_chances(
    reward_a: FloatArray, reward_b: FloatArray, value: FloatArray, *, seed: int = 0
) -> FloatArray:
    """Chance that a's best of n has more value than b's best of the same n, ties a half, for n = 1 ... K.

    Where a keeps i and b keeps j of one choice of n, all others of it lie below i for a and below j for b.
    Equal rewards are put in an order by chance, one for each judge: with ties this is one draw, not the mean.
    """
    check_pairs(reward_a=reward_a, reward_b=reward_b, value=value)
    count = len(value)
    rank_a, rank_b = _ranks(reward_a, [seed, 0]), _ranks(reward_b, [seed, 1])
    below = np.zeros((count + 1, count + 1), dtype=np.int64)
    below[rank_a + 1, rank_b + 1] = 1
    below = below.cumsum(0).cumsum(1)  # [x, y]: responses of rank below x for a and below y for b
    both_KK = below[rank_a[:, None], rank_b[None, :]]
    # i has to lie below j for b, and j below i for a: each would be kept otherwise.
    apart_KK = (rank_a[:, None] > rank_a[None, :]) & (rank_b[:, None] < rank_b[None, :])
    won_KK = _wins_KK(value)
    together = np.bincount(both_KK.diagonal(), minlength=count) * 0.5
    different = np.bincount(both_KK[apart_KK], weights=won_KK[apart_KK], minlength=count)
    return _chances_NK(count, 1) @ together + _chances_NK(count, 2) @ different


def chance_against_random(value: FloatArray) -> FloatArray:
    """Chance of each response to have more value than one of the K drawn at random, ties a half, (K,)."""
    check_pairs(value=value)
    chance_K: FloatArray = _wins_KK(value).mean(axis=1)
    return chance_K


def divergence_bound(n: FloatArray | IntArray) -> FloatArray:
    """log n - (n - 1) / n nats: keeping the best of n is at most so far from the policy that is sampled.

    Source: Hilton and Gao 2022, Measuring Goodhart's law; that it is a bound, Beirami et al. 2024,
    arXiv:2401.01879.
    """
    return np.log(n) - (n - 1) / n


def _wins_KK(value: FloatArray) -> FloatArray:
    """1 where the row's value is above the column's, a half where they are equal."""
    return 0.5 * (np.sign(value[:, None] - value[None, :]) + 1.0)


def _ranks(reward: FloatArray, seed: list[int]) -> IntArray:
    """Rank of each response, 0 the lowest; equal ones in an order by chance."""
    chance = np.random.default_rng(seed).random(len(reward))
    ranks = np.empty(len(reward), dtype=np.int64)
    ranks[np.lexsort((chance, reward))] = np.arange(len(reward))
    return ranks


@cache
def _chances_NK(count: int, named: int) -> FloatArray:
    """[n - 1, i]: chance that of n responses out of `count` so many are named ones, and the rest of i others.

        C(i, n - named) / C(count, n)

    By log-gamma: C(1000, 500) is beyond a float.
    """
    n, others = np.arange(1, count + 1)[:, None], np.arange(count)[None, :]
    taken = n - named
    possible = (taken >= 0) & (taken <= others)
    rest = np.where(possible, others - taken, 0)
    logs = gammaln(others + 1) - gammaln(np.maximum(taken, 0) + 1) - gammaln(rest + 1)
    logs -= gammaln(count + 1) - gammaln(n + 1) - gammaln(count - n + 1)
    chances_NK: FloatArray = np.where(possible, np.exp(logs), 0.0)
    return chances_NK

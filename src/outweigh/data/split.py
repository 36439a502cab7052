"""Pairs put into groups that must not be torn apart, held-out parts and folds made of whole groups."""

import heapq
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from outweigh.data.checks import joint_ids
from outweigh.data.pairs import PairSet
from outweigh.errors import ConfigError, DataError

Unit = Literal["prompt", "text", "pair"]
UNITS: tuple[Unit, ...] = ("prompt", "text", "pair")  # from coarse to fine
MIN_GROUPS = 5  # with fewer, one group decides what is held out, and a fold is most of the data


class HeldOut(NamedTuple):
    """Places of the pairs to train on and to evaluate on, and the unit of which neither side shares one."""

    train: NDArray[np.int64]
    eval: NDArray[np.int64]
    unit: Unit


class Folds(NamedTuple):
    """The fold of each pair (B,), from 0 to k - 1, and the unit that no two folds share."""

    fold: NDArray[np.int64]
    unit: Unit


def group_ids(pairs: PairSet, by: Unit) -> NDArray[np.int64]:
    """The group of each pair (B,), numbered from 0.

    `prompt`: pairs of one prompt. `text`: pairs joined through responses that they share, however far.
    `pair`: the same two responses to the same prompt, whichever of them is chosen.
    """
    prompt_id, chosen_id, rejected_id = pairs.text_ids()
    if by == "prompt":
        return prompt_id
    if by == "pair":
        return joint_ids(prompt_id, np.minimum(chosen_id, rejected_id), np.maximum(chosen_id, rejected_id))
    if by != "text":
        raise ConfigError(f"by: got {by!r}, want one of {', '.join(UNITS)}.")
    texts = int(max(chosen_id.max(initial=-1), rejected_id.max(initial=-1))) + 1
    links = coo_array((np.ones(len(pairs), dtype=bool), (chosen_id, rejected_id)), shape=(texts, texts))
    _, component = connected_components(links, directed=False)
    _, group = np.unique(component[chosen_id], return_inverse=True)
    return group


def label_groups(pairs: PairSet) -> NDArray[np.int64]:
    """Groups of pairs (B,) of which one gives away the others' labels, numbered as they appear.

    Those are the pairs of one row, and the same two responses to the same prompt, whichever is chosen.
    Without K responses in a row and without repeats each pair is its own: 0 to B - 1.
    """
    _, row = np.unique(pairs.rows, return_inverse=True)
    pair = len(pairs) + group_ids(pairs, "pair")
    links = coo_array((np.ones(len(pairs), dtype=bool), (row, pair)), shape=(2 * len(pairs), 2 * len(pairs)))
    _, component = connected_components(links, directed=False)
    _, first, group = np.unique(component[row], return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[group]


def hold_out(pairs: PairSet, fraction: float, seed: int, by: Unit = "prompt") -> HeldOut:
    """About a `fraction` of the pairs held out in whole groups, drawn with `seed`.

    With fewer than 5 groups the next finer unit is taken: prompt, text, pair. Look at `unit` and say so.

    Raises:
        ConfigError: the fraction is not between 0 and 1.
        DataError: there are fewer than two groups of the finest unit.
    """
    if not 0 < fraction < 1:
        raise ConfigError(f"hold-out fraction: got {fraction}, want more than 0 and less than 1.")
    group, unit = _fine_enough(pairs, by, MIN_GROUPS, at_least=2)
    sizes = np.bincount(group)
    order = np.random.default_rng(seed).permutation(len(sizes))
    wanted = fraction * len(pairs)
    held, total = [], 0
    for each in order[:-1]:  # never all; a group that overshoots more than it helps is passed over
        if abs(total + sizes[each] - wanted) < abs(total - wanted):
            held.append(each)
            total += int(sizes[each])
    is_held = np.isin(group, held or [int(sizes.argmin())])
    return HeldOut(np.flatnonzero(~is_held), np.flatnonzero(is_held), unit)


def folds(pairs: PairSet, by: Unit, k: int, seed: int) -> Folds:
    """The pairs in k folds of about the same size, each made of whole groups.

    With fewer than 5 groups, or fewer than k, the next finer unit is taken. Look at `unit` and say so.

    Raises:
        ConfigError: k is less than 2.
        DataError: there are fewer than k groups of the finest unit.
    """
    if k < 2:
        raise ConfigError(f"folds: got {k}, want at least 2.")
    group, unit = _fine_enough(pairs, by, max(MIN_GROUPS, k), at_least=k)
    sizes = np.bincount(group)
    # The largest groups first, each into the emptiest fold; among equal sizes chance decides.
    order = np.lexsort((np.random.default_rng(seed).random(len(sizes)), -sizes))
    filled = [(0, number) for number in range(k)]
    fold_of_group = np.zeros(len(sizes), dtype=np.int64)
    for each in order:
        size, number = filled[0]
        fold_of_group[each] = number
        heapq.heapreplace(filled, (size + int(sizes[each]), number))
    return Folds(fold_of_group[group], unit)


def _fine_enough(pairs: PairSet, by: Unit, wanted: int, *, at_least: int) -> tuple[NDArray[np.int64], Unit]:
    """The groups by the coarsest unit, from `by` on, that has as many as wanted."""
    if by not in UNITS:
        raise ConfigError(f"by: got {by!r}, want one of {', '.join(UNITS)}.")
    for unit in UNITS[UNITS.index(by) :]:
        group = group_ids(pairs, unit)
        groups = int(group.max(initial=-1)) + 1
        if groups >= wanted:
            return group, unit
    if groups < at_least:
        raise DataError(f"pairs: got {groups} different ones, want at least {at_least} to split. Add data.")
    return group, "pair"

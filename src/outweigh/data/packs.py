"""Token ids -> packs in which what texts have in common at their beginning stands once."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

LEAST_SHARED = 8
"""Tokens; texts that share fewer at their beginning stand alone."""


class Tree(NamedTuple):
    """Texts that begin alike: `shared` tokens stand once, then of each text what is its own.

    A text that shares nothing is a tree of its own, with `shared` 0.
    """

    places: tuple[int, ...]
    """Of its texts, among those given."""
    shared: int
    own: tuple[int, ...]
    """Tokens of each text's own, one at least."""

    @property
    def tokens(self) -> int:
        """As they stand in a pack."""
        return self.shared + sum(self.own)


class Pack(NamedTuple):
    """One row of T tokens that holds whole trees, one after the other."""

    ids: NDArray[np.int64]  # (T,)
    positions: NDArray[np.int64]  # (T,) of each token in its text
    trees: tuple[Tree, ...]

    @property
    def places(self) -> list[int]:
        """Of its texts, in the order in which they stand in it."""
        return [place for tree in self.trees for place in tree.places]

    def rows(self) -> list[NDArray[np.int64]]:
        """Where in the pack each text's tokens stand, one array of its length a text."""
        found, start = [], 0
        for tree in self.trees:
            beginning, at = np.arange(start, start + tree.shared), start + tree.shared
            for own in tree.own:
                found.append(np.concatenate([beginning, np.arange(at, at + own)]))
                at += own
            start = at
        return found


def packs_of(ids: Sequence[Sequence[int]], max_tokens: int) -> list[Pack]:
    """The texts in packs of at most `max_tokens`, largest trees first; a longer text stands alone.

    Which texts begin alike is found from their tokens, whatever order they come in.
    """
    packs: list[Pack] = []
    waiting: list[Tree] = []
    size = 0
    for tree in sorted(trees_of(ids, max_tokens), key=lambda tree: -tree.tokens):
        if waiting and size + tree.tokens > max_tokens:
            packs.append(_packed(waiting, ids))
            waiting, size = [], 0
        waiting.append(tree)
        size += tree.tokens
    return [*packs, _packed(waiting, ids)] if waiting else packs


def trees_of(ids: Sequence[Sequence[int]], max_tokens: int) -> list[Tree]:
    """The texts as trees of at most `max_tokens`, so that as few tokens as may be stand twice."""
    order = sorted(range(len(ids)), key=lambda place: list(ids[place]))
    arrays = [np.asarray(ids[place]) for place in order]
    common = [common_beginning(*both) for both in pairwise(arrays)]
    found, at = [], 0
    for first, end, shared in best_runs([each if each >= LEAST_SHARED else 0 for each in common]):
        found += [_tree(order[place : place + 1], 0, ids) for place in range(at, first)]
        found += [_tree(part, shared, ids) for part in _parts(order[first:end], shared, ids, max_tokens)]
        at = end
    return found + [_tree(order[place : place + 1], 0, ids) for place in range(at, len(order))]


def common_beginning(one: NDArray[np.int64], other: NDArray[np.int64]) -> int:
    """How many tokens two texts share from the first on; of each text at least its last one is its own."""
    most = min(len(one), len(other)) - 1
    unlike = one[:most] != other[:most]
    return int(unlike.argmax()) if unlike.any() else max(0, most)


def best_runs(common: Sequence[int]) -> list[tuple[int, int, int]]:
    """The runs of N sorted texts that save the most tokens if each stands together: (first, end, shared).

    `common` (N - 1,) is what neighbours share; a run shares the least of what its neighbours do, and of n
    texts saves n - 1 times that. Runs of one text are left out.
    """
    texts = len(common) + 1
    saved = np.zeros(texts + 1)  # by the first texts
    begun = np.zeros(texts + 1, dtype=np.int64)  # where their last run begins
    shared = np.full(texts, np.iinfo(np.int64).max)  # by a run from each text to the present one
    for last in range(texts):
        if last:
            shared[:last] = np.minimum(shared[:last], common[last - 1])
        with_run = np.append(saved[:last] + np.arange(last, 0, -1) * shared[:last], saved[last])
        begun[last + 1] = last - with_run[::-1].argmax()  # of equal ones the shortest run
        saved[last + 1] = with_run.max()
    runs, end = [], texts
    while end:
        first = int(begun[end])
        if end - first > 1:
            runs.append((first, end, int(min(common[first : end - 1]))))
        end = first
    return runs[::-1]


def _parts(
    places: Sequence[int], shared: int, ids: Sequence[Sequence[int]], max_tokens: int
) -> Iterator[list[int]]:
    """The texts of a run, cut where one tree of them would pass `max_tokens`."""
    part: list[int] = []
    size = shared
    for place in places:
        own = len(ids[place]) - shared
        if part and size + own > max_tokens:
            yield part
            part, size = [], shared
        part.append(place)
        size += own
    yield part


def _tree(places: Sequence[int], shared: int, ids: Sequence[Sequence[int]]) -> Tree:
    shared = shared if len(places) > 1 else 0
    return Tree(tuple(places), shared, tuple(len(ids[place]) - shared for place in places))


def _packed(trees: Sequence[Tree], ids: Sequence[Sequence[int]]) -> Pack:
    tokens: list[Sequence[int]] = []
    positions = []
    for tree in trees:
        tokens.append(ids[tree.places[0]][: tree.shared])
        positions.append(np.arange(tree.shared))
        for place, own in zip(tree.places, tree.own, strict=True):
            tokens.append(ids[place][tree.shared :])
            positions.append(np.arange(tree.shared, tree.shared + own))
    flat = np.concatenate([np.asarray(each, dtype=np.int64) for each in tokens])
    return Pack(flat, np.concatenate(positions), tuple(trees))

"""Packs: what texts share at their beginning stands once, and every text is whole in them."""

from itertools import pairwise

import numpy as np
import pytest

from outweigh.data.packs import LEAST_SHARED, best_runs, common_beginning, packs_of, trees_of


def some_texts(rng, prompts=6, most=4, longest=40):
    texts = []
    for _ in range(prompts):
        prompt = rng.integers(0, 5, rng.integers(1, longest)).tolist()
        for _ in range(rng.integers(1, most)):
            texts.append([*prompt, *rng.integers(0, 5, rng.integers(1, longest)).tolist()])
    order = rng.permutation(len(texts))
    return [texts[place] for place in order]


@pytest.mark.parametrize("budget", [1, 50, 150, 10_000])
def test_every_text_is_whole_in_one_pack_and_positions_are_those_in_the_text(budget):
    rng = np.random.default_rng(budget)
    for _ in range(20):
        texts = some_texts(rng)
        seen = []
        for pack in packs_of(texts, budget):
            assert len(pack.ids) == sum(tree.tokens for tree in pack.trees)
            assert len(pack.ids) <= budget or len(pack.places) == 1
            for place, row in zip(pack.places, pack.rows(), strict=True):
                assert pack.ids[row].tolist() == texts[place]
                assert pack.positions[row].tolist() == list(range(len(texts[place])))
                seen.append(place)
        assert sorted(seen) == list(range(len(texts)))


def test_two_responses_share_their_prompt_and_what_they_begin_with():
    prompt = list(range(20))
    (tree,) = trees_of([[*prompt, 1, 2, 3], [*prompt, 1, 5]], 100)
    assert (tree.shared, sorted(tree.own)) == (21, [1, 2])


def test_a_text_keeps_a_token_of_its_own_even_where_another_goes_on_from_it():
    text = list(range(20))
    (tree,) = trees_of([[*text, 7], text], 100)
    assert (tree.shared, sorted(tree.own)) == (19, [1, 2])
    (tree,) = trees_of([text, text], 100)
    assert (tree.shared, tree.own) == (19, (1, 1))


def test_a_short_beginning_that_all_have_makes_no_tree():
    template = list(range(LEAST_SHARED - 1))
    assert [tree.shared for tree in trees_of([[*template, 90], [*template, 91]], 100)] == [0, 0]


def test_a_prompt_is_repeated_where_its_responses_do_not_fit_one_pack():
    prompt = list(range(30))
    trees = trees_of([[*prompt, n, n, n] for n in range(100, 110)], 40)
    assert [tree.tokens for tree in trees] == [39, 39, 39, 33]
    assert [tree.shared for tree in trees] == [30, 30, 30, 0]


def test_nothing_makes_no_pack():
    assert packs_of([], 100) == []


def saving(common, borders):
    return sum((b - a - 1) * min(common[a : b - 1]) for a, b in pairwise(borders) if b - a > 1)


def every_cut(texts):
    for mask in range(2 ** (texts - 1)):
        yield [0, *(n + 1 for n in range(texts - 1) if mask >> n & 1), texts]


def test_no_other_runs_save_more():
    rng = np.random.default_rng(0)
    for _ in range(200):
        common = rng.choice([0, 1, 5, 9, 100], rng.integers(0, 8)).tolist()
        runs = best_runs(common)
        saved = sum((end - first - 1) * shared for first, end, shared in runs)
        assert saved == max(saving(common, cut) for cut in every_cut(len(common) + 1))
        assert all(shared == min(common[first : end - 1]) for first, end, shared in runs)


def test_what_two_texts_begin_with():
    rows = [np.array(each) for each in ([1, 2, 3, 4], [1, 2, 9, 9], [5], [1, 2, 3, 4, 5])]
    assert common_beginning(rows[0], rows[1]) == 2
    assert common_beginning(rows[0], rows[2]) == 0
    assert common_beginning(rows[0], rows[3]) == 3

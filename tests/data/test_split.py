import numpy as np
import pytest

from outweigh.data.pairs import PairSet
from outweigh.data.split import folds, group_ids, hold_out, label_groups
from outweigh.errors import ConfigError, DataError


def pairs(*triples):
    return PairSet.from_rows([{"prompt": p, "chosen": c, "rejected": r} for p, c, r in triples])


def many(prompts, each=4):
    """Pairs of unlike texts, so many to each prompt."""
    return pairs(*((f"p{p}", f"c{p}.{n}", f"r{p}.{n}") for p in range(prompts) for n in range(each)))


def same(groups, first, second):
    return groups[first] == groups[second]


def test_groups_join_what_shares_a_prompt_a_text_or_both_texts():
    data = pairs(("p", "a", "b"), ("p", "c", "d"), ("q", "b", "e"), ("q", "e", "f"), ("p", "b", "a"))
    by_prompt = group_ids(data, "prompt")
    assert same(by_prompt, 0, 1) and not same(by_prompt, 1, 2)
    by_text = group_ids(data, "text")  # a-b, b-e, e-f are one component, c-d another
    assert same(by_text, 0, 3) and not same(by_text, 0, 1)
    by_pair = group_ids(data, "pair")
    assert same(by_pair, 0, 4) and len(set(by_pair)) == 4  # the same two texts with the other label


def test_pairs_of_one_row_and_repeats_in_either_order_give_away_each_others_labels():
    ranked = [{"prompt": "p", "responses": ["a", "b", "c"], "ranks": [1, 2, 3]}]
    two_rows = PairSet.from_rows([*ranked, ranked[0] | {"prompt": "q"}])
    assert label_groups(two_rows).tolist() == [0] * 3 + [1] * 3
    assert label_groups(PairSet.from_rows(ranked * 2)).tolist() == [0] * 6  # the row stands twice
    data = pairs(("q", "z", "y"), ("p", "a", "b"), ("p", "c", "d"), ("p", "b", "a"), ("o", "a", "b"))
    assert label_groups(data).tolist() == [0, 1, 2, 1, 3]  # of one prompt, but not of one pair of texts


def test_without_repeats_each_pair_is_a_group_of_its_own_in_the_datas_order():
    assert label_groups(many(prompts=20)).tolist() == list(range(80))


def test_a_held_out_part_shares_no_prompt_and_has_its_size():
    data = many(prompts=50)
    split = hold_out(data, 0.1, seed=3)
    assert split.unit == "prompt"
    assert len(split.eval) == 20
    assert sorted([*split.train, *split.eval]) == list(range(200))
    prompt = group_ids(data, "prompt")
    assert not set(prompt[split.train]) & set(prompt[split.eval])


def test_the_same_seed_holds_out_the_same_and_another_one_does_not():
    data = many(prompts=50)
    assert hold_out(data, 0.1, seed=3).eval.tolist() == hold_out(data, 0.1, seed=3).eval.tolist()
    assert hold_out(data, 0.1, seed=3).eval.tolist() != hold_out(data, 0.1, seed=4).eval.tolist()


def test_one_constant_prompt_falls_back_to_texts():
    data = pairs(*(("p", f"c{n}", f"r{n}") for n in range(40)))
    assert hold_out(data, 0.1, seed=0).unit == "text"
    assert folds(data, "prompt", 5, seed=0).unit == "text"


def test_one_prompt_and_texts_that_all_hang_together_fall_back_to_pairs():
    data = pairs(*(("p", f"t{n}", f"t{n + 1}") for n in range(40)))
    split = hold_out(data, 0.25, seed=0)
    assert (split.unit, len(split.eval)) == ("pair", 10)


def test_folds_are_whole_groups_of_about_one_size():
    data = many(prompts=23)
    found = folds(data, "prompt", 5, seed=1)
    assert found.unit == "prompt"
    prompt = group_ids(data, "prompt")
    assert all(len(set(found.fold[prompt == each])) == 1 for each in set(prompt))
    assert sorted(np.bincount(found.fold)) == [16, 16, 20, 20, 20]  # 23 prompts of 4 in 5 folds


def test_more_folds_than_groups_take_the_finer_unit():
    assert folds(many(prompts=6), "prompt", 10, seed=0).unit == "text"


def test_a_large_group_is_not_held_out_for_a_small_fraction():
    rows = [("big", f"c{n}", f"r{n}") for n in range(90)] + [(f"p{n}", f"x{n}", f"y{n}") for n in range(10)]
    for seed in range(20):
        assert 4 <= len(hold_out(pairs(*rows), 0.05, seed=seed).eval) <= 6


def test_however_much_is_held_out_something_is_left_to_train_on():
    split = hold_out(many(prompts=5, each=1), 0.95, seed=0)
    assert (len(split.train), len(split.eval)) == (1, 4)


def test_what_can_not_be_split_is_refused():
    with pytest.raises(DataError, match="got 1 different ones, want at least 2"):
        hold_out(pairs(("p", "a", "b"), ("p", "b", "a")), 0.5, seed=0)
    with pytest.raises(ConfigError, match=r"fraction: got 1.0"):
        hold_out(many(5), 1.0, seed=0)
    with pytest.raises(ConfigError, match="folds: got 1"):
        folds(many(5), "prompt", 1, seed=0)
    with pytest.raises(ConfigError, match="by: got 'topic', want one of prompt, text, pair"):
        folds(many(5), "topic", 2, seed=0)

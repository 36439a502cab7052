from outweigh.data.checks import check_pairs_data
from outweigh.data.pairs import PairSet


def pairs(*triples, **options):
    return PairSet.from_rows([{"prompt": p, "chosen": c, "rejected": r} for p, c, r in triples], **options)


def test_what_reading_dropped_is_counted():
    rows = [
        {"prompt": "p", "responses": ["a", "b", "a", ""], "ranks": [1, 2, 2, 3]},
        {"prompt": "p", "responses": ["a", "b"], "ranks": [1, float("nan")]},
    ]
    checks = check_pairs_data(PairSet.from_rows(rows, on_bad_rows="skip"))
    # Six pairs: b and the second a are tied, the two a are identical, the last response makes three empty.
    assert (checks.rows, checks.bad_rows, checks.pairs) == (2, 1, 1)
    assert (checks.tied, checks.identical, checks.empty, checks.dropped) == (1, 1, 3, 5)


def test_duplicates_and_contradictions_are_counted_under_their_prompt():
    checks = check_pairs_data(
        pairs(("p", "a", "b"), ("p", "a", "b"), ("p", "b", "a"), ("q", "b", "a"), ("q", "c", "a"))
    )
    assert checks.duplicate == 1  # the second
    assert checks.contradictory == 3  # the first three; under q nothing contradicts
    assert (checks.prompts, checks.texts) == (2, 3)


def test_length_bias_is_the_share_of_longer_chosen_with_ties_as_half():
    checks = check_pairs_data(
        pairs(("p", "aaaa", "b"), ("p", "aa", "bb"), ("p", "a", "bbb"), ("p", "aaa", "b"))
    )
    assert checks.longer_chosen == (1 + 0.5 + 0 + 1) / 4
    assert checks.mean_chosen_characters == (4 + 2 + 1 + 3) / 4
    assert checks.mean_rejected_characters == (1 + 2 + 3 + 1) / 4


def test_prompts_shared_with_the_evaluation_are_counted_and_shown():
    train = pairs(("p", "a", "b"), ("q", "a", "b"), ("r", "a", "b"))
    held_out = pairs(("s", "a", "b"), ("q", "c", "d"), ("q", "e", "f"), ("p", "c", "d"))
    checks = check_pairs_data(train, held_out)
    assert (checks.shared_prompts, checks.eval_pairs_shared) == (2, 3)
    assert checks.shared_examples == ["q", "p"]


def test_pairs_without_a_prompt_share_none():
    bare = PairSet.from_rows([{"chosen": "a", "rejected": "b"}])
    assert check_pairs_data(bare, bare).shared_prompts == 0


def test_checks_are_a_plain_dict_with_what_was_not_read():
    row = {"prompt": "p", "chosen": "a", "rejected": "b", "margins": 1.0}
    found = check_pairs_data(PairSet.from_rows([row])).to_dict()
    assert found["unread_columns"] == {"margins": "margin"}
    assert (found["pairs"], found["dropped"]) == (1, 0)

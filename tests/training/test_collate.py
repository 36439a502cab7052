"""A batch, and the parts of it that have a backward pass each."""

import torch

from outweigh.training.collate import Collator, parts, responses


def a_batch():
    """Five items of two or three responses, whose tokens tell item and response."""
    sizes, tokens = [2, 3, 2, 2, 3], [4, 30, 7, 1, 12]
    examples = [
        {
            "item": item,
            "response_ids": [[100 * item + place] * (count + place) for place in range(size)],
            "response_starts": [place for place in range(size)],
            "ranks": [10.0 * item + place for place in range(size)],
        }
        for item, (size, count) in enumerate(zip(sizes, tokens, strict=True))
    ]
    return Collator({"margin": [0.0, 1.0, 2.0, 3.0, 4.0]})(examples)


def test_parts_have_each_item_once_with_all_that_is_its_own():
    batch = a_batch()
    found = parts(batch, 40)
    assert len(found) > 2
    assert sorted(int(item) for part in found for item in part["item"]) == [0, 1, 2, 3, 4]
    for part in found:
        assert part.keys() == batch.keys()
        assert part["column_margin"].tolist() == part["item"].tolist()
        texts, at = responses(part), 0
        for item, size in zip(part["item"].tolist(), part["sizes"].tolist(), strict=True):
            assert [text[0] for text in texts[at : at + size]] == [
                100 * item + place for place in range(size)
            ]
            assert part["starts"][at : at + size].tolist() == list(range(size))
            assert part["ranks"][at : at + size].tolist() == [10 * item + place for place in range(size)]
            at += size
        assert at == len(texts) == len(part["lengths"])


def test_a_batch_within_the_budget_is_left_as_it_is():
    batch = a_batch()
    assert parts(batch, 10_000) == [batch]


def test_an_item_over_the_budget_stands_alone():
    assert [len(part["item"]) for part in parts(a_batch(), 1)] == [1] * 5


def test_parts_are_of_like_size():
    rows = torch.arange(16)
    batch = Collator({})(
        [
            {"item": int(row), "response_ids": [[1] * 10] * 2, "response_starts": [1, 1], "ranks": [0, 1]}
            for row in rows
        ]
    )
    assert [len(part["ids"]) for part in parts(batch, 300)] == [160, 160]


def test_where_a_forward_shares_a_beginning_counts_once():
    beginning = list(range(100))
    examples = [
        {"response_ids": [[*beginning, 200 + n], [*beginning, 300 + n]], "item": n}
        | {"response_starts": [100, 100], "ranks": [0.0, 1.0]}
        for n in range(4)
    ]
    batch = Collator({})(examples)
    assert [len(part["item"]) for part in parts(batch, 210)] == [1, 1, 1, 1]  # 202 tokens each
    assert [len(part["item"]) for part in parts(batch, 210, shares=True)] == [2, 2]  # 102

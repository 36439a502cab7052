import numpy as np
import pytest

from outweigh.data.pairs import PairSet
from outweigh.errors import ConfigError, ShapeError
from outweigh.evaluation.facts import PairFacts


def row(prompt="p", chosen="longer", rejected="short", **columns):
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected, **columns}


def test_prompts_lengths_and_sources_come_from_the_pairs():
    facts = PairFacts.of(
        PairSet.from_rows(
            [row("one", source="web"), row("two", "é", source="crowd"), row("one", "b", source="web")]
        )
    )
    assert facts.prompt_ids[0] == facts.prompt_ids[2] != facts.prompt_ids[1]
    assert facts.chosen_characters.tolist() == [6, 1, 1]
    assert facts.longer_by.tolist() == [6 - 5, 1 - 5, 1 - 5]
    assert facts.source.tolist() == ["web", "crowd", "web"]
    assert facts.grades == {}


def test_votes_become_a_share_of_all_votes_cast():
    pairs = PairSet.from_rows(
        [
            row(votes_chosen=3, votes_rejected=1, votes_equal=1),
            row(votes_chosen=0, votes_rejected=0, votes_equal=0),
        ]
    )
    votes = PairFacts.of(pairs).grades["votes"]
    assert votes[0] == pytest.approx((3 - 1) / 5)
    assert np.isnan(votes[1])  # nobody voted: no grade, not a tie


def test_without_a_column_of_equal_votes_there_were_none():
    votes = PairFacts.of(PairSet.from_rows([row(votes_chosen=3, votes_rejected=1)])).grades["votes"]
    assert votes.tolist() == [(3 - 1) / 4]


def test_ratings_become_their_difference():
    facts = PairFacts.of(PairSet.from_rows([row(rating_chosen=4.5, rating_rejected=2.0)]))
    assert facts.grades["ratings"].tolist() == [2.5]


def test_a_named_column_is_a_grade_of_its_own():
    pairs = PairSet.from_rows([row(grade=2), row(grade=1)], keep=["grade"])
    assert PairFacts.of(pairs).grades == {}
    assert PairFacts.of(pairs, grade="grade").grades["grade"].tolist() == [2, 1]


def test_a_grade_that_is_no_column_of_numbers_is_refused():
    pairs = PairSet.from_rows([row(source="web")])
    with pytest.raises(ConfigError, match=r"grade 'rank': there is no such column, got source, want"):
        PairFacts.of(pairs, grade="rank")
    with pytest.raises(ConfigError, match=r"grade 'source': the column holds no numbers"):
        PairFacts.of(pairs, grade="source")


def test_facts_of_different_pairs_do_not_go_together():
    with pytest.raises(ShapeError, match=r"votes \(2,\)"):
        PairFacts(np.arange(3), np.ones(3), np.ones(3), grades={"votes": np.ones(2)})
    with pytest.raises(ShapeError, match=r"source \(2,\)"):
        PairFacts(np.arange(3), np.ones(3), np.ones(3), source=np.array(["a", "b"]))

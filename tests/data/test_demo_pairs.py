import gzip
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture(scope="module")
def script():
    sys.path.insert(0, str(SCRIPTS))
    import make_demo_pairs

    yield make_demo_pairs
    sys.path.remove(str(SCRIPTS))


@pytest.fixture(scope="module")
def rules(script):
    import demo_constraints

    return demo_constraints


@pytest.fixture(scope="module")
def splits(script):
    return script.read("train"), script.read("eval")


def test_the_committed_pairs_pass_every_rule_of_the_script(script, splits):
    assert script.complaints(*splits) == []


def test_a_fifth_of_1600_training_labels_is_planted_wrong(splits):
    train, held_out = splits
    assert len(train) == 1600 and len(held_out) == 1200
    assert sum(row["planted_flip"] for row in train) == 320


def test_a_label_turned_round_is_found(script, splits):
    train, held_out = splits
    row = held_out[0]
    turned = [row | {"chosen": row["rejected"], "rejected": row["chosen"]}, *held_out[1:]]
    assert script.complaints(train, turned) == [f"{row['id']}: the rule does not find the label right"]


def test_a_prompt_in_both_splits_is_found(script, splits):
    train, held_out = splits
    row = train[0]
    assert "an instruction occurs twice" in script.complaints(train, [*held_out, row])


def test_equal_rows_are_written_as_equal_bytes(script, tmp_path):
    rows = [{"prompt": "é", "chosen": "a", "rejected": "b"}]
    script.write(tmp_path / "one.gz", rows)
    script.write(tmp_path / "two.gz", rows)
    content = (tmp_path / "one.gz").read_bytes()
    assert content == (tmp_path / "two.gz").read_bytes()
    assert content[4:8] == bytes(4)  # gzip's time of writing
    assert gzip.decompress(content).decode() == '{"prompt": "é", "chosen": "a", "rejected": "b"}\n'


def test_equal_lengths_count_half_for_the_length_rule(script):
    def row(chosen, rejected, flipped):
        return {"chosen": chosen, "rejected": rejected, "planted_flip": flipped}

    # Longer is right; equal; flipped, so the right one is "d" and shorter: (1 + 1/2 + 0) / 3.
    rows = [row("aa", "b", False), row("a", "b", False), row("cc", "d", True)]
    assert script.length_rule(rows) == 0.5


@pytest.mark.parametrize(
    ("rule", "kept", "broken", "doubtful"),
    [
        ("numbered_list", "1. One.\n2. Two.", "One. Two.", "- One.\n- Two."),
        ("question", "Do cats sleep?", "Cats sleep.", "Do cats sleep? They do."),
        ("casual", "Yo, cats are cool!", "The cat is a mammal.", "Cats are cool."),
        ("praise", "Cats are wonderful.", "Cats are terrible.", "Cats are not wonderful."),
        ("first_person", "I see a cat.", "The cat sees.", "We see a cat."),
        ("future", "The cat will sleep.", "The cat was asleep.", "The cat is asleep."),
    ],
)
def test_a_rule_tells_kept_from_broken_and_leaves_doubt_alone(rules, rule, kept, broken, doubtful):
    judge = getattr(rules, rule)
    assert [judge(kept), judge(broken), judge(doubtful)] == [True, False, None]


def test_rules_with_a_word_or_a_number(rules):
    assert rules.has_word("The quiet cat.", "quiet") is True
    assert rules.has_word("The loud cat.", "quiet") is False
    assert rules.has_word("The cat sleeps quietly.", "quiet") is None
    assert rules.begins_with("Every cat sleeps.", "Every") is True
    assert rules.begins_with("A cat sleeps.", "Every") is False
    assert rules.begins_with("Everywhere cats sleep.", "Every") is None
    assert rules.names_first("A cat and a dog.", "cat", "dog") is True
    assert rules.names_first("A cat and a dog.", "dog", "cat") is False
    assert rules.names_first("A cat, a dog, a cat.", "cat", "dog") is None
    assert rules.counts_to("One. Two. Three.", 3) is True
    assert rules.counts_to("One. Two.", 3) is False
    assert rules.counts_to("Dr. No came. Two.", 3) is None


def test_every_example_shown_to_the_model_keeps_its_own_side_and_breaks_the_other(rules):
    for kind, examples in rules.EXAMPLES.items():
        for topic, number, *answers in examples:
            one, other = rules.written(kind, f"Describe {topic} briefly.", topic, number)
            assert [one.judge(text) for text in answers] == [True, False], kind
            assert [other.judge(text) for text in answers] == [False, True], kind

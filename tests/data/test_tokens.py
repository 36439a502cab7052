import pytest
from transformers import AutoTokenizer

from outweigh.data.config import TokenConfig
from outweigh.data.records import Message
from outweigh.data.rendering import Renderer
from outweigh.data.tokens import Encoded, Item, encode, tokenise, truncate
from outweigh.errors import DataError
from outweigh.models.bundled import checkpoint_folder


@pytest.fixture(scope="module")
def renderer():
    return Renderer(AutoTokenizer.from_pretrained(checkpoint_folder("minilm")))


def item(prompt, *responses):
    texts = tuple((Message("assistant", response),) for response in responses)
    ranks = tuple(float(rank) for rank in range(len(texts)))
    return Item((Message("user", prompt),), texts, ranks, "pairs.jsonl:1")


def tokenised(items, renderer, tmp_path, **settings):
    return tokenise(items, renderer, TokenConfig(**settings), key="test", cache_dir=tmp_path)


def test_the_prompt_ends_where_the_response_begins(renderer):
    text = encode([((Message("user", "Name a prime."),), (Message("assistant", "Seven."),))], renderer)[0]
    tokens = renderer.tokenizer.convert_ids_to_tokens(text.ids)
    assert tokens[: text.start] == ["[CLS]", "user", ":", "name", "a", "prime", ".", "assistant", ":"]
    assert tokens[text.start :] == ["seven", ".", "[SEP]"]
    assert text.suffix == 1


def test_the_prompt_is_cut_from_the_left_before_the_response_is_touched():
    text = Encoded(ids=[0, 1, 2, 3, 10, 11, 12, 99], start=4, suffix=1)
    assert truncate(text, 8) == text
    assert truncate(text, 6) == Encoded([0, 3, 10, 11, 12, 99], start=2, suffix=1, cut_prompt=2)


def test_a_response_is_cut_from_the_right_and_keeps_what_closes_it():
    text = Encoded(ids=[0, 1, 2, 3, 10, 11, 12, 99], start=4, suffix=1)
    assert truncate(text, 4) == Encoded([0, 10, 11, 99], start=1, suffix=1, cut_prompt=3, cut_response=1)


def test_a_million_characters_are_cut_to_the_limit_and_counted(renderer, tmp_path):
    long = "word " * 200_000
    found = tokenised(
        [item("Why?", long, "Because."), item(long, "Yes.", "No.")], renderer, tmp_path, max_tokens=64
    )
    assert max(len(ids) for row in found.dataset["response_ids"] for ids in row) == 64
    assert found.counts.truncated_responses == 1
    assert found.counts.truncated_prompts == 3  # the short prompt of the long response, the long one twice


def test_pairs_that_truncation_makes_identical_are_dropped_and_counted(renderer, tmp_path):
    same = "one two three four five six seven eight nine ten "
    items = [item("Why?", same + "yes", same + "no"), item("Why?", "yes", "no")]
    found = tokenised(items, renderer, tmp_path, max_tokens=10)
    assert found.counts.dropped_identical == 1
    assert found.dataset["item"][:] == [1]


def test_long_pairs_are_dropped_or_refused_where_that_is_asked(renderer, tmp_path):
    items = [item("Why?", "word " * 50, "no"), item("Why?", "yes", "no")]
    found = tokenised(items, renderer, tmp_path, max_tokens=20, on_long="drop")
    assert (found.counts.dropped_long, found.counts.truncated_responses, len(found.dataset)) == (1, 0, 1)
    with pytest.raises(DataError, match=r"pairs.jsonl:1: \d+ tokens, want at most 20. Raise max_tokens"):
        tokenised(items, renderer, tmp_path, max_tokens=20, on_long="error")


def test_nothing_left_is_an_error_that_says_why(renderer, tmp_path):
    with pytest.raises(DataError, match="no pair is left of 1; 1 were longer than 20"):
        tokenised([item("Why?", "word " * 50, "no")], renderer, tmp_path, max_tokens=20, on_long="drop")


def test_k_responses_keep_their_ranks(renderer, tmp_path):
    found = tokenised([item("Why?", "a", "b", "c")], renderer, tmp_path)
    assert found.dataset[0]["ranks"] == [0.0, 1.0, 2.0]
    assert [len(ids) for ids in found.dataset[0]["response_ids"]] == [
        9,
        9,
        9,
    ]  # [CLS] user : why ? assistant : a [SEP]


def test_a_second_call_reads_the_cache_and_other_settings_do_not(renderer, tmp_path):
    items = [item("Why?", "yes", "no")]
    tokenised(items, renderer, tmp_path)
    assert len(tokenised(iter(()), renderer, tmp_path).dataset) == 1  # no item was asked for
    with pytest.raises(DataError, match="no pair is left of 0"):
        tokenised(iter(()), renderer, tmp_path, max_tokens=100)

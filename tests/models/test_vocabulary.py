"""The rows of a table that the data uses are trained as in the whole table; the others stay as they are."""

import datasets
import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM

from outweigh.models.batches import read_texts
from outweigh.models.loading import load_classifier, load_tokenizer, reward_layer
from outweigh.models.vocabulary import UsedRows, tokens_used, training_rows

USED = np.arange(3, 40)
EXAMPLES = [
    datasets.Dataset.from_dict({"response_ids": [[part.tolist()]]}) for part in (USED[::2], USED[1::2])
]


def loaded(folder):
    torch.manual_seed(0)
    tokenizer = load_tokenizer(folder)
    return load_classifier(folder, tokenizer), tokenizer.pad_token_id


def stepped(folder, examples):
    """The model after three steps on random texts of the tokens USED, with the rows of the examples alone."""
    model, pad_token = loaded(folder)
    rng = np.random.default_rng(0)
    with training_rows(model, examples):
        assert isinstance(model.get_input_embeddings(), UsedRows) == bool(examples)
        optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
        for _ in range(3):
            ids = [rng.choice(USED, size).tolist() for size in (3, 17, 5, 9)]
            how = {"pad_token": pad_token, "device": torch.device("cpu"), "max_tokens": 64, "packs": None}
            read_texts(model, reward_layer(model), ids, **how).rewards.square().sum().backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            optimiser.zero_grad()
    return model


@pytest.mark.parametrize("name", ["tiny_llama", "tiny_bert"])
def test_training_the_rows_alone_ends_where_training_the_whole_table_does(name, request):
    folder = request.getfixturevalue(name)
    whole, rows = stepped(folder, []), stepped(folder, EXAMPLES)
    assert type(rows.get_input_embeddings()) is nn.Embedding
    before, _ = loaded(folder)
    moved = (rows.get_input_embeddings().weight - before.get_input_embeddings().weight).abs().sum(1) > 0
    moved = moved.nonzero().flatten().tolist()
    assert len(moved) > len(USED) / 2 and set(moved) <= set(USED.tolist())
    for (key, weight), other in zip(rows.named_parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(weight, other, rtol=0, atol=1e-5, msg=key)


def test_saved_and_loaded_the_rows_are_the_whole_table(tiny_bert):
    model, pad_token = loaded(tiny_bert)
    name = "bert.embeddings.word_embeddings.weight"
    before = model.state_dict()[name].clone()
    with training_rows(model, EXAMPLES):
        rows = model.get_input_embeddings()
        assert rows.weight.shape == (len(USED) + 1, 32)  # the padding's row, too
        with torch.no_grad():
            rows.weight.add_(1)
        saved = {key: value.clone() for key, value in model.state_dict().items()}
        used = torch.tensor([pad_token, *USED])
        others = torch.tensor([place for place in range(len(before)) if place not in used])
        torch.testing.assert_close(saved[name][used], before[used] + 1)
        torch.testing.assert_close(saved[name][others], before[others])
        with torch.no_grad():
            rows.weight.zero_()
        saved[name][others] *= 0.5  # as a checkpoint has it whose whole table was trained
        model.load_state_dict(saved)
        torch.testing.assert_close(rows.weight, before[used] + 1)
    torch.testing.assert_close(model.state_dict()[name], saved[name])


def test_a_token_that_was_not_announced_is_refused(tiny_bert):
    model, _ = loaded(tiny_bert)
    with training_rows(model, EXAMPLES), pytest.raises(IndexError):
        model(input_ids=torch.tensor([[5, 6, 200]]))


def test_a_table_that_is_not_trained_or_shared_or_nearly_all_used_is_left_alone(tiny_bert, tiny_llama):
    frozen, _ = loaded(tiny_bert)
    frozen.requires_grad_(False)
    tied = AutoModelForCausalLM.from_pretrained(tiny_llama)
    tied.lm_head.weight = tied.model.embed_tokens.weight
    plain, _ = loaded(tiny_bert)
    many = [datasets.Dataset.from_dict({"response_ids": [[list(range(200))]]})]
    for model, examples in ((frozen, EXAMPLES), (tied, EXAMPLES), (plain, many), (plain, [])):
        with training_rows(model, examples):
            assert type(model.get_input_embeddings()) is nn.Embedding
    with training_rows(plain, EXAMPLES):
        assert type(plain.get_input_embeddings()) is UsedRows


def test_the_table_is_whole_again_after_a_failure(tiny_bert):
    model, _ = loaded(tiny_bert)
    with pytest.raises(RuntimeError, match="stop"), training_rows(model, EXAMPLES):
        raise RuntimeError("stop")
    assert type(model.get_input_embeddings()) is nn.Embedding


def test_the_tokens_used_are_those_of_all_responses():
    one = datasets.Dataset.from_dict({"response_ids": [[[5, 7], [5, 300]], [[9], [7]]]})
    other = datasets.Dataset.from_dict({"response_ids": [[[1, 2], [3]]]})
    assert tokens_used(one).tolist() == [5, 7, 9, 300]
    assert tokens_used(datasets.concatenate_datasets([one, other])).tolist() == [1, 2, 3, 5, 7, 9, 300]
    selected = tokens_used(one.select([1, 0]).select([0])).tolist()  # it may see what it was selected from
    assert set(selected) >= {7, 9} and set(selected) <= {5, 7, 9, 300}

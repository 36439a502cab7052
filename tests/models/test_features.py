"""Features of texts: computed once, kept, and of the right layer."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoModel

from outweigh.data.config import TokenConfig
from outweigh.data.pairs import read_pairs
from outweigh.models import features as module
from outweigh.models.batches import forwards
from outweigh.models.features import (
    Encoder,
    checkpoint_identity,
    cut_layers,
    first_token,
    mean_over_tokens,
    pair_features,
)
from outweigh.models.packing import backbone_packs
from outweigh.models.rows import Trees

CPU = torch.device("cpu")
SHORT = TokenConfig(max_tokens=64)


@pytest.fixture
def pairs():
    texts = ["tea please", "now!", "a long answer about soup"]
    rows = [{"prompt": "Ask.", "chosen": texts[i], "rejected": texts[i - 1]} for i in range(3)]
    return read_pairs([*rows, {"prompt": "Say.", "chosen": "tea please", "rejected": "now!"}])


@pytest.mark.parametrize("name", ["tiny_bert", "tiny_llama"])
def test_a_text_that_pairs_share_is_one_row_and_has_its_own_features(name, pairs, tmp_path, request):
    encoder = Encoder(backbone=str(request.getfixturevalue(name)), tokens=SHORT, precision="fp32")
    found = pair_features(pairs, encoder, cache_dir=tmp_path)
    assert found.matrix_NH.shape == (5, 32)  # three texts under one prompt, two under the other
    assert found.chosen_B[0] == found.rejected_B[1] and found.chosen_B[3] != found.chosen_B[0]
    alone = pair_features(pairs.select([3]), encoder, cache_dir=tmp_path)
    np.testing.assert_allclose(
        alone.matrix_NH[alone.chosen_B[0]], found.matrix_NH[found.chosen_B[3]], atol=1e-5
    )


def test_weights_in_bfloat16_give_the_features_of_full_precision_but_for_rounding(pairs, tiny_bert, tmp_path):
    found = {
        precision: pair_features(
            pairs, Encoder(backbone=str(tiny_bert), tokens=SHORT, precision=precision), cache_dir=tmp_path
        ).matrix_NH
        for precision in ("fp32", "bf16")
    }
    apart = np.abs(found["bf16"] - found["fp32"]).max() / np.abs(found["fp32"]).max()
    assert 0 < apart < 2e-2


def test_the_second_time_nothing_is_computed(pairs, tiny_bert, tmp_path, monkeypatch):
    encoder = Encoder(backbone=str(tiny_bert), tokens=SHORT)
    first = pair_features(pairs, encoder, cache_dir=tmp_path)
    monkeypatch.setattr(module, "_compute", lambda *_: pytest.fail("computed again"))
    again = pair_features(pairs, encoder, cache_dir=tmp_path)
    np.testing.assert_array_equal(first.matrix_NH, again.matrix_NH)
    others = ({"tokens": TokenConfig(max_tokens=32)}, {"depth": 1.0}, {"pooling": "first"})
    for other in others:
        with pytest.raises(pytest.fail.Exception):
            pair_features(pairs, replace(encoder, **other), cache_dir=tmp_path)


def test_a_checkpoint_is_another_one_with_another_template_or_code(tiny_chat, tmp_path):
    folder = tmp_path / "checkpoint"
    shutil.copytree(tiny_chat, folder)
    template = folder / "chat_template.jinja"
    found = [checkpoint_identity(str(folder))]
    template.write_text(template.read_text().replace("assistant", "bot"))
    found.append(checkpoint_identity(str(folder)))
    (folder / "modeling_own.py").write_text("")
    found.append(checkpoint_identity(str(folder)))
    (folder / "notes.txt").write_text("read by nobody")
    assert len(set(found)) == 3 and checkpoint_identity(str(folder)) == found[-1]


def test_the_same_texts_under_other_labels_and_in_another_order_are_known(
    pairs, tiny_bert, tmp_path, monkeypatch
):
    encoder = Encoder(backbone=str(tiny_bert), tokens=SHORT)
    first = pair_features(pairs, encoder, cache_dir=tmp_path)
    monkeypatch.setattr(module, "_compute", lambda *_: pytest.fail("computed again"))
    rows = []
    for pair in pairs.select([3, 2, 1, 0]):
        prompt, chosen, rejected = (text[-1].content for text in (pair.prompt, pair.rejected, pair.chosen))
        rows.append({"prompt": prompt, "chosen": chosen, "rejected": rejected})
    turned = read_pairs(rows)
    again = pair_features(turned, encoder, cache_dir=tmp_path)
    np.testing.assert_array_equal(first.matrix_NH[first.chosen_B], again.matrix_NH[again.rejected_B[::-1]])


def test_two_thirds_of_the_layers_stay(tiny_bert):
    model = AutoModel.from_pretrained(tiny_bert)
    cut_layers(model)
    assert len(model.encoder.layer) == 1


@pytest.fixture
def padded():
    """A text of two tokens and one of three, padded, and their hidden states."""
    (forward,) = forwards([[7, 8], [7, 8, 9]], pad_token=0, device=CPU, max_tokens=None, packs=None)
    return torch.tensor([[[1.0], [3.0], [100.0]], [[1.0], [3.0], [8.0]]]), forward


def test_the_mean_leaves_padding_out(padded):
    assert mean_over_tokens(*padded).tolist() == [[2.0], [4.0]]


def test_the_mean_over_a_pack_counts_what_texts_share_in_each():
    ids = [[*range(20), 30], [*range(20), 40, 50]]
    (forward,) = forwards(ids, pad_token=0, device=CPU, max_tokens=64, packs=Trees())
    means = mean_over_tokens(forward.inputs["input_ids"].float()[..., None], forward)
    assert means[np.argsort(forward.places)].flatten().tolist() == pytest.approx(
        [np.mean(each) for each in ids]
    )


def test_the_first_token_stands_for_the_text_where_it_is_asked_to(padded):
    assert first_token(*padded).tolist() == [[1.0], [1.0]]


@pytest.mark.parametrize("name", ["tiny_bert", "tiny_llama"])
def test_a_causal_backbone_reads_packs_and_gives_what_it_gives_of_padded_texts(
    name, tmp_path, monkeypatch, caplog, request
):
    prompts = ["Which of these two sentences makes sense?", "Say something."]
    rows = [
        {"prompt": prompt, "chosen": "tea please, now " * size, "rejected": "a long answer about soup"}
        for prompt in prompts
        for size in (1, 2, 3)
    ]
    encoder = Encoder(backbone=str(request.getfixturevalue(name)), tokens=SHORT, precision="fp32")
    packs = backbone_packs(AutoModel.from_pretrained(encoder.backbone), SHORT.max_tokens)
    assert packs == (Trees() if name == "tiny_llama" else None)
    assert not [each for each in caplog.records if each.name.startswith("outweigh")]
    found = pair_features(read_pairs(rows), encoder, cache_dir=tmp_path / "packs")
    monkeypatch.setattr(module, "backbone_packs", lambda *_: None)
    padded = pair_features(read_pairs(rows), encoder, cache_dir=tmp_path / "padded")
    np.testing.assert_allclose(found.matrix_NH, padded.matrix_NH, atol=2e-5)

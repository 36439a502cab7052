"""Kill -9 at any moment, in the middle of a save too: resuming gives the model of an uninterrupted run."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from safetensors import SafetensorError
from transformers import AutoModelForSequenceClassification

from outweigh.data.config import TokenConfig
from outweigh.data.pairs import PairSet
from outweigh.errors import TrainingError
from outweigh.training.checkpoints import STAGING, full_disk_named, is_whole, newest_whole, seal
from outweigh.training.config import MetaConfig, TrainConfig
from outweigh.training.fit import fit, identity
from outweigh.training.items import items_of

SCRIPT = """
import json, sys
from pathlib import Path
from outweigh.data.config import TokenConfig
from outweigh.data.pairs import PairSet
from outweigh.training.config import TrainConfig
from outweigh.training.fit import fit

rows, backbone, out = json.loads(Path(sys.argv[1]).read_text()), sys.argv[2], Path(sys.argv[3])
config = TrainConfig(
    backbone=backbone, tokens=TokenConfig(max_tokens=96), precision="fp32", validation=0.2, batch_pairs=4,
    epochs=3, dropout=0.1, save_every_steps=3,
)
fit(PairSet.from_rows(rows), config, out, resume=True)
"""


def started(tmp_path, backbone, name):
    arguments = [str(tmp_path / "train.py"), str(tmp_path / "rows.json"), str(backbone), str(tmp_path / name)]
    return subprocess.Popen(
        [sys.executable, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def kill_while_saving(process, checkpoints, after):
    """Ends the process while it writes a checkpoint, once `after` of them are whole."""
    while process.poll() is None:
        if len(list(checkpoints.glob("checkpoint-*"))) >= after and (checkpoints / STAGING).exists():
            os.kill(process.pid, signal.SIGSTOP)
            os.waitpid(process.pid, os.WUNTRACED)
            if (checkpoints / STAGING).exists():  # still: it may have been renamed since
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
                return
            os.kill(process.pid, signal.SIGCONT)
        time.sleep(0.001)
    pytest.fail(f"training ended before it could be killed: {process.stdout.read()[-2000:]}")


@pytest.mark.slow
def test_a_run_killed_twice_ends_in_the_same_weights(tiny_bert, wordy_pairs, tmp_path):
    (tmp_path / "rows.json").write_text(json.dumps(wordy_pairs))
    (tmp_path / "train.py").write_text(SCRIPT)
    straight = started(tmp_path, tiny_bert, "straight")
    assert straight.wait() == 0, straight.stdout.read()[-2000:]
    checkpoints = tmp_path / "killed" / "checkpoints"
    kill_while_saving(started(tmp_path, tiny_bert, "killed"), checkpoints, after=1)
    assert (checkpoints / STAGING).exists()  # a half-written checkpoint lies there
    first = newest_whole(checkpoints)
    second = started(tmp_path, tiny_bert, "killed")
    while newest_whole(checkpoints) == first and second.poll() is None:
        time.sleep(0.02)
    os.kill(second.pid, signal.SIGKILL)
    second.wait()
    third = started(tmp_path, tiny_bert, "killed")
    said = third.communicate()[0]
    assert third.returncode == 0, said[-2000:]
    assert "Resuming from" in said
    one, two = (
        AutoModelForSequenceClassification.from_pretrained(tmp_path / name / "model").state_dict()
        for name in ("straight", "killed")
    )
    assert max((one[name] - two[name]).abs().max().item() for name in one) == 0


def test_another_trainings_weights_are_not_handed_out_by_resuming(tiny_bert, wordy_pairs, tmp_path):
    config = TrainConfig(backbone=str(tiny_bert), tokens=TokenConfig(max_tokens=96), precision="fp32")
    rows = [row | {"margin": 0.0} for row in wordy_pairs]
    first = fit(PairSet.from_rows(rows), config, tmp_path, guarded=False)
    again = fit(PairSet.from_rows(rows), config, tmp_path, resume=True)
    assert again.results == first.results  # the finished one, as training.json has it
    turned = [row | {"chosen": row["rejected"], "rejected": row["chosen"]} for row in rows]
    other_margin = [row | {"margin": 1.0} for row in rows]
    (tmp_path / "model").rename(tmp_path / "as if killed")
    for data, told in ((turned, config), (other_margin, config), (rows, replace(config, learning_rate=1e-3))):
        with pytest.raises(TrainingError, match="holds a training on other data, from other weights or with"):
            fit(PairSet.from_rows(data), told, tmp_path, resume=True)
    with pytest.raises(
        TrainingError, match=r"checkpoints: are of an unfinished training\. Go on with --resume"
    ):
        fit(PairSet.from_rows(rows), config, tmp_path)
    assert (
        fit(PairSet.from_rows(rows), config, tmp_path, resume=True).results["steps"] == first.results["steps"]
    )


def test_patience_and_alarms_know_after_a_resume_what_was_before(tiny_llama, wordy_pairs, tmp_path):
    config = TrainConfig(
        backbone=str(tiny_llama), tokens=TokenConfig(max_tokens=96), precision="fp32", validation=0.3,
        batch_pairs=4, epochs=10.0, learning_rate=1.0, evaluations=50, patience=3, save_every_steps=1,
        trainer={"save_total_limit": 99},
    )  # fmt: skip
    pairs = PairSet.from_rows(wordy_pairs)
    straight = fit(pairs, config, tmp_path / "straight", guarded=False).results
    ended, best = straight["steps"], straight["best_step"]
    assert best < ended < 100 and straight["alarms"]  # of 110, after evaluations that were no better
    for kept in (ended - 1, ended):  # before the last of them, and killed when all was done but the model
        again = tmp_path / f"from_{kept}"
        shutil.copytree(tmp_path / "straight", again, ignore=shutil.ignore_patterns("model", "training.json"))
        for folder in (again / "checkpoints").glob("checkpoint-*"):
            if int(folder.name.removeprefix("checkpoint-")) > kept:
                shutil.rmtree(folder)
        found = fit(pairs, config, again, guarded=False, resume=True).results
        assert found["best_step"] == best and found["steps"] - ended == (kept == ended)
        assert found["alarms"] == straight["alarms"]
        one, two = (
            AutoModelForSequenceClassification.from_pretrained(each / "model").state_dict()
            for each in (tmp_path / "straight", again)
        )
        assert all((one[name] == two[name]).all() for name in one)


def test_a_training_is_known_by_the_columns_that_its_loss_reads_and_by_the_content_of_its_files(tmp_path):
    def known(source="a", margin=0.0, **settings):
        rows = [{"chosen": f"c{n}", "rejected": "r", "margin": margin, "source": source} for n in range(3)]
        return identity(items_of(PairSet.from_rows(rows)), TrainConfig(**settings), "weights")

    assert known() == known(source="b")  # which the loss does not read
    assert known() != known(margin=1.0)
    shifted = tmp_path / "shifted.jsonl"
    before, after = (
        shifted.write_text(f'{{"prompt": "p", "responses": ["{word}", "b"]}}\n')
        and known(meta=MetaConfig(data=str(shifted)))
        for word in ("a", "c")
    )
    assert before != after


def checkpoint(folder, step):
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    (path / "model.safetensors").write_bytes(b"weights" * 100)
    (path / "trainer_state.json").write_text("{}")
    return path


def test_an_unsealed_or_damaged_checkpoint_is_passed_over_and_named(tmp_path, caplog):
    good, damaged, unsealed = (checkpoint(tmp_path, step) for step in (10, 20, 30))
    seal(good)
    seal(damaged)
    (damaged / "model.safetensors").write_bytes(b"weighty" * 100)  # of the same size
    assert newest_whole(tmp_path) == good
    assert f"{unsealed}: incomplete or changed" in caplog.text
    assert f"{damaged}: incomplete or changed" in caplog.text


def test_a_seal_breaks_when_a_file_is_missing(tmp_path):
    path = checkpoint(tmp_path, 1)
    seal(path)
    assert is_whole(path)
    (path / "trainer_state.json").unlink()
    assert not is_whole(path)


def test_without_any_whole_checkpoint_there_is_none(tmp_path):
    assert newest_whole(tmp_path / "absent") is None


def test_a_full_disk_is_named_whatever_library_met_it(tmp_path):
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    for error in (full, SafetensorError(f"Error while serializing: I/O error: {full}")):
        with pytest.raises(TrainingError, match="the disk is full"), full_disk_named(tmp_path):
            raise error
    with pytest.raises(RuntimeError, match="shapes"), full_disk_named(tmp_path):
        raise RuntimeError("shapes do not fit")

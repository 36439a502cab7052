"""Kill -9 at any moment, in the middle of a save too: resuming gives the model of an uninterrupted run."""

import errno
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from safetensors import SafetensorError
from transformers import AutoModelForSequenceClassification

from outweigh.errors import TrainingError
from outweigh.training.checkpoints import STAGING, full_disk_named, is_whole, newest_whole, seal

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

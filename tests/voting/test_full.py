"""Voters trained in every layer: what they are trained on, and whose gaps they give."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from outweigh.data.config import TokenConfig
from outweigh.data.pairs import read_pairs
from outweigh.errors import ConfigError
from outweigh.training.config import TrainConfig
from outweigh.voting.full import Panel, _own, full_votes


def votes_of(pairs, config, folder, numbers, swapped=None, **how):
    marks = np.zeros(len(pairs), bool) if swapped is None else swapped
    (votes,) = full_votes(pairs, config, folder, [Panel(numbers, marks)], **how)
    return votes


@pytest.fixture
def pairs(wordy_pairs):
    return read_pairs(wordy_pairs)


@pytest.fixture
def config(tiny_llama):
    return TrainConfig(
        backbone=str(tiny_llama), tokens=TokenConfig(max_tokens=64), precision="fp32", learning_rate=3e-3,
        epochs=4, batch_pairs=8,
    )  # fmt: skip


def test_swapped_labels_turn_what_a_voter_learns_and_its_gaps_are_of_the_labels_as_they_came(pairs, config):
    here = votes_of(pairs, config, None, [0])
    there = votes_of(pairs, config, None, [0], np.ones(len(pairs), bool))
    assert (here.gap_MB > 0).all() and not here.unseen_MB.any()
    # Trained on swapped labels it has learnt the contrary, and agrees with the labels that it was given
    assert (there.gap_MB > 0).all() and not np.allclose(here.gap_MB, there.gap_MB, atol=1e-3)


def test_the_first_gaps_may_be_given_and_the_next_voter_has_another_seed(pairs, config, tmp_path):
    given = np.linspace(-1, 1, len(pairs))
    votes = votes_of(pairs, config, tmp_path, [0, 1], first_gap_B=given)
    np.testing.assert_array_equal(votes.gap_MB[0], given)
    assert len(list(tmp_path.iterdir())) == 1
    second = votes_of(pairs, replace(config, seed=1), tmp_path, [0])
    np.testing.assert_allclose(votes.gap_MB[1], second.gap_MB[0], atol=1e-6)
    assert len(list(tmp_path.iterdir())) == 1  # taken from the folder


def test_out_of_fold_no_voter_judges_what_it_has_seen(pairs, config):
    contrary = np.arange(len(pairs)) < 20  # one fold, all its labels swapped: only its own voter could know
    fold = np.where(contrary, 0, 1 + np.arange(len(pairs)) % 2)
    votes = votes_of(pairs, config, None, [0], contrary, fold_B=fold)
    assert votes.unseen_MB.all()
    assert (votes.gap_MB[0, contrary] < 0).all()


def test_voters_trained_at_once_are_those_trained_in_turn(pairs, config, tmp_path):
    panels = [Panel([0, 1], np.zeros(len(pairs), bool)), Panel([2], np.arange(len(pairs)) < 10)]
    at_once = full_votes(pairs, config, tmp_path / "at once", panels, jobs=2)
    in_turn = full_votes(pairs, config, tmp_path / "in turn", panels)
    for one, other in zip(at_once, in_turn, strict=True):
        np.testing.assert_allclose(one.gap_MB, other.gap_MB, rtol=1e-4, atol=1e-4)  # threads round otherwise
    names = [{each.name for each in (tmp_path / how).iterdir()} for how in ("at once", "in turn")]
    assert names[0] == names[1] and len(names[0]) == 3


def test_several_jobs_under_a_launcher_are_refused(pairs, config, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    panels = [Panel([0, 1], np.zeros(len(pairs), bool))]
    with pytest.raises(ConfigError, match="got 2 under a launcher"):
        full_votes(pairs, config, None, panels, jobs=2)


def test_workers_end_with_the_process_that_began_them(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(
        "import os, sys, time\n"
        "from outweigh.training.workers import worker_processes\n"
        "if __name__ == '__main__':\n"
        "    with worker_processes(1) as workers:\n"
        "        print(workers.submit(os.getpid).result(), flush=True)\n"
        "        workers.submit(time.sleep, 600)\n"
        "        time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    worker = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    for _ in range(100):
        if not runs(worker):
            return
        time.sleep(0.1)
    os.kill(worker, signal.SIGKILL)
    raise AssertionError("the worker outlived its parent")


def runs(process):
    stat = Path(f"/proc/{process}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_a_voter_neither_stops_early_nor_publishes_itself(config):
    told = {"push_to_hub": True, "hub_model_id": "me/mine", "report_to": "none"}
    own = _own(replace(config, patience=2, keep="best", validation=0.1, trainer=told), 3)
    assert own.trainer == {"report_to": "none"} and own.seed == config.seed + 3
    assert own.patience is None and own.keep == "last" and own.validation == 0

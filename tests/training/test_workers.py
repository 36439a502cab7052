"""Processes that work beside each other: their errors, and how they end."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from outweigh.data.pairs import read_pairs
from outweigh.errors import ConfigError, DataError, TrainingError
from outweigh.training.workers import worker_processes

PARENT = """
import os, signal, time
from outweigh.training.workers import worker_processes
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where tests run in the background
    with worker_processes(1) as workers:
        print(workers.submit(os.getpid).result(), flush=True)
        workers.submit(time.sleep, 600)
        time.sleep(600)
"""


def test_an_error_is_the_users_own_and_ends_the_other_workers_at_once(tmp_path):
    slow = "import pathlib, time; time.sleep(60); pathlib.Path({!r}).touch()"
    marks = [tmp_path / str(number) for number in range(4)]
    with pytest.raises(DataError, match=r"nowhere\.jsonl"), worker_processes(2) as workers:
        failing = workers.submit(read_pairs, tmp_path / "nowhere.jsonl")
        for mark in marks:
            workers.submit(exec, slow.format(str(mark)))
        failing.result()
    assert not any(mark.exists() for mark in marks)  # no worker is left that could still make one


def test_a_worker_that_is_killed_is_told_with_what_to_do():
    with pytest.raises(TrainingError, match="want fewer jobs"), worker_processes(1) as workers:
        workers.submit(os._exit, 9).result()


def test_several_jobs_under_a_launcher_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="got 2 under a launcher"), worker_processes(2):
        pass


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc to look for processes in")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_the_process_that_began_them(how, tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    parent = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        worker = int(parent.stdout.readline())
        assert runs(worker)
        parent.send_signal(how)
        parent.wait(timeout=60)
        deadline = time.monotonic() + 10
        while runs(worker) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not runs(worker)
    finally:
        parent.kill()


def runs(process):
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"

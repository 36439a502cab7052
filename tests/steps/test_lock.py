"""One run at a time in a folder: processes of their own, one of them killed."""

import errno
import os
import signal
import subprocess
import sys

import pytest

import outweigh
from outweigh.errors import ConfigError
from outweigh.steps.lock import alone

HELD = """
import sys, time
from outweigh.steps.lock import alone

@alone
def hold(*, out):
    print("held", flush=True)
    time.sleep(600)

hold(out=sys.argv[1])
"""


@alone
def step(*, out):
    """What it found there."""
    return sorted(path.name for path in out.iterdir())


@alone
def outer(*, out):
    return step(out=out)


@pytest.fixture
def other(tmp_path):
    """Another process, which holds tmp_path / "run"."""
    program = [sys.executable, "-c", HELD, str(tmp_path / "run")]
    process = subprocess.Popen(program, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_folder_in_which_a_run_writes_is_refused_until_it_ends_even_by_a_kill(
    other, tmp_path, wordy_pairs, monkeypatch
):
    for refused in (step, lambda out: outweigh.train(wordy_pairs, out=out)):
        with pytest.raises(ConfigError, match="run: another run is writing there"):
            refused(out=tmp_path / "run")
    monkeypatch.setenv("RANK", "1")  # of several processes that train one model the first one asks
    assert step(out=tmp_path / "run") == []
    monkeypatch.delenv("RANK")
    os.kill(other.pid, signal.SIGKILL)
    other.wait()
    assert step(out=tmp_path / "run") == []


def test_a_run_may_have_another_of_its_own_in_its_folder(tmp_path):
    assert outer(out=tmp_path) == [] == outer(out=tmp_path)


def test_a_folder_that_can_not_be_is_the_users_to_mend(tmp_path, wordy_pairs):
    (tmp_path / "file.txt").write_text("here")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere" / "far")
    for name in ("file.txt/run", "link"):
        with pytest.raises(ConfigError, match="can't be used, got"):
            outweigh.train(wordy_pairs, out=tmp_path / name)
    with pytest.raises(TypeError, match="'out'"):
        outweigh.train(wordy_pairs)


def test_where_a_file_system_knows_no_locks_a_run_goes_on(tmp_path, monkeypatch):
    def without(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("outweigh.steps.lock.fcntl.flock", without)
    assert step(out=tmp_path) == []


def test_of_a_run_that_wrote_nothing_no_folder_is_left(tmp_path):
    @alone
    def fails(*, out):
        raise ConfigError("no")

    with pytest.raises(ConfigError):
        fails(out=tmp_path / "new")
    assert not (tmp_path / "new").exists()
    (tmp_path / "old").mkdir()
    assert step(out=tmp_path / "old") == [] and (tmp_path / "old").exists()


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").write_text("rows")
    with pytest.raises(ConfigError, match=r"file: is a file\. Name a folder"):
        step(out=tmp_path / "file")

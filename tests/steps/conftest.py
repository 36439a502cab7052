"""What several verbs are held to."""

import os
import signal
import subprocess
import time

import pytest

from outweigh.steps.unfinished import places


@pytest.fixture
def goes_on_after_a_kill():
    """A function of a command without its --out, a file and another: killed once some rows of the file stand,
    the command goes on with --resume alone, and the file is what the other, uninterrupted one is."""

    def check(program, killed, whole):
        process = subprocess.Popen(
            [*program, "--out", str(killed)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        unfinished, record = places(killed)
        until = time.monotonic() + 120
        while time.monotonic() < until and not (record.exists() and record.read_bytes().count(b"\n") > 1):
            time.sleep(0.002)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert not killed.exists(), "it ended before it was killed"
        with unfinished.open("ab") as file:
            file.write(b'{"prompt": "half a li')
        again = subprocess.run([*program, "--out", str(killed)], capture_output=True, text=True, check=False)
        assert again.returncode == 2 and "left by an unfinished run. Go on with --resume" in again.stderr
        done = subprocess.run(
            [*program, "--out", str(killed), "--resume"], capture_output=True, text=True, check=True
        )
        assert "stood from the run before" in done.stdout
        assert killed.read_bytes() == whole.read_bytes() and not unfinished.exists()

    return check

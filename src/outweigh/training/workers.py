"""Processes that train at the same time and share the cores: small models gain little from many threads."""

import logging
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.sharedctypes import Synchronized
from threading import Thread

import torch

from outweigh import progress
from outweigh.errors import ConfigError, TrainingError


def check_jobs(jobs: int) -> None:
    """Nothing, if so many processes may work here.

    Raises:
        ConfigError: none may, or this is one process of several that a launcher started.
    """
    if jobs < 1:
        raise ConfigError(f"jobs: got {jobs}, want 1 or more.")
    if jobs > 1 and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(f"jobs: got {jobs} under a launcher of processes, want 1 there.")


@contextmanager
def worker_processes(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """Fresh processes, each with its share of this one's threads; one of them draws its progress bars.

    They end at once where an exception leaves the block, and when this process ends, however it does: what
    they were at is for the next run to go on with, which finds nobody at work in its folders.

    Raises:
        ConfigError: under a launcher of processes.
        TrainingError: a worker was ended from outside.
    """
    check_jobs(jobs)
    context = multiprocessing.get_context("spawn")
    threads = max(1, torch.get_num_threads() // jobs)
    level = logging.getLogger().getEffectiveLevel()
    stop, held_open = context.Pipe(duplex=False)
    told = (threads, level, progress.QUIET, context.Value("i", 0), stop)
    workers = ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin, initargs=told)
    try:
        yield workers
    except BrokenProcessPool as error:
        raise TrainingError(
            "jobs: a worker ended before its work, for lack of memory perhaps: want fewer jobs. A script "
            "that asks for several must be importable: let it begin under if __name__ == '__main__'."
        ) from error
    except BaseException:
        held_open.close()
        raise
    finally:
        workers.shutdown(cancel_futures=True)


def _begin(threads: int, level: int, quiet: bool, begun: "Synchronized[int]", stop: Connection) -> None:
    torch.set_num_threads(threads)
    logging.basicConfig(level=level, format="%(message)s")
    with begun.get_lock():
        progress.QUIET = quiet or begun.value > 0
        begun.value += 1
    Thread(target=_end_with_parent, args=(stop,), daemon=True).start()


def _end_with_parent(stop: Connection) -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None  # only ever run in a worker
    wait([parent.sentinel, stop])
    os._exit(1)

"""Processes that train at the same time and share the cores: small models gain little from many threads."""

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.sharedctypes import Synchronized
from threading import Thread

import torch

from outweigh import progress
from outweigh.errors import ConfigError


@contextmanager
def worker_processes(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """Fresh processes, each with its share of this one's threads; what waits is dropped on the way out.

    One of them draws its progress bars. They end with this process, however it does, so that a run that is
    resumed finds nobody at work in its folders.

    Raises:
        ConfigError: this is one process of several that a launcher started.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(f"jobs: got {jobs} under a launcher of processes, want 1 there.")
    context = multiprocessing.get_context("spawn")
    threads = max(1, torch.get_num_threads() // jobs)
    told = (threads, context.Value("i", 0), progress.QUIET)
    workers = ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin, initargs=told)
    try:
        yield workers
    finally:
        workers.shutdown(cancel_futures=True)


def _begin(threads: int, begun: "Synchronized[int]", quiet: bool) -> None:
    torch.set_num_threads(threads)
    with begun.get_lock():
        progress.QUIET = quiet or begun.value > 0
        begun.value += 1
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None  # only ever run in a worker
    parent.join()
    os._exit(1)

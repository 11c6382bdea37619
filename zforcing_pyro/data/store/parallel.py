"""Tasks in this process or in others, and a folder held against another of their kind."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection, parent_process
from pathlib import Path

PATIENCE = 2.0
"""Seconds that the workers of a process that was killed have to end."""


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds a folder against another process that would prepare it; the system frees it at the end
    of this process and its workers, which takes a moment if it was killed.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        until = time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > until:
                    raise OSError(f"'{folder}' is being prepared by another process") from error
                time.sleep(0.05)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def processes(workers: int) -> Iterator[Callable]:
    """A function that maps a task over parts, in this process or in ``workers`` others.

    Of several errors it raises that of the first part, whichever worker came to one sooner.
    """
    if workers == 1:
        yield lambda task, parts, in_order=True: map(task, parts)
        return
    with ProcessPoolExecutor(workers, initializer=follow_parent) as pool:

        def run(task: Callable, parts: list, in_order: bool = True) -> Iterator:
            futures: list[Future] = [pool.submit(task, part) for part in parts]
            try:
                try:
                    for future in futures if in_order else as_completed(futures):
                        yield future.result()
                except Exception:
                    for future in futures:
                        future.cancel()
                    for future in futures:  # begun in order: none before an error was cancelled
                        if not future.cancelled():
                            future.result()
                    raise
            except BrokenProcessPool as error:
                raise OSError("a worker was killed; the same command goes on") from error
            finally:
                for future in futures:
                    future.cancel()

        yield run


def follow_parent() -> None:
    """Ends this worker with its parent, whatever ends that: nobody is left to write for."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)

    def wait() -> None:
        connection.wait([parent_process().sentinel])
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()

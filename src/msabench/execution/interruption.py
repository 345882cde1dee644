"""Ctrl-C and SIGTERM: a training stops after its step, and within five seconds."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from select import select

from msabench.errors import INTERRUPTED, INTERRUPTED_STATUS

GRACE = 4.0  # seconds; a batch of a large encoder can take longer on a CPU
POLL = 0.2  # seconds between two checks that the parent is alive

_stop = threading.Event()


def by_other_signals() -> None:
    """Let SIGTERM and SIGHUP raise KeyboardInterrupt, as Ctrl-C does; not one that is ignored."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(number, signal.default_int_handler)


def stop_requested() -> bool:
    """Return whether the training is to stop; only inside `after_step`."""
    return _stop.is_set()


@contextmanager
def after_step(parent_is_alive: Callable[[], bool]) -> Iterator[None]:
    """Turn SIGINT and SIGTERM into a stop request; the block has GRACE seconds to return.

    Then the process exits. It is also asked to stop where the process that started it has ended:
    nobody waits for the result, and the next run would find the lock held.
    For the main thread. Raises KeyboardInterrupt once the block has returned after a request, so
    that the pipeline stops too.
    """
    # Python runs no handler while PyTorch computes, but its C handler writes to the pipe.
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signals = (signal.SIGINT, signal.SIGTERM)
    handlers = {number: signal.signal(number, lambda *_: None) for number in signals}
    wakeup = signal.set_wakeup_fd(writer)
    done = threading.Event()
    watch = threading.Thread(target=_watch, args=(reader, parent_is_alive, done), daemon=True)
    watch.start()
    try:
        yield
    finally:
        done.set()
        signal.set_wakeup_fd(wakeup)
        os.close(writer)  # wakes the thread
        watch.join()
        os.close(reader)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        stopped = _stop.is_set()
        _stop.clear()
    if stopped:
        raise KeyboardInterrupt


def _watch(reader: int, parent_is_alive: Callable[[], bool], done: threading.Event) -> None:
    """Request a stop at a signal, or once the parent has ended; exit if that takes too long."""
    while parent_is_alive() and not select([reader], [], [], POLL)[0]:
        pass
    if done.is_set():
        return
    _stop.set()
    if not done.wait(GRACE):
        print(INTERRUPTED, file=sys.stderr, flush=True)
        os._exit(INTERRUPTED_STATUS)

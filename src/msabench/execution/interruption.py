"""Ctrl-C and SIGTERM during a training: it ends after its step, and within five seconds."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from select import select

from msabench.errors import INTERRUPTED, INTERRUPTED_STATUS

GRACE = 4.0  # seconds; a batch of a large encoder can take longer on a CPU
LOOK = 0.2  # seconds between two looks at whether the parent lives

_asked = threading.Event()


def asked() -> bool:
    """Tell whether the training has been asked to end; inside `after_step` alone."""
    return _asked.is_set()


@contextmanager
def after_step(parent: int) -> Iterator[None]:
    """Keep SIGINT and SIGTERM from breaking off what runs inside, for GRACE seconds.

    Then the process ends as it is. It is also asked to end where parent, the process that started
    it, has ended: nobody waits for the result, and the next run would meet this one.
    For the main thread.
    Raises KeyboardInterrupt where what runs inside has ended by itself meanwhile: the pipeline
    that runs it is to end too.
    """
    # The interpreter runs no handler while PyTorch computes, but the system writes to the pipe.
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signals = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda *_: None) for number in signals}
    wakeup = signal.set_wakeup_fd(writer)
    done = threading.Event()
    watch = threading.Thread(target=_watch, args=(reader, parent, done), daemon=True)
    watch.start()
    try:
        yield
    finally:
        done.set()
        signal.set_wakeup_fd(wakeup)
        os.close(writer)  # wakes the thread
        watch.join()
        os.close(reader)
        for number, handler in before.items():
            signal.signal(number, handler)
        asked = _asked.is_set()
        _asked.clear()
    if asked:
        raise KeyboardInterrupt


def _watch(reader: int, parent: int, done: threading.Event) -> None:
    """Ask to end after a signal, or without the parent; end the process if that takes too long."""
    while os.getppid() == parent and not select([reader], [], [], LOOK)[0]:
        pass
    if done.is_set():
        return
    _asked.set()
    if not done.wait(GRACE):
        print(INTERRUPTED, file=sys.stderr, flush=True)
        os._exit(INTERRUPTED_STATUS)

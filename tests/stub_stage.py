"""A stage that trains nothing, for tests of runs side by side: it writes down when it was where."""

import os
import signal
import time
from pathlib import Path

import stages


def main(folder: str, name: str, how: str) -> None:
    place = Path(folder, name)
    gpu = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    start = time.monotonic()
    place.with_suffix(".started").write_text(str(os.getpid()))
    if how == "waits":
        while stages.parent_is_alive():  # as a training does
            time.sleep(0.02)
        place.with_suffix(".alone").touch()
        return
    time.sleep(0.2)
    if how == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "fails":
        raise MemoryError("not enough")
    place.write_text(f"{start} {time.monotonic()} {gpu}")

"""Run a command and see what it took: seconds, and its peak of anonymous memory."""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from msabench import arithmetic

ROOT = Path(__file__).resolve().parents[1]
IDLE = 0.2  # load average below which a measurement may start


@dataclass(frozen=True)
class Took:
    """What a command took.

    anonymous: its peak in bytes, sampled; training: the same since it made the file `training`.
    last: its last line of output, read as JSON.
    """

    seconds: float
    anonymous: int
    training: int
    last: Any


def run(*command: str | int | Path, cwd: Path, threads: int = 1, **environment: str) -> Took:
    """Run a command to its end. Raises SystemExit with the end of its output if it fails."""
    # The other side of a comparison is not to have what portable arithmetic has set for ours.
    variables = {
        **{name: value for name, value in os.environ.items() if name not in arithmetic.NUMPY},
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]),
        "OMP_NUM_THREADS": str(threads),
        **environment,
    }
    log, mark = cwd / "output.log", cwd / "training"
    mark.unlink(missing_ok=True)
    start, peak, training = time.perf_counter(), 0, 0
    with log.open("w") as output:
        process = subprocess.Popen(
            [*map(str, command)], cwd=cwd, env=variables, stdout=output, stderr=subprocess.STDOUT
        )
        # Where memory runs out, this process is to go and no other.
        Path(f"/proc/{process.pid}/oom_score_adj").write_text("1000")
        while process.poll() is None:
            peak = max(peak, now := anonymous(process.pid))
            training = max(training, now if mark.exists() else 0)
            time.sleep(0.02)
    seconds = time.perf_counter() - start
    lines = log.read_text(errors="replace").splitlines()
    if process.returncode:
        print(*lines[-20:], sep="\n", file=sys.stderr)
        raise SystemExit(f"error: {' '.join(map(str, command))}: status {process.returncode}")
    last = json.loads(lines[-1]) if lines and lines[-1].startswith("{") else None
    return Took(seconds, peak, training, last)


def anonymous(process: int) -> int:
    """Return the anonymous memory of a process in bytes; 0 once it has ended."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0
    found = [line for line in status.splitlines() if line.startswith("RssAnon")]
    return int(found[0].split()[1]) * 1024 if found else 0


def wait_until_idle(limit: float = IDLE) -> float:
    """Wait until the load average of a minute is below the limit, and return it."""
    while (load := psutil.getloadavg()[0]) >= limit:
        print(f"\rload {load:.2f}, waiting for {limit}", end="", file=sys.stderr, flush=True)
        time.sleep(5)
    print(file=sys.stderr)
    return round(load, 2)

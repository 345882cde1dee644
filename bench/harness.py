"""Run a command and measure it, on an idle machine; record figures in results.json."""

import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from msabench import arithmetic

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).with_name("results.json")
IDLE = 0.2  # load average below which a measurement may start
# Which of these a processor has decides how fast its products are, in float32 and in bfloat16.
INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "amx_tile", "amx_bf16")

trial = False  # do not wait for an idle machine, record nothing


@dataclass(frozen=True)
class Measured:
    """What a command took.

    memory: the sampled peak of its anonymous memory, in bytes; training_memory: the same from the
    moment at which it made the file `training`. lines: of its output, stderr included.
    """

    seconds: float
    memory: int
    training_memory: int
    lines: list[str]

    @property
    def result(self) -> Any:
        """The last line of output, read as JSON."""
        return json.loads(self.lines[-1])


def run(*command: str | int | Path, cwd: Path, threads: int = 1, **environment: str) -> Measured:
    """Run a command to its end. Raises SystemExit with the end of its output if it fails."""
    # The other side of a comparison is not to have what portable arithmetic has set for ours.
    variables = {
        **{name: value for name, value in os.environ.items() if name not in arithmetic.NUMPY},
        # DVC runs `python`, which is to be this one in a shell without the environment too.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]),
        "OMP_NUM_THREADS": str(threads),
        **environment,
    }
    log, mark = cwd / "output.log", cwd / "training"
    mark.unlink(missing_ok=True)
    start, peak, training_peak = time.perf_counter(), 0, 0
    with log.open("w") as output:
        process = subprocess.Popen(
            [*map(str, command)], cwd=cwd, env=variables, stdout=output, stderr=subprocess.STDOUT
        )
        # Where memory runs out, this process is to go and no other.
        Path(f"/proc/{process.pid}/oom_score_adj").write_text("1000")
        while process.poll() is None:
            peak = max(peak, now := _anonymous_memory(process.pid))
            training_peak = max(training_peak, now if mark.exists() else 0)
            time.sleep(0.02)
    seconds = time.perf_counter() - start
    lines = log.read_text(errors="replace").splitlines()
    if process.returncode:
        print(*lines[-20:], sep="\n", file=sys.stderr)
        raise SystemExit(f"error: {' '.join(map(str, command))}: status {process.returncode}")
    return Measured(seconds, peak, training_peak, lines)


def _anonymous_memory(process: int) -> int:
    """Return the anonymous memory of a process in bytes; 0 once it has ended."""
    try:
        status = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in status if line.startswith("RssAnon"))


def wait_until_idle() -> float:
    """Wait until the load average of a minute is below IDLE, and return it."""
    while (load := psutil.getloadavg()[0]) >= IDLE and not trial:
        print(f"\rload {load:.2f}, waiting for {IDLE}", end="", file=sys.stderr, flush=True)
        time.sleep(5)
    print(file=sys.stderr)
    return round(load, 2)


def record(name: str, figures: dict[str, Any]) -> None:
    """Print the figures of one benchmark, and write them beside those of the others."""
    headlines = figures.pop("headlines", {})
    recorded = {**headlines, name: {**figures, "machine": machine(), "commit": commit()}}
    print(json.dumps(recorded, indent=2))
    if not trial:
        results = json.loads(RESULTS.read_text()) | recorded
        RESULTS.write_text(json.dumps(dict(sorted(results.items())), indent=2) + "\n")


def machine() -> str:
    """Return processor, cores, memory and system in words.

    Of a processor family, model and instructions too: two generations may have one name.
    """
    processor = platform.processor() or platform.machine()
    if (info := Path("/proc/cpuinfo")).exists():
        lines = (line.partition(":") for line in info.read_text().splitlines())
        facts = {name.strip(): value.strip() for name, _, value in lines}
        if "model name" in facts:
            family = f"family {facts['cpu family']}, model {facts['model']}"
            units = [name for name in INSTRUCTIONS if name in facts["flags"].split()]
            processor = f"{facts['model name']} ({family}, {', '.join(units)})"
    gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return f"{processor}, {os.cpu_count()} cores, {gigabytes:.0f} GB, {platform.system()}"


def commit() -> str:
    """Return the commit that was measured, marked where files differ from it, results apart."""
    head = _git("rev-parse", "--short", "HEAD")
    changed = _git("status", "--porcelain", "--", ":/", f":(exclude,top)bench/{RESULTS.name}")
    return f"{head}-dirty" if changed else head


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()

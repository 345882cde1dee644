"""Keep what was measured in results.json: figures by benchmark, with machine and commit."""

import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("results.json")


def read() -> dict[str, Any]:
    """Return all that is recorded."""
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def record(name: str, figures: dict[str, Any], **headlines: float) -> None:
    """Write the figures of one benchmark, beside those of the others, and print them.

    headlines: the few numbers that the benchmark is for, which stand at the top level.
    """
    made = {**headlines, name: {**figures, "machine": machine(), "commit": commit()}}
    RESULTS.write_text(json.dumps(dict(sorted((read() | made).items())), indent=2) + "\n")
    print(json.dumps(made, indent=2))


def machine() -> str:
    """Return processor, cores, memory and system in words.

    Of a processor family, model and instructions too: two generations may have one name.
    """
    processor = platform.processor() or platform.machine()
    if (info := Path("/proc/cpuinfo")).exists():
        lines = (line.partition(":") for line in info.read_text().splitlines())
        told = {name.strip(): value.strip() for name, _, value in lines}
        if "model name" in told:
            kind = f"family {told['cpu family']}, model {told['model']}"
            wide = [name for name in ("avx2", "avx512f", "amx_tile") if name in told["flags"]]
            processor = f"{told['model name']} ({kind}, {', '.join(wide)})"
    gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return f"{processor}, {os.cpu_count()} cores, {gigabytes:.0f} GB, {platform.system()}"


def commit() -> str:
    """Return the commit that was measured, marked where files differ from it, results apart."""
    head = _git("rev-parse", "--short", "HEAD")
    changed = _git("status", "--porcelain", "--", ":/", f":(exclude,top)bench/{RESULTS.name}")
    return f"{head}-dirty" if changed else head


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(RESULTS.parent), *arguments]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()

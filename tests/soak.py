"""Kill trainings again and again; each must end as if nothing had happened.

    python -m tests.soak --kills 20 [--seed 7] [--model mmim]

Each network that params.yaml compares, or the one named, is trained on a few simulated utterances,
with a checkpoint after every step, by its real stage in a process of its own. It is killed at
random moments, every second time in the middle of the writing of a checkpoint, and started again:
weights, history and predictions must be those of the training that was left alone, byte for byte.
Then its disk is full, and then read-only (both need root). The last line tells how many cases
passed and failed.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from math import inf
from pathlib import Path

from ruamel.yaml import YAML

from msabench import models, params, plan
from msabench.training.checkpoints import SECONDS

ROOT = Path(__file__).resolve().parents[1]
SIZES = {"train": 320, "valid": 24, "test": 24}
# Most are SIGKILL, which no program can answer.
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
MANY = 10  # kills, of which one at least is to meet a checkpoint
UNFINISHED = (".tmp*", "*.unfinished")  # files as they are written: by safetensors, by us


class Training:
    """One network in a work tree of its own."""

    def __init__(self, tree: Path, model: str) -> None:
        self.tree, self.model = tree, model
        self.scratch = tree / "runs/scratch"
        self.outs = [tree / f"runs/{model}-1", tree / f"predictions/{model}-1"]
        self.went_on = 0  # how often it went on from a checkpoint
        process = self.start()
        self.writes, self.seconds = self._watch(process)
        _, printed = process.communicate()
        if process.returncode:
            raise SystemExit(f"error: {model} does not train: {printed}")
        self.expected = self.outputs()

    def start(self) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "stages.train", self.model, "1"]
        environment = os.environ | {"OMP_NUM_THREADS": "1", SECONDS: "0", "PYTHONPATH": ""}
        return subprocess.Popen(
            command, cwd=self.tree, env=environment, text=True, stderr=subprocess.PIPE
        )

    def finish(self) -> None:
        """Train to the end, from the checkpoint if there is one. Raises RuntimeError if not."""
        present = any(self.scratch.glob("*/checkpoint.json"))
        process = self.start()
        _, printed = process.communicate()
        if process.returncode or present != ("resumed from " in printed):
            raise RuntimeError(f"checkpoint {present}, status {process.returncode}: {printed}")
        self.went_on += present

    def outputs(self) -> dict[str, bytes]:
        return {
            path.relative_to(self.tree).as_posix(): path.read_bytes()
            for out in self.outs
            for path in sorted(out.iterdir())
        }

    def clear(self) -> None:
        for folder in self.outs:
            shutil.rmtree(folder, ignore_errors=True)

    def kill(self, rng: random.Random, number: int) -> str:
        """Kill it once, at a random moment; return when and how."""
        self.clear()
        how = rng.choice(SIGNALS)
        process = self.start()
        if number % 2:
            write = rng.randrange(self.writes)
            when = f"within write {write + 1} of {self.writes}"
            self._watch(process, writes=write)
        else:
            seconds = rng.uniform(0, self.seconds)
            when = f"after {seconds:.2f} of {self.seconds:.2f} s"
            self._watch(process, seconds=seconds)
        ended = process.poll() is not None
        process.send_signal(how)
        process.communicate()
        left = sorted(path.name for path in self.scratch.glob("*/*"))
        where = "after its end" if ended else f"which left {', '.join(left) or 'nothing'}"
        return f"{how.name} {when}, {where}"

    def _watch(
        self, process: "subprocess.Popen[str]", writes: float = inf, seconds: float = inf
    ) -> tuple[int, float]:
        """Watch a training until so many of its files have been written and one more is begun, or
        for so many seconds, but at most to its end; return how many and how long.
        """
        count, start, before = 0, None, False
        while process.poll() is None:
            now = False
            with suppress(FileNotFoundError):  # the folder goes when the training ends
                now = any(any(self.scratch.glob(f"*/{name}")) for name in UNFINISHED)
                if start is None and any(self.scratch.glob("*/")):
                    start = time.monotonic()
            if now and not before:
                if count >= writes:
                    break
                count += 1
            if start is not None and time.monotonic() - start >= seconds:
                break
            before = now
            time.sleep(0.0005)
        return count, time.monotonic() - (start or time.monotonic())

    @contextmanager
    def small_disk(self, kilobytes: int) -> Iterator[None]:
        """Let the checkpoints lie on a file system of that size."""
        shutil.rmtree(self.scratch)
        self.scratch.mkdir()
        options = f"size={kilobytes}k"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", self.scratch], check=True)
        try:
            yield
        finally:
            subprocess.run(["umount", self.scratch], check=True)

    def remount(self, options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", self.scratch], check=True)

    def fails_in_one_line(self, words: str) -> str | None:
        """Train and tell what is wrong with how it fails."""
        process = self.start()
        _, printed = process.communicate()
        lines = [line for line in printed.splitlines() if not line.startswith("resumed from ")]
        if process.returncode and len(lines) == 1 and words in lines[0].lower():
            return None
        return f"it should have failed in one line with {words!r}: {printed}"


def check(training: Training) -> str | None:
    """Finish a training and tell what differs from the one that was left alone."""
    try:
        training.finish()
    except RuntimeError as error:
        return f"it fails: {error}"
    outputs, expected = training.outputs(), training.expected
    names = sorted({*outputs, *expected})
    differing = [name for name in names if outputs.get(name) != expected.get(name)]
    return f"other bytes: {', '.join(differing)}" if differing else None


def cases(
    training: Training, kills: int, seed: int, *, disks: bool
) -> Iterator[tuple[str, str | None]]:
    """Yield what was done to a training, and what is wrong afterwards."""
    rng = random.Random(f"{seed} {training.model}")
    for number in range(kills):
        printed = training.kill(rng, number)
        yield printed, check(training)
    if not disks:
        return
    weights = training.outs[0] / "weights.safetensors"
    size = weights.stat().st_size // 1000
    training.clear()
    # The best weights and a checkpoint fit; the checkpoint after it does not fit beside them.
    with training.small_disk(6 * size + 100):
        wrong = training.fails_in_one_line("no space left")
        training.remount("size=90%")
        yield "full disk", wrong or check(training)
    training.clear()
    with training.small_disk(100 * size):
        training.kill(rng, 1)
        training.remount("ro")
        wrong = training.fails_in_one_line("read-only file system")
        training.remount("rw")
        yield "read-only disk", wrong or check(training)


def prepare(folder: Path, only: str | None) -> list[str]:
    """Make a work tree with prepared data; return the networks that are trained there.

    only: the one network; by default those that params.yaml compares.
    """
    for name in ("src", "stages"):
        shutil.copytree(
            ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
        )
    shutil.copy(ROOT / "dvc.yaml", folder)
    yaml = YAML()
    settings = yaml.load(ROOT / "params.yaml")
    settings["datasets"]["simulated"]["settings"].update(SIZES)
    checked = params.load(ROOT / "params.yaml")
    every = [
        name for name in checked.models if models.is_network(plan.block_of(checked, name)["model"])
    ]
    if only not in (None, *every):
        raise SystemExit(f"error: --model: {only!r}; permitted: {', '.join(every)}")
    settings["compare"] = [only] if only else settings["compare"]
    networks = [name for name in every if name in settings["compare"]]
    for name in networks:
        settings["models"][name]["epochs"] = 3
    settings["batch_size"] = 32
    yaml.dump(settings, folder / "params.yaml")
    for stage in ("plan", "download", "prepare", "features"):
        command = [sys.executable, "-m", f"stages.{stage}"]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return networks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20, help="of each network")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--model", help="a network of params.yaml; default: those it compares")
    parser.add_argument("--no-disks", action="store_true", help="try no full and read-only disks")
    options = parser.parse_args()
    if options.kills < 1:
        parser.error(f"--kills: {options.kills}; permitted: 1 or more")
    disks = os.geteuid() == 0 and not options.no_disks
    print(f"seed {options.seed}", flush=True)
    passed = failed = 0
    with tempfile.TemporaryDirectory() as folder:
        first = Path(folder) / "first"
        networks = prepare(first, options.model)

        def soak(model: str) -> list[str | None]:
            tree = Path(folder) / model
            shutil.copytree(first, tree)
            training = Training(tree, model)
            outcomes = []
            for printed, wrong in cases(training, options.kills, options.seed, disks=disks):
                print(f"{model}: {printed}: {wrong or 'same bytes'}", flush=True)
                outcomes.append(wrong)
            print(f"{model}: went on from a checkpoint {training.went_on} times", flush=True)
            if training.went_on == 0 and options.kills >= MANY:
                outcomes.append("no checkpoint was met")
            return outcomes

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for outcomes in pool.map(soak, networks):
                passed += outcomes.count(None)
                failed += len(outcomes) - outcomes.count(None)
    if not disks:
        print("full and read-only disks were not tried")
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed or not passed else 0)


if __name__ == "__main__":
    main()

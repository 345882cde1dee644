"""Run all trainings that are out of date on a Dask cluster: python -m stages.cluster ADDRESS.

The stages before, which all trainings need, must have run: `dvc repro features`. A task carries
code and plan of this tree and runs one stage, in a folder of its own; its outputs come back, and
DVC records them as if it had run the stage here.
"""

import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import traceback
import uuid
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from itertools import takewhile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tqdm import tqdm

from msabench import errors, params, program
from msabench.errors import DataError, DeviceError, ProcessError
from msabench.execution import interruption, records
from msabench.execution.jobs import visible_gpus
from msabench.execution.records import RECORD, ROUNDS, Run
from stages import run

PAGE = "docs/clusters.md"
RETRIES = 2  # of a task that fails by its worker; those of workers that die are counted by Dask
LOOK = 0.2  # seconds between two looks at a stage that runs
GRACE = 8.0  # seconds for it to end, with a checkpoint, where nobody wants it any more
TWIN = 300  # seconds that a run waits for its twin on a worker that is lost, but not yet dead
LINES = 15  # of the output of a run that failed
DATA = ("prepare", "features")  # stages whose outputs a training reads
ENVIRONMENT = ("OMP_NUM_THREADS", "MSABENCH_CHECKPOINT_SECONDS", program.DEBUG)

with errors.see(PAGE):
    try:
        from distributed import Client, LocalCluster, as_completed, get_worker
        from distributed.comm import CommClosedError
    except ModuleNotFoundError as missing:
        install = f"{sys.executable} -m pip install -r requirements-cluster.txt"
        raise DataError(f"{missing}; CLUSTER needs more packages: {install}") from missing

Job = dict[str, Any]


# What runs on a worker is sent by value, as all is that stands in __main__: it uses the standard
# library and Dask, which a worker has, and nothing of this tree but what the job brings along.


def train(job: Job) -> dict[str, Any]:
    """Run a stage in a folder of its own; return its exit status, last lines and output files.

    Raises OSError where the worker is to blame, so that Dask tries again.
    """
    worker = get_worker()
    key = worker.get_current_task()

    def wanted() -> bool:
        task = worker.state.tasks.get(key)
        alive = worker.status.name in ("running", "paused", "closing_gracefully")
        return alive and task is not None and task.state == "executing"

    for package, version in job["versions"].items():
        if (here := metadata.version(package)) != version:
            raise OSError(f"{worker.address} has {package} {here}; this run needs {version}")
    content = json.loads(zlib.decompress(job["content"]))
    with TemporaryDirectory(dir=worker.local_directory, prefix="run-") as place:
        folder = Path(place)
        for name, text in content["files"].items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
        get_data(folder, job, Path(worker.local_directory) / "msabench-cache", wanted)
        for name, text in content["data"].items():
            if (folder / name).read_text(encoding="utf-8") != text:
                raise OSError(f"{worker.address}: {name} is of other data than the caller's")
        environment = os.environ | job["environment"]
        status, message = attend([sys.executable, *job["command"]], folder, environment, wanted)
        files = {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for out in job["outs"]
            for path in sorted((folder / out).rglob("*"))
            if path.is_file()
        }
    if status < 0:  # perhaps for want of memory, which another worker may have
        raise OSError(f"{worker.address}: killed by signal {-status}")
    return {"status": status, "message": message, "files": files, "worker": worker.address}


def get_data(folder: Path, job: Job, cache: Path, wanted: Callable[[], bool]) -> None:
    """Let the run find its data: in the shared tree, or by their hashes in dvc.lock from a remote.

    Checkpoints lie in the shared tree too, so that a run resumes where a lost worker left it.
    """
    if job["remote"] is None:
        tree = Path(job["shared"])
        if not (tree / "data").is_dir():
            raise FileNotFoundError(f"{tree} is not there; give SHARED or REMOTE")
        (tree / "runs/scratch").mkdir(parents=True, exist_ok=True)
        (folder / "data").symlink_to(tree / "data")
        (folder / "runs/scratch").symlink_to(tree / "runs/scratch")
        return
    local = f"[core]\n    no_scm = true\n[cache]\n    dir = {cache}\n"
    (folder / ".dvc/config.local").write_text(local, encoding="utf-8")
    pull = [sys.executable, "-m", "dvc", "pull", "--remote", job["remote"], *job["data_stages"]]
    status, message = attend(pull, folder, dict(os.environ), wanted)
    if status:
        raise OSError(f"dvc pull --remote {job['remote']}: {message}")


def attend(
    command: list[str], folder: Path, environment: Mapping[str, str], wanted: Callable[[], bool]
) -> tuple[int, str]:
    """Run a command to its end; return its exit status and last lines. End it once not wanted."""
    log = folder / "output.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a Ctrl-C is the caller's to hear
        )
        try:
            while process.poll() is None:
                if not wanted():
                    raise OSError("the task has been cancelled")
                time.sleep(LOOK)
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(GRACE)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return process.returncode, "\n".join(lines[-LINES:])


# From here on, what runs at the caller.


@dataclass
class Record:
    """Put what comes back in its place and let DVC record it, in the order of a serial run.

    dvc.lock names stages in the order in which they were first recorded.
    """

    left: list[Run]  # not recorded yet
    decisive: tuple[dict[str, str], dict[str, str]]  # as the runs have it
    here: set[str] = field(default_factory=set)  # names of those whose outputs are there
    failed: list[str] = field(default_factory=list)
    last: float = field(default_factory=time.monotonic)

    def place(self, run: Run, files: Mapping[str, bytes]) -> None:
        """Replace the outputs of a run. Raises ProcessError for others than its own."""
        new = Path("runs/scratch/arrived")
        shutil.rmtree(new, ignore_errors=True)
        for name, content in files.items():
            path = Path(name)
            if ".." in path.parts or not any(path.is_relative_to(out) for out in run.outs):
                raise ProcessError(f"{run.name}: {name} came back, which is none of its outputs")
            (new / path).parent.mkdir(parents=True, exist_ok=True)
            (new / path).write_bytes(content)
        if absent := [out for out in run.outs if not (new / out).exists()]:
            raise ProcessError(f"{run.name}: {', '.join(absent)} did not come back")
        for out in run.outs:
            shutil.rmtree(out, ignore_errors=True)
            Path(out).parent.mkdir(parents=True, exist_ok=True)
            (new / out).rename(out)
        self.here.add(run.name)

    def write(self, *, rest: bool) -> None:
        """Record those before which none is missing, or the rest too."""

        def settled(run: Run) -> bool:
            return run.cached or run.name in self.here or run.name in self.failed

        ready = [run for run in self.left if settled(run)]
        ready = ready if rest else list(takewhile(settled, self.left))
        if arrived := [run for run in ready if run.name in self.here]:
            records.check_unchanged(self.decisive, arrived)
        self.failed += records.record([run for run in ready if run.name not in self.failed])
        self.left = [run for run in self.left if run not in ready]
        self.last = time.monotonic()


@contextmanager
def connected(address: str) -> Iterator[Client]:
    """Connect to a scheduler, or start a local cluster of single-threaded processes.

    Raises ProcessError where no scheduler answers.
    """
    if match := re.fullmatch(r"local:([1-9]\d*)", address):
        with (
            LocalCluster(
                n_workers=int(match[1]),
                threads_per_worker=1,
                memory_limit=None,  # a run is a process of its own, which Dask does not see
                dashboard_address=None,
                local_directory="runs/scratch",
                silence_logs=logging.CRITICAL,
            ) as cluster,
            Client(cluster) as client,
        ):
            yield client
        return
    try:
        client = Client(address)
    except (OSError, TypeError, ValueError) as error:  # nobody there, no TLS here, a wrong scheme
        raise ProcessError(f"{address}: {error}") from error
    with client:
        yield client


def resources(client: Client, device: str) -> dict[str, int]:
    """Return what a run needs of a worker: a GPU, if the settings or the workers say so."""
    workers = client.scheduler_info()["workers"].values()
    offered = any(worker["resources"].get("GPU") for worker in workers)
    need = {"GPU": 1} if device == "cuda" or (device == "auto" and offered) else {}
    if not (offered if need else workers):
        print(f"waiting for a worker{' that offers a GPU' if need else ''}", file=sys.stderr)
    return need


def send(
    client: Client, runs: list[Run], shared: Job, need: dict[str, int], record: Record
) -> None:
    """Let the workers do the runs; put in its place what comes back, and tell of each.

    shared: what all jobs have in common.
    """
    batch = uuid.uuid4().hex
    futures = {
        client.submit(
            train,
            {**shared, "command": ["-m", *run.command], "outs": run.outs},
            # One group of keys: Dask keeps what no worker can begin yet, for those that come later.
            key=("msabench", batch, run.name),
            resources=need or None,
            retries=RETRIES,
            pure=False,
        ): run
        for run in runs
    }
    try:
        with tqdm(total=len(futures), unit="run", disable=None) as bar:
            for future in as_completed(list(futures)):
                run = futures.pop(future)
                try:
                    outcome = future.result()
                    if outcome["status"] == 0:
                        record.place(run, outcome["files"])
                except Exception as error:  # a task may fail by anything, and stops no other
                    if program.shows_traceback(error):
                        traceback.print_exception(error)
                    message = " ".join(str(error).split()) or type(error).__name__
                    outcome = {"status": None, "message": message}
                future.release()
                if outcome["status"] == 0:
                    message = f"done on {outcome['worker']}"
                else:
                    record.failed.append(run.name)
                    message = f"failed: {outcome['message']}"
                running = min(len(futures), sum(client.nthreads().values()))
                done, failed = len(record.here), len(record.failed)
                counts = f"{done} done, {running} running, {failed} failed of {len(runs)}"
                bar.write(f"{run.name}: {message} ({counts})")
                bar.update()
                if time.monotonic() - record.last > RECORD:
                    record.write(rest=False)
    finally:
        client.cancel(list(futures))


def main(*arguments: str) -> None:
    parser = program.Parser(prog="python -m stages.cluster", description=__doc__)
    parser.add_argument("address", help="tcp://host:8786 of a scheduler, or local:<processes>")
    place = parser.add_mutually_exclusive_group()
    place.add_argument("--shared", help="where workers find this tree; default: where it is here")
    place.add_argument("--remote", help="the DVC remote from which workers get the data instead")
    options = parser.parse_args(arguments)
    if not re.fullmatch(r"local:[1-9]\d*|[a-z]+://\S+", options.address):
        parser.error(f"{options.address!r}; permitted: tcp://host:port, local:3")
    settings = params.load(Path("params.yaml"))
    wants_gpu = settings.device == "cuda" or (settings.device == "auto" and visible_gpus())
    if options.address.startswith("local:") and wants_gpu:
        raise DeviceError(
            f"device: {settings.device}, and {options.address} is for CPUs; without CLUSTER "
            "`make repro` runs one training on each GPU"
        )
    from msabench.execution import (
        scratch,  # here, as it imports torch, which `--help` does not need
    )

    runs = records.out_of_date(ROUNDS[0])
    record = Record(runs, records.decisive_files())
    away = [run for run in runs if not run.cached]
    files, data = record.decisive
    if options.remote:
        push = [sys.executable, "-m", "dvc", "push", "--remote", options.remote, *DATA]
        if subprocess.run(push, check=False).returncode:
            raise ProcessError(f"dvc push --remote {options.remote} failed")
        pipeline = ("dvc.lock", "params.yaml", ".dvc/config")
        files = files | records.read([Path(name) for name in pipeline])
    given = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
    shared = {
        "content": zlib.compress(json.dumps({"files": files, "data": data}).encode()),
        "versions": scratch.versions(),
        "environment": {"OMP_NUM_THREADS": "1", scratch.SECONDS: str(TWIN), **given},
        "shared": str(Path(options.shared or ".").absolute()),
        "remote": options.remote,
        "data_stages": DATA,
    }
    try:
        if away:
            with connected(options.address) as client:
                send(client, away, shared, resources(client, settings.device), record)
    except CommClosedError as error:
        raise ProcessError(f"{options.address}: the scheduler is gone") from error
    finally:
        record.write(rest=True)
    if record.failed:
        names = ", ".join(record.failed)
        sys.exit(f"error: {len(record.failed)} of {len(away)} failed: {names}")


if __name__ == "__main__":
    interruption.by_other_signals()
    run(lambda: main(*sys.argv[1:]))

"""From measured steps to the whole: what every stage and run of some params will take."""

import heapq
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from msabench.errors import ProcessError
from msabench.estimation.measure import Cost
from msabench.estimation.sizes import Sizes
from msabench.evaluation import robustness
from msabench.execution.jobs import encoders, places
from msabench.params import Params
from msabench.plan import Run, equal_runs, runs_of
from msabench.utterances import MODALITIES

SECONDS = 60.0  # of steps that are measured, over all runs
ENCODER_SECONDS = 5.0
NO_ENCODER = Cost(0.0, 0.0, 0.0, 0.0, 0.0)  # of data without text
PROGRAM = (sys.executable, "-m", "msabench.estimation.measure")
TRAININGS = ("train", "sweep", "ablation", "tune", "robustness")

Config = Mapping[str, Any]
# The config of a run, the lengths that it reads by split and modality, and the widths.
Task = tuple[Config, Mapping[str, Mapping[str, Any]], Mapping[str, int]]


@dataclass(frozen=True)
class Row:
    """What a stage will take, or a run of a stage that trains.

    times: how often it runs, once for each seed; 0 for a run that trains nothing. seconds: each
    time, at most; None where that is not known. memory: the peak of one. disk: of all seeds; both
    in bytes. utterance: of `seconds`, the training per utterance and epoch (of a model without
    epochs, per utterance). note: why a run trains nothing.
    """

    stage: str
    run: str = ""
    times: int = 1
    seconds: float | None = None
    memory: float = 0.0
    disk: float = 0.0
    utterance: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Total:
    """What all stages will take with so many runs side by side.

    seconds: from the first stage to the last; of those whose time is known. work: the same one
    after the other. memory: of the runs with the highest peaks. disk: of all; both in bytes.
    """

    seconds: float
    work: float
    memory: float
    disk: float


def estimate(
    params: Params, configs: Config, sizes: Sizes, jobs: int, gpus: list[str]
) -> list[Row]:
    """Measure each kind of run once and return a row for every stage and run.

    configs: of stages and runs, as `plan.resolve` returns them. jobs: so many are measured at once
    as will run side by side. gpus: see execution.jobs. Raises ProcessError where a measurement
    fails.
    """
    runs, features = runs_of(params), configs["stages/features"]
    encoder = NO_ENCODER
    if "text" in sizes.lengths["train"]:
        tokens = {split: {"text": own["text"]} for split, own in sizes.lengths.items()}
        encoder = measured(features, tokens, {}, seconds=ENCODER_SECONDS)
    rows = [
        Row("download", seconds=sizes.download, disk=sizes.raw),
        Row("prepare", seconds=sizes.prepare, disk=sizes.prepared),
        Row(
            "features",
            seconds=encoder.build + encoder.predict * passes(features, sizes),
            memory=encoder.memory,
            disk=bytes_of_features(features, sizes, encoder.width),
        ),
    ]
    arrays = {name: reads["array"] for name, reads in features["runs"].items()}
    kinds = kinds_of(runs, arrays, sizes)
    first = {kind: name for name, kind in reversed(kinds.items())}
    tasks = {
        kind: (runs[name].config, *inputs(runs[name], arrays[name], sizes, encoder.width))
        for kind, name in first.items()
    }
    costs = measure_all(tasks, jobs, gpus)
    by_run = {name: costs[kind] for name, kind in kinds.items()}
    side_by_side = encoders(params.threads, "cuda" if gpus else "cpu")
    rows += rows_of(runs, by_run, sizes)
    return rows + robustness_rows(params, by_run, encoder, side_by_side, sizes)


def kinds_of(runs: Mapping[str, Run], arrays: Mapping[str, str], sizes: Sizes) -> dict[str, str]:
    """Return by name what decides the cost of each run that trains: runs that share it cost alike.

    arrays: what each reads as its text. A run trains nothing if it equals another, or needs a
    modality that the data lack.
    """
    same, available = equal_runs(runs), sizes.lengths["train"]
    kinds = {}
    for name, run in runs.items():
        present = [modality for modality in run.config["modalities"] if modality in available]
        required = run.config.get("modalities_required", False)
        if name in same or not present or (required and present != run.config["modalities"]):
            continue
        config = {key: value for key, value in run.config.items() if key in ("model", "network")}
        schedule = run.config.get("schedule", {})
        size = [schedule.get(key) for key in ("batch_size", "accumulate", "missing")]
        encoder = run.config["encoder"]
        kinds[name] = json.dumps([config, encoder, size, arrays[name], present])
    return kinds


def inputs(
    run: Run, array: str, sizes: Sizes, width: int
) -> tuple[dict[str, dict[str, Any]], dict[str, int]]:
    """Return the lengths that a run reads, by split and modality, and the widths: 0 of token ids.

    array: what it reads as its text. width: of the encoder's states.
    """
    lengths = {
        split: {name: own[name] for name in run.config["modalities"] if name in own}
        for split, own in sizes.lengths.items()
    }
    if array.startswith("pooled"):  # one vector for each text
        lengths = {
            split: {name: values**0 if name == "text" else values for name, values in own.items()}
            for split, own in lengths.items()
        }
    widths = {"text": 0 if array == "tokens" else width, **sizes.widths}
    present = next(iter(lengths.values()))
    return lengths, {name: widths[name] for name in MODALITIES if name in present}


def measure_all(tasks: Mapping[str, Task], jobs: int, gpus: list[str]) -> dict[str, Cost]:
    """Measure every task, `jobs` at a time, each on a GPU of its own if there are any."""
    free = places(jobs, gpus)
    seconds = SECONDS * jobs / max(len(tasks), 1)

    def measure(task: Task) -> Cost:
        place = free.pop()
        try:
            return measured(*task, seconds=seconds, place=place)
        finally:
            free.append(place)

    with ThreadPoolExecutor(jobs) as pool:
        return dict(zip(tasks, pool.map(measure, tasks.values()), strict=True))


def measured(
    config: Config,
    lengths: Mapping[str, Mapping[str, Any]],
    widths: Mapping[str, int],
    *,
    seconds: float,
    place: Mapping[str, str] | None = None,
) -> Cost:
    """Return the cost of a run, or of the stage `features`, with the start of its process.

    Raises ProcessError with the last line of a measurement that fails.
    """
    listed = {
        split: {name: v.tolist() for name, v in own.items()} for split, own in lengths.items()
    }
    task = {"config": config, "lengths": listed, "widths": widths, "seconds": seconds}
    start = time.perf_counter()
    ended = subprocess.run(
        PROGRAM,
        input=json.dumps(task),
        env=os.environ | (place or {}),
        capture_output=True,
        text=True,
        check=False,
    )
    taken = time.perf_counter() - start
    if ended.returncode < 0:
        raise ProcessError(
            f"{config.get('model', 'features')}: its measurement was killed by signal "
            f"{-ended.returncode}: probably for want of memory; try a smaller batch_size"
        )
    if ended.returncode:
        last = (ended.stderr.splitlines() or [""])[-1].removeprefix("error: ")
        raise ProcessError(f"{config.get('model', 'features')}: {last}")
    result = json.loads(ended.stdout)
    start_up = taken - result.pop("elapsed")
    cost = Cost(**result)
    return replace(cost, build=cost.build + start_up)


def rows_of(runs: Mapping[str, Run], costs: Mapping[str, Cost], sizes: Sizes) -> list[Row]:
    """Return the row of each run, in the order of the plan.

    costs: of those that train. The others equal one of them, or lack a modality.
    """
    same, rows = equal_runs(runs), []
    for name, run in runs.items():
        if name not in costs:
            note = f"equals {same[name]}" if name in same else "the data lack a modality"
            rows.append(Row(run.stage, name, 0, 0.0, note=note))
            continue
        cost = costs[name]
        rows.append(
            Row(
                run.stage,
                name,
                len(run.seeds),
                training_seconds(cost, run.config, sizes.folds),
                cost.memory,
                cost.weights * len(run.seeds),
                cost.epoch / sizes.utterances["train"],
            )
        )
    return rows


def robustness_rows(
    params: Params, costs: Mapping[str, Cost], encoder: Cost, side_by_side: int, sizes: Sizes
) -> list[Row]:
    """Return the row of each model that predicts corrupted test data: see evaluation.robustness.

    side_by_side: batches of texts whose cost is that of encoder; here one follows the other.
    """
    utterances = sizes.utterances
    of_test = utterances["test"] / (utterances["valid"] + utterances["test"])
    encoded = side_by_side * encoder.predict * utterances["test"] / sum(utterances.values())
    corrupted = {
        (kind, level): robustness.modalities_of(kind, sizes.lengths["train"])
        for kind, levels in robustness.LEVELS.items()
        for level in levels
        if level > 0
    }
    # A text that two kinds corrupt in one way is read once.
    texts = len(
        {(k.partition("_")[2], level) for (k, level), of in corrupted.items() if "text" in of}
    )
    rows = []
    for name in params.compare if params.robustness_seeds and sizes.folds == 1 else ():
        if name not in costs:
            continue
        predicted = costs[name].predict * of_test * (1 + sum(map(bool, corrupted.values())))
        seconds = costs[name].build + encoder.build + predicted + encoded * (1 + texts)
        times = len(params.robustness_seeds)
        rows.append(Row("robustness", name, times, seconds, costs[name].memory))
    return rows


def training_seconds(cost: Cost, config: Config, folds: int = 1) -> float:
    """Return the seconds of a training on each fold that no early stopping ends."""
    epochs = config.get("schedule", {}).get("epochs", 1)
    return cost.build + folds * (epochs * cost.epoch + cost.predict)


def passes(features: Config, sizes: Sizes) -> float:
    """Return how often the texts go through the frozen layers: once, and as corrupted copies."""
    copies = {
        (number, share)
        for reads in features["runs"].values()
        for number, share in enumerate(_copies(reads).values())
        if reads["array"] != "tokens"  # which pass no layer
    }
    copied = sum(sizes.utterances[split] for split in _copied(sizes))
    return 1 + len(copies) * copied / sum(sizes.utterances.values())


def bytes_of_features(features: Config, sizes: Sizes, width: int) -> float:
    """Return the bytes of the arrays of data/features: token ids, and states of that width.

    With the corrupted copies of texts (networks.corrupted), the one empty text apart.
    """
    texts = {split: own["text"] for split, own in sizes.lengths.items() if "text" in own}

    def values(array: str, splits: Iterable[str]) -> int:
        own = [texts[split] for split in splits if split in texts]
        rows = sum(len(text) if array.startswith("pooled") else int(text.sum()) for text in own)
        return rows * (1 if array == "tokens" else width)

    reads = [features["probe"], *features["runs"].values()]
    arrays = {"tokens", *(own["array"] for own in reads)}
    copies = {(own["array"], name) for own in reads for name in _copies(own)}
    whole = sum(values(array, texts) for array in arrays)
    return 4.0 * (whole + sum(values(array, _copied(sizes)) for array, _ in copies))


def _copies(reads: Config) -> Mapping[str, float]:
    """Return the share that is missing in each corrupted copy that a run reads, by its name."""
    return reads["missing"]["arrays"] if "missing" in reads else {}


def _copied(sizes: Sizes) -> list[str]:
    """Name the splits of whose texts there are copies: train, or over folds all."""
    return ["train"] if sizes.folds == 1 else [*sizes.lengths]


def total(rows: Iterable[Row], jobs: int) -> Total:
    """Add up the rows, `jobs` trainings side by side, in their order."""
    rows = list(rows)
    free = [0.0] * jobs  # when each of those that run side by side is free
    before = sum(row.seconds or 0.0 for row in rows if row.stage not in TRAININGS)
    peaks = []
    for row in rows:
        if row.stage in TRAININGS:
            peaks += [row.memory] * row.times
            for _ in range(row.times):
                heapq.heappush(free, heapq.heappop(free) + (row.seconds or 0.0))
    return Total(
        seconds=before + max(free),
        work=before + sum(free),
        memory=max([sum(sorted(peaks)[-jobs:]), *(row.memory for row in rows)]),
        disk=sum(row.disk for row in rows),
    )

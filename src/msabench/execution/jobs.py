"""How many runs of this machine go side by side, and on which GPUs."""

import os
import re
import subprocess

import joblib

from msabench import program
from msabench.params import Params

MOST_ENCODERS = 16


def by_default(settings: Params, gpus: list[str]) -> int:
    """Return how many runs go side by side where nobody says: the GPUs, or the cores / threads."""
    return len(gpus) or on_cores(settings.threads)


def on_cores(threads: int) -> int:
    """Return how often this machine has the cores for so many threads, at least once."""
    return max(1, joblib.cpu_count() // threads)


def encoders(threads: int, device: str) -> int:
    """Return how many batches of texts are encoded side by side where nothing else runs.

    device: its type. On a GPU one; on a CPU as many as the cores permit, up to MOST_ENCODERS, as
    each keeps the states of all layers in memory.
    """
    return min(on_cores(threads), MOST_ENCODERS) if device == "cpu" else 1


def gpus_for(settings: Params) -> list[str]:
    """Return the GPUs that runs with these settings use, one each; none on another device."""
    return visible_gpus() if settings.device in ("auto", "cuda") else []


def places(jobs: int, gpus: list[str]) -> list[dict[str, str]]:
    """Return the environment of each of so many runs side by side: a GPU, where there are any."""
    return [
        {"CUDA_VISIBLE_DEVICES": gpus[worker % len(gpus)]} if gpus else {} for worker in range(jobs)
    ]


def visible_gpus() -> list[str]:
    """Return the NVIDIA GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them.

    Raises ParamsError where it names something else.
    """
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        permitted = "numbers or UUIDs of GPUs, as 0,1; for none -1 or nothing"
        return program.variable("CUDA_VISIBLE_DEVICES", [], _listed, permitted)
    try:
        command = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    except (OSError, subprocess.CalledProcessError):
        return []


def _listed(text: str) -> list[str]:
    gpus = [gpu.strip() for gpu in text.split(",")]
    if not all(re.fullmatch(r"\d+|(GPU|MIG)-\S+|-1|NoDevFiles|", gpu) for gpu in gpus):
        raise ValueError(text)
    return [gpu for gpu in gpus if gpu not in ("", "-1", "NoDevFiles")]

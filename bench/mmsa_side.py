"""Train Self-MM with MMSA 2.2.1 and print the seconds of loading and of each epoch.

Runs in MMSA's own environment, on the CPU, by MMSA's own entry `MMSA_run`. What is changed from the
outside: `torch.cuda.set_device`, which fails without a GPU, is a no-op; validation is skipped and
stops the training after two epochs; an epoch may be cut to some batches.
"""

import json
import sys
import time
from itertools import islice
from pathlib import Path
from typing import Any

import torch

torch.cuda.set_device = lambda _: None  # type: ignore[assignment]

import MMSA.run  # noqa: E402

trainer = sys.modules["MMSA.trains.multiTask.SELF_MM"]


def main(file: str, bert: str, utterances: int, finetune: bool, batches: int) -> None:
    """Train on a pickle of so many training utterances; batches: of an epoch, 0 for all."""
    starts: list[float] = []
    ends: list[float] = []
    loading: list[float] = []
    bar, load = trainer.tqdm, MMSA.run.MMDataLoader  # type: ignore[attr-defined]

    def started(loader: Any) -> Any:
        starts.append(time.perf_counter())
        first_pass = len(starts) == 1  # it reads the labels of all
        if not first_pass:
            Path("training").touch()
        return bar(loader if first_pass else islice(loader, batches or None))

    def ended(*_: Any, **__: Any) -> dict[str, float]:
        ends.append(time.perf_counter())
        return {"Loss": float(len(ends))}  # better at first, then worse: early stopping

    def loaded(*arguments: Any) -> Any:
        start = time.perf_counter()
        data = load(*arguments)
        loading.append(time.perf_counter() - start)
        return data

    trainer.tqdm, trainer.SELF_MM.do_test = started, ended  # type: ignore[attr-defined]
    MMSA.run.MMDataLoader = loaded
    folder = Path("mmsa")
    MMSA.run.MMSA_run(
        "self_mm",
        "mosei",
        config={
            "featurePath": file,
            "pretrained": bert,
            "use_finetune": finetune,
            "train_samples": utterances,
            "early_stop": 1,
        },
        seeds=[1],
        gpu_ids=[],
        num_workers=0,
        verbose_level=0,
        model_save_dir=folder,
        res_save_dir=folder,
        log_dir=folder,
    )
    # The first pass over the batches reads the labels; the last end is that of the test.
    epochs = [end - start for start, end in zip(starts[1:3], ends[:2], strict=True)]
    print(json.dumps({"loading": loading[0], "epochs": epochs}))


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))

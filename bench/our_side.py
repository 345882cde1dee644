"""Run the stage `train` in this work tree and print when its first batch and its epochs ended.

    python -m bench.our_side RUN BATCHES

BATCHES: of an epoch, 0 for all.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from msabench.training import loop
from msabench.training.loop import NetworkRegressor
from stages import train


def main(run: str, batches: int) -> None:
    epochs: list[float] = []
    first_batch: list[float] = []
    train_epoch, length_bucketed = NetworkRegressor._train_epoch, loop.length_bucketed

    def timed_epoch(self: NetworkRegressor, *arguments: Any) -> float:
        loss = self.network.training_loss  # type: ignore[union-attr]

        def timed_loss(*batch: Any) -> Any:
            value = loss(*batch)
            if not first_batch:
                first_batch.append(time.time() - psutil.Process().create_time())
            return value

        self.network.training_loss = timed_loss  # type: ignore[method-assign,union-attr]
        Path("training").touch()
        start = time.perf_counter()
        result = train_epoch(self, *arguments)
        epochs.append(time.perf_counter() - start)
        self.network.training_loss = loss  # type: ignore[method-assign,union-attr]
        return result

    NetworkRegressor._train_epoch = timed_epoch  # type: ignore[method-assign,assignment]
    loop.length_bucketed = lambda *arguments: length_bucketed(*arguments)[: batches or None]
    train.main(run, 1)
    print(json.dumps({"first_batch": first_batch[0], "epochs": epochs}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))

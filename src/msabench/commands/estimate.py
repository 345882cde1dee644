"""Measure a few steps here and print what the whole pipeline will take.

Before hours are spent: time, memory and disk of every stage and run of params.yaml, with changes as
`dvc exp run` takes them. It trains on random frames as long as those of the data set, which need
not be here yet; training ends at the limit of epochs at the latest, by early stopping sooner. Takes
a minute or two and changes no file.

examples:
  msabench estimate
  msabench estimate -S dataset=mosei -S 'seeds=[1]' --jobs 2
"""

import argparse
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from msabench.errors import ParamsError

if TYPE_CHECKING:  # only its types: they import PyTorch
    from msabench.estimation.estimate import Row, Total
    from msabench.estimation.sizes import Sizes
    from msabench.params import Params

PAGE = "docs/experiments.md"
PARAMS = Path("params.yaml")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        *("-S", "--set-param"),
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="a change of params.yaml, as of `dvc exp run`; may be given several times",
    )
    parser.add_argument("--jobs", type=_positive, help="so many runs side by side; as make repro")
    parser.add_argument("--json", action="store_true", help="print the numbers as json")


def main(options: argparse.Namespace) -> None:
    """Print a row for each stage and run, and the total."""
    from msabench import plan
    from msabench.estimation import estimate, sizes
    from msabench.execution import jobs

    params = changed_params(options.set_param)
    configs = plan.resolve(params, plan.runs_of(params))
    gpus = jobs.gpus_for(params)
    side_by_side = options.jobs or jobs.by_default(params, gpus)
    dataset, encoder = params.datasets[params.dataset], plan.encoder(params)
    measured = sizes.measure(dataset, configs["stages/prepare"], encoder, params.max_tokens)
    rows = estimate.estimate(params, configs, measured, side_by_side, gpus)
    total = estimate.total(rows, side_by_side)
    if options.json:
        content = {"total": asdict(total), "jobs": side_by_side, "rows": list(map(asdict, rows))}
        print(json.dumps(content))
        return
    print(as_text(params, measured, rows, total, side_by_side))


def changed_params(changes: Sequence[str]) -> "Params":
    """Return params.yaml with changes. Raises ParamsError as `params.load`, and for a wrong one."""
    from msabench import params

    if not changes:
        return params.load(PARAMS)
    from dvc.exceptions import DvcException
    from dvc.utils.hydra import apply_overrides

    with TemporaryDirectory() as folder:
        copy = Path(folder) / PARAMS.name
        try:
            shutil.copy(PARAMS, copy)
            apply_overrides(copy, list(changes))
        except OSError:
            params.load(PARAMS)  # it says what is wrong
            raise
        except DvcException as error:
            reason = str(error.__cause__ or error).splitlines()[0]
            raise ParamsError(f"-S {' -S '.join(changes)}: {reason}") from error
        try:
            return params.load(copy)
        except ParamsError as error:
            raise ParamsError(str(error).replace(str(copy), PARAMS.name)) from error


def as_text(
    params: "Params", sizes: "Sizes", rows: Sequence["Row"], total: "Total", jobs: int
) -> str:
    """Return the estimate as a table with a heading and the totals below."""
    from msabench.commands._table import table

    counts = " / ".join(f"{count:,}" for count in sizes.utterances.values())
    header = ("stage", "times", "each", "all", "utterance", "memory", "disk", "run")
    lines = [
        f"{params.datasets[params.dataset].title}: {counts} utterances, lengths {sizes.origin}",
        table(header, [_cells(row) for row in rows]),
        f"At most {duration(total.seconds)} with {jobs} side by side ({duration(total.work)} one "
        f"after the other), {size(total.memory)} of memory and {size(total.disk)} of disk.",
        "utterance: training time per utterance and epoch; of a model without epochs, of the whole "
        "training.",
        "Early stopping ends sooner. Not counted: a download, DVC's own start (a second or two for "
        "each run), tables, figures and cards.",
    ]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    free = shutil.disk_usage(".").free
    for needed, here, kind in ((total.memory, memory, "memory"), (total.disk, free, "free disk")):
        if needed > here:
            lines.append(f"note: more than the {size(here)} of {kind} here")
    return "\n".join(lines)


def _cells(row: "Row") -> tuple[str, ...]:
    name = f"{row.run} ({row.note})" if row.note else row.run
    if not row.times:
        return (row.stage, "0", "-", "-", "-", "-", "-", name)
    times = None if row.seconds is None else row.seconds * row.times
    utterance = "-" if row.utterance is None else f"{1000 * row.utterance:.2g} ms"
    shown = (duration(row.seconds), duration(times), utterance, size(row.memory), size(row.disk))
    return (row.stage, str(row.times), *shown, name)


def duration(seconds: float | None) -> str:
    """Format seconds to two digits or so, in the unit that suits."""
    if seconds is None:
        return "-"
    for limit, unit, name in ((100, 1, "s"), (100 * 60, 60, "min"), (48 * 3600, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.2g} {name}" if name == "h" else f"{seconds / unit:.0f} {name}"
    return f"{seconds / 86400:.2g} days"


def size(count: float) -> str:
    """Format bytes, decimal; none as a dash."""
    if not count:
        return "-"
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{max(count / 1e6, 1):.0f} MB"


def _positive(text: str) -> int:
    if int(text) < 1:
        raise ValueError(text)
    return int(text)

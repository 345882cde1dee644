"""Columns, cells and sentences that several sections of what was measured share."""

from collections.abc import Mapping, Sequence
from typing import Any

from msabench.evaluation.metrics import why_undefined
from msabench.evaluation.tables import Row, Rows, scale_of
from msabench.reporting.document import Cell, Column, Kind, Table, row

NAME = Column("", "words")
# What papers print, in their order; of a set of metrics those that it has.
PRINTED = ("mae", "corr", "acc_7", "acc_5", "acc_3", "acc_2", "f1", "acc_2_has0", "f1_has0")
TESTED = ("difference", "low", "high", "p", "p_holm", "se_videos", "se_seeds")
TESTED_KINDS: dict[str, Kind] = dict.fromkeys(("p", "p_holm"), "p")
TESTED_KINDS |= dict.fromkeys(("se_videos", "se_seeds"), "number")
TESTED_COLUMNS = [Column(name, TESTED_KINDS.get(name, "signed")) for name in TESTED]


def why_dashes(rows: Sequence[Row], plan: Mapping[str, Any]) -> list[str]:
    """Say why there is a `-` among the metrics of rows that were measured, if there is one."""
    names = {
        column.removeprefix("valid_")
        for row in rows
        for column, value in row.items()
        if value is None and row["mae"] is not None
    }
    why = why_undefined(names, plan["metrics"], scale_of(plan))
    return [why] if why else []


def measured(values: Row, metric: str, mark: str = "") -> Cell:
    """Return the mean over seeds of a metric on test, and its spread."""
    return Cell(values[metric], values[f"{metric}_std"], mark)


def metrics_table(
    rows: Rows, metrics: Sequence[str], caption: str = "", missing: str | None = None
) -> Table:
    """Return metrics on test by row; missing: said of a row without its runs, in place of them."""
    lines = [
        row(name, *(measured(values, m) for m in metrics))
        if values["mae"] is not None
        else row(name, missing, *[None] * (len(metrics) - 1))
        for name, values in rows.items()
    ]
    return Table([NAME, *map(Column, metrics)], lines, caption=caption)


def one_seed(seeds: Sequence[int]) -> list[str]:
    """Say what intervals and p leave out where there is one seed."""
    if len(seeds) > 1:
        return []
    return [
        f"**One seed: intervals and p hold for seed {seeds[0]} alone**, as one does not show the "
        "chance of seeds."
    ]

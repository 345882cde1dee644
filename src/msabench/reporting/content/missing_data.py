"""The section of missing data: the curve over shares that all modalities lack, and its area."""

from msabench.evaluation import cautions, statistics
from msabench.evaluation.metrics import METRICS
from msabench.evaluation.results import Results
from msabench.evaluation.robustness import ALL
from msabench.reporting.cells import (
    NAME,
    PRINTED,
    TESTED,
    TESTED_COLUMNS,
    measured,
    metrics_table,
    one_seed,
    why_dashes,
)
from msabench.reporting.document import Block, Column, Section, Table, Title, row

PROTOCOL = (
    "The same share of every modality that a model reads is missing at once: tokens are [UNK], "
    "frames are zeros. The area under the curve is the mean MAE over the ten shares from 0 to 0.9, "
    "as in LNLN (Zhang et al., NeurIPS 2024); docs/missing-data.md says how its code differs. The "
    "corruption is drawn for each training seed, the same for all models, and the epoch is chosen "
    "on whole validation data."
)
ABOUT_COUNTERPARTS = (
    "Trained with missing data, minus the same model trained on whole data, paired by seed; below "
    "0 is in favour of missing data in training. p_holm is adjusted for the number of rows."
)
COMPARED = ("difference", "low", "high", "p", "p_holm")
BOUNDS = ("value", "low", "high")
PARTS = {"whole data": "whole", "area": "area"}  # headings -> of the measurements


def section(results: Results) -> Section:
    """Return the area under the curve of each model, the curve, and all metrics over the shares."""
    title = Title(
        "Missing data", results.plan["title"], "MAE by the share missing in all modalities"
    )
    if not results.missing:
        return Section("missing", title, [])
    constant = cautions.better_constant(results)
    name, mae = cautions.CONSTANT_NAMES[constant], results.tables["6"][constant]["mae"]
    metrics = [metric for metric in PRINTED if metric in METRICS[results.plan["metrics"]]]
    blocks: list[Block] = [
        f"{PROTOCOL} {name[0].upper()}{name[1:]} has {mae:.3f} at every share.",
        f"low and high bound the {statistics.LEVEL:.0%} confidence interval, by the chance of "
        "videos and of seeds as in the comparison of the models.",
        *one_seed(results.plan["robustness_seeds"]),
        _areas(results),
        *_counterparts(results),
        "MAE by the share that is missing:",
        _curves(results),
        "Every metric as its mean over the ten shares:",
        metrics_table(results.missing["metrics"], metrics, "Means over the ten shares"),
        *why_dashes([*results.missing["metrics"].values()], results.plan),
        "Differences of the area between any two models; p_holm is adjusted for their number:",
        _pairs(results),
    ]
    return Section("missing", title, blocks)


def _areas(results: Results) -> Table:
    """Return the MAE on whole data and the area of each model."""
    columns = [NAME, Column("trained with", "words")]
    columns += [Column(bound, group=heading) for heading in PARTS for bound in BOUNDS]
    lines = []
    for name in results.missing["area"]["models"]:
        rows = [results.missing[part]["models"][name] for part in PARTS.values()]
        values = [of[bound] for of in rows for bound in BOUNDS]
        lines.append(row(name, _trained_with(results, name), *values))
    return Table(columns, lines, caption="Area under the curve")


def _counterparts(results: Results) -> list[Block]:
    """Return what training with missing data changes, where some model has a counterpart."""
    names = list(results.missing["area"]["counterparts"])
    if not names:
        return []
    kinds = {column.name: column.kind for column in TESTED_COLUMNS}
    columns = [Column(name, kinds[name], group=heading) for heading in PARTS for name in COMPARED]
    lines = []
    for name in names:
        rows = [results.missing[part]["counterparts"][name] for part in PARTS.values()]
        lines.append(row(name, *(of[key] for of in rows for key in COMPARED)))
    caption = "Trained with missing data, against whole data"
    return [ABOUT_COUNTERPARTS, Table([NAME, *columns], lines, caption=caption)]


def _trained_with(results: Results, name: str) -> str:
    """Say with which missing data a model was trained, by its settings in params.yaml."""
    trained = results.plan["missing"].get(name)
    if trained is None:
        return "whole data"
    return ", ".join(f"{key} {value}" for key, value in trained["settings"].items())


def _curves(results: Results) -> Table:
    curves = {name: results.robustness[name][ALL] for name in results.missing["area"]["models"]}
    shares = list(next(iter(curves.values()), {}))
    lines = [
        row(name, *(measured(values, "mae") for values in curve.values()))
        for name, curve in curves.items()
    ]
    return Table([NAME, *map(Column, shares)], lines, caption="MAE by the share that is missing")


def _pairs(results: Results) -> Table:
    lines = [
        row(name, *map(values.get, TESTED))
        for name, values in results.missing["area"]["pairs"].items()
    ]
    return Table([NAME, *TESTED_COLUMNS], lines, caption="Paired differences of the area")

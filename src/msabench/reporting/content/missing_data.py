"""The section of missing data: the curve over shares that all modalities lack, and its area."""

from msabench.evaluation import cautions, missing_data, statistics
from msabench.evaluation.metrics import METRICS
from msabench.evaluation.results import Results
from msabench.evaluation.robustness import ALL
from msabench.evaluation.tables import Rows
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
    "as in LNLN (Zhang et al., NeurIPS 2024), whose code (commit 3ad01fa) differs. A share is "
    "rounded to whole elements of each utterance, up or down by chance; there each element is lost "
    "by itself. Each modality has a random state of its own; there all have the same one. The "
    "corruption is drawn for each training seed, the same for all models; there it is one for all "
    "seeds. What is imputed, because an utterance lacks the modality, stays. The epoch is chosen "
    "on whole validation data; there on test, for each metric by itself. As there, [CLS], [SEP] "
    "and every length stay."
)


ABOUT_DIFFERENCES = (
    "difference: the area minus that of the same model trained on whole data, in the row above; "
    "below 0 is in favour of missing data in training."
)
BOUNDS = ("value", "low", "high")


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
    rows, area = results.missing["metrics"], results.missing["area"]
    differences = missing_data.against_counterparts(results.plan, area["pairs"])
    blocks: list[Block] = [
        f"{PROTOCOL} {name[0].upper()}{name[1:]} has {mae:.3f} at every share.",
        f"low and high bound the {statistics.LEVEL:.0%} confidence interval, by the chance of "
        "videos and of seeds as in the comparison of the models; p_holm is adjusted for the number "
        "of pairs.",
        *one_seed(results.plan["robustness_seeds"]),
        *([ABOUT_DIFFERENCES] if differences else []),
        _areas(results, differences),
        "MAE by the share that is missing:",
        _curves(results),
        "Every metric as its mean over the ten shares:",
        metrics_table(rows, metrics, "Means over the ten shares"),
        *why_dashes([*rows.values()], results.plan),
        "Differences of the area between any two models:",
        _pairs(results),
    ]
    return Section("missing", title, blocks)


def _areas(results: Results, differences: Rows) -> Table:
    """Return the MAE on whole data and the area of each model.

    differences: beside it, those to the counterparts; without any they have no columns.
    """
    parts = {"whole data": results.missing["whole"], "area": results.missing["area"]}
    columns = [NAME, Column("trained with", "words")]
    columns += [Column(bound, group=part) for part in parts for bound in BOUNDS]
    columns += TESTED_COLUMNS if differences else []
    lines = []
    for name in results.missing["area"]["models"]:
        values = [part["models"][name][bound] for part in parts.values() for bound in BOUNDS]
        if differences:
            values += map(differences.get(name, {}).get, TESTED)
        lines.append(row(name, _trained_with(results, name), *values))
    return Table(columns, lines, caption="Area under the curve")


def _trained_with(results: Results, name: str) -> str:
    """Return the settings of what a model was trained without, as params.yaml has them."""
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

"""The sections of what was measured, every result beside that of the report."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from msabench.evaluation import cautions, clusters, literature, statistics
from msabench.evaluation.metrics import HEADLINE, METRICS, undefined
from msabench.evaluation.results import Results
from msabench.evaluation.robustness import ALL, LEVELS
from msabench.evaluation.tables import (
    PUBLISHED,
    SUBSETS_MODEL,
    SWEEPS,
    Row,
    scale_of,
)
from msabench.labels import about_classes
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
from msabench.reporting.document import Block, Cell, Column, Kind, Section, Table, Title, row
from msabench.utterances import SPLITS

LISTED = 5  # columns or runs of them; the others are counted
FINDINGS = {
    "never_finite": "never finite, so always 0",
    "zero": "always 0",
    "constant": "constant",
    "not_finite": "some not finite, set to 0",
}
VALID = ("valid_mae", "valid_corr")
STATISTICS = ("videos", "tokens", "audio_frames", "vision_frames", "label_mean", "label_std")


def foreign_data(plan: Mapping[str, Any]) -> str:
    """Say that simulated data stand in for those of the report. plan: of the tables."""
    if not plan["simulated"]:
        return ""
    on = PUBLISHED["data"]
    return f"**The data are simulated: what is measured here says nothing about {on}**"


def headline(results: Results) -> Section:
    """Return what papers print of each model."""
    metrics = [metric for metric in PRINTED if metric in METRICS[results.plan["metrics"]]]
    blocks: list[Block] = [metrics_table(results.tables["6"], metrics, missing="missing")]
    blocks += about_folds(results)
    never = undefined(results.plan["metrics"], scale_of(results.plan))
    if never:
        blocks += why_dashes([*results.tables["6"].values()], results.plan)
    if "acc_2_has0" in {*metrics} - never:
        blocks.append(
            "acc_2, f1: positive against negative, without neutral labels. acc_2_has0, f1_has0: "
            "not negative against negative, with them. Papers print either pair, or both."
        )
    return Section("headline", Title("Results on test", results.plan["title"]), blocks)


def data_statistics(results: Results) -> Section:
    """Return Table 1."""
    facts = PUBLISHED["tables"]["1"]
    beside = literature.has_report(results.plan)
    columns = [NAME, *_columns_of("utterances", beside), *map(Column, STATISTICS)]
    rows = []
    for name, values in results.tables["1"].items():
        count, report = values["utterances"], facts["rows"].get(name, {}).get("utterances")
        difference = None if report is None else count - report
        cells = row(name, count, *((report, difference) if beside else ()))
        rows.append([*cells, *row(*(values[c] for c in STATISTICS))])
    title = Title("Table 1", results.plan["title"], facts["title"])
    return Section("table1", title, [Table(columns, rows), *facts["notes"]])


def data_report(results: Results) -> Section:
    """Return what Table 1 leaves out, by split, and what the probe reads in each modality."""
    splits, plan = results.tables["1"], results.plan
    rows = []
    for key, value in next(iter(splits.values())).items():
        if isinstance(value, dict):  # the histogram of labels
            for label in value:
                counts = (split[key][label] for split in splits.values())
                rows.append(row(f"label {label}", *counts))
        elif key not in ("utterances", *STATISTICS):
            rows.append(row(key, *(split[key] for split in splits.values())))
    blocks: list[Block] = [
        *drawn_split(results),
        Table([NAME, *(Column(split, "count") for split in splits)], rows),
        f"label: utterances by class of the label. {about_classes(plan['metrics'])} repeated: "
        "utterances whose text is not theirs alone; shared: between splits. tokens_cut: texts "
        "longer than `max_tokens`; tokens_unknown: tokens within it that the text encoder does not "
        "know, in texts_unknown texts; text_missing: texts without a token; tokens_differ: texts "
        "whose token ids in the data are not the text encoder's (tokenized again). not_finite: "
        "values set to 0; missing: utterances without frames, or of zeros alone, which models read "
        "as the mean frame of train; lengths: utterances whose length contradicted the padding; "
        "front: utterances padded at the front. Other counts are the source's own: see "
        "`src/msabench/data/sources`.",
        *clusters.notes({split: splits[split] for split in SPLITS if split in splits} or splits),
        *_columns(results.columns),
        *(f"**{sentence}**" for sentence in cautions.of_data(results)),
        *_probed(results.probe),
    ]
    return Section("data", Title("Data report", plan["title"]), blocks)


def about_folds(results: Results) -> list[str]:
    """Say what results over the folds of a cross-validation are; nothing where there are none."""
    if "test" in results.tables["1"]:
        return []
    return [
        "Every utterance is predicted once as test and once as valid, by models that were not "
        "trained on its video, one model for each fold; metrics are over all utterances. Learning "
        "curves and generated labels are those of the first fold."
    ]


def drawn_split(results: Results) -> list[str]:
    """Say how the split was drawn; nothing where it is that of the data."""
    drawn = results.split.get("drawn")
    return [f"{drawn}."] if drawn else []


def _columns(features: Mapping[str, Row]) -> list[Block]:
    """Return which columns of each modality say little, by name where it is known."""
    if not features:
        return []
    lines = [
        row(modality, heading, _listed(values[kind], values["names"]))
        for modality, values in features.items()
        for kind, heading in FINDINGS.items()
        if values[kind]
    ]
    widths = [f"{name} has {values['width']}{_origin(values)}" for name, values in features.items()]
    about = f"Columns of the features: {'; '.join(widths)}."
    if not lines:
        return [f"{about} All vary and are finite."]
    columns = [NAME, NAME, Column("columns", "words")]
    return [about, Table(columns, lines, caption="Columns that are constant or not finite", keys=2)]


def _origin(values: Row) -> str:
    """Say what made the features of a modality, where it is known."""
    if values["tool"] is None:
        return ", named by the data" if values["certainty"] else ""
    return f", by corpus and width those of {values['tool']} ({values['certainty']})"


def _listed(columns: Sequence[int] | Mapping[str, int], names: Mapping[str, str]) -> str:
    """List columns: runs of consecutive ones, or those with most values first, and how many."""

    def label(column: int | str) -> str:
        name = names.get(str(column))
        return f"{column} {name}" if name else f"column {column}"

    def between(first: int, last: int) -> str:
        if first != last and not {str(first), str(last)} & names.keys():
            return f"columns {first} to {last}"
        return " to ".join(label(column) for column in dict.fromkeys((first, last)))

    if isinstance(columns, Mapping):
        most = sorted(columns.items(), key=lambda item: -item[1])
        parts = [(f"{label(column)} ({count} values)", 1) for column, count in most]
    else:
        runs = groupby(enumerate(columns), key=lambda item: item[1] - item[0])
        ends = [[column for _, column in run] for _, run in runs]
        parts = [(between(run[0], run[-1]), len(run)) for run in ends]
    more = sum(count for _, count in parts[LISTED:])
    shown = ", ".join(text for text, _ in parts[:LISTED])
    return f"{shown} and {more} more" if more else shown


def _probed(rows: Mapping[str, Row]) -> list[Block]:
    """Return what a ridge regression reads in each modality, on each split."""
    shown = ("train_mae", "train_corr", *VALID, "mae", "corr")
    columns = [NAME, *map(Column, shown), Column("alpha", "count")]
    lines = [row(name, *(values[c.name] for c in columns[1:])) for name, values in rows.items()]
    return [
        "Ridge regression on mean vectors: how well a linear model predicts the label from the "
        "mean of the frozen encoder's hidden states, or of the frames. train is out of fold: each "
        "utterance is predicted by a fit on other videos of train, which chooses alpha. `-`: the "
        "vectors are constant, or train is one video.",
        Table(columns, lines, caption="Ridge regression on mean vectors"),
    ]


def report_table(results: Results, number: str) -> Section:
    """Return one of the Tables 2 to 6: the four metrics on test, beside the report's on its corpus.

    Other data have no table whose setting leaves it out; none has one of a model not compared.
    """
    facts, rows = PUBLISHED["tables"][number], results.tables[number]
    beside, why = literature.has_report(results.plan), _left_out(results, number)
    title = Title(f"Table {number}", results.plan["title"], facts["title"])
    if models := _not_compared(results).get(number):
        return Section(f"table{number}", title, _note_of(models))
    if why and not beside:
        return Section(f"table{number}", title, [])
    columns = [NAME, *map(Column, VALID)]
    columns += [column for metric in HEADLINE for column in _columns_of(metric, beside)]
    empty = "left out" if why else "absent"  # of the data
    lines = [
        _report_row(
            name,
            values,
            facts["rows"].get(name, {}) if beside else None,
            reason="missing" if results.rows[number].get(name) else empty,
        )
        for name, values in rows.items()
    ]
    blocks: list[Block] = [Table(columns, lines, marks=_marks(number, lines))]
    elsewhere = {"2": ("mae", "corr"), "6": PRINTED}  # above, or in the table of `headline`
    if number in elsewhere:
        others = [m for m in METRICS[results.plan["metrics"]] if m not in elsewhere[number]]
        blocks += [metrics_table(rows, others, "Further metrics on test")] if others else []
    blocks += why_dashes(list(rows.values()), results.plan)
    if number == "6":
        blocks += _one_sided(rows["train_mean"])
        limits = (*results.leaks, *cautions.of_models(results))
        blocks += [f"**{sentence}**" for sentence in limits]
        blocks += cautions.left_out(results)
    blocks += [*cautions.of_epochs(results, number), *why, *facts.get("notes", [])]
    blocks += facts.get("report_notes", []) if beside else []
    return Section(f"table{number}", title, blocks)


def _marks(number: str, lines: Sequence[Sequence[Cell]]) -> dict[str, str]:
    """Return what the marks of a table mean, of those that are in its lines."""
    marks = dict(PUBLISHED["tables"][number].get("marks", {}))
    if number in SWEEPS:
        marks["*"] = "marks the row chosen: the lowest MAE on the validation split."
    used = {cell.mark for line in lines for cell in line}
    return {mark: meaning for mark, meaning in marks.items() if mark in used}


def _left_out(results: Results, number: str) -> list[str]:
    """Say which setting leaves a whole table out, if one does."""
    if number in SWEEPS and not results.plan["sweep_seeds"]:
        return ["Left out: `sweep_seeds` is empty."]
    if number == "2" and SUBSETS_MODEL not in results.plan["ablation"]:
        return [f"Left out: `ablation` names no seeds, or not {SUBSETS_MODEL} among its models."]
    return []


def _not_compared(results: Results) -> dict[str, list[str]]:
    """Name the model of each table that shows one model, where that is not compared."""
    models = results.plan["not_compared"]
    table2 = [model for model in models["ablation"] if model == SUBSETS_MODEL]
    return {"2": table2, **dict.fromkeys(SWEEPS, models["sweep"])}


def _note_of(models: Sequence[str]) -> list[Block]:
    """Say that models are left out; nothing where none is."""
    names = ", ".join(models)
    return [f"Left out, as not among `compare` in params.yaml: {names}."] if names else []


def _columns_of(name: str, beside: bool) -> list[Column]:
    """Return the column of what is measured. beside: with the report's and the difference."""
    kinds: dict[str, Kind] = {"measured": "number", "report": "number", "diff": "signed"}
    grouped = [Column(heading, kind, name) for heading, kind in kinds.items()]
    return grouped if beside else [Column(name)]


def _report_row(name: str, values: Row, report: Row | None, reason: str) -> list[Cell]:
    """Return a row of Tables 2 to 6.

    report: the report's; None where the table has no columns for it. reason: why the row is empty,
    where it is.
    """
    cells = row(Cell(name, mark="*" if values.get("chosen") else ""))
    cells += row(*(values[column] for column in VALID))
    for metric in HEADLINE:
        if report is None:
            cells.append(measured(values, metric))
            continue
        # The report's SVM rows are another metric: what is measured follows it.
        other = f"{metric}_pos"
        key = other if other in report and other in values else metric
        quoted, value = report.get(other, report.get(metric)), values[key]
        difference = None if value is None or quoted is None else value - quoted
        cells += row(measured(values, key, "†" if key == other else ""), quoted, difference)
    if values["mae"] is None:
        cells[1] = Cell(reason)
    return cells


def _one_sided(constant: Row) -> list[str]:
    """Say where two classes are one: a constant is right or wrong for every label of test."""
    if constant["acc_2"] not in (0.0, 1.0):
        return []
    return [
        "**The labels of test that are not neutral are all on one side**, so that the best acc_2 "
        "and f1 are those of a constant. `label_range` and `neutral` of the data set in "
        "params.yaml say which label is neutral, or that none is."
    ]


def comparison(results: Results) -> Section:
    """Return the confidence interval of each model, and the difference of each pair.

    A metric that labels on this scale do not have is left out.
    """
    bounds = ("value", "low", "high")
    never = undefined(results.plan["metrics"], scale_of(results.plan))
    compared = {metric: part for metric, part in results.comparison.items() if metric not in never}
    models = [
        row(
            name,
            *(part["models"][name][bound] for part in compared.values() for bound in bounds),
        )
        for name in results.comparison["mae"]["models"]
    ]
    pairs = [
        row(metric, name, *(values[column] for column in TESTED))
        for metric, part in compared.items()
        for name, values in part["pairs"].items()
    ]
    constants = [
        row(f"{name} - {constant}", *(values[column] for column in TESTED))
        for constant, part in results.constants.items()
        for name, values in part.items()
    ]
    columns = [Column(bound, group=metric) for metric in compared for bound in bounds]
    blocks: list[Block] = [
        f"Means over seeds on test; low and high bound the {statistics.LEVEL:.0%} confidence "
        "interval. It accounts for the chance of videos, by a jackknife that leaves out one video "
        "at a time, and for that of seeds; se_videos and se_seeds are their standard errors. "
        "Differences are paired by video. p is two-sided, of a t distribution; p_holm is adjusted "
        "for the number of pairs.",
        *one_seed(results.plan["seeds"]),
        *clusters.notes({"test": results.tested}),
        Table([NAME, *columns], models),
        Table([NAME, NAME, *TESTED_COLUMNS], pairs, caption="Paired differences", keys=2),
        "Against each constant the differences in MAE, p_holm adjusted for the number of models:",
        Table([NAME, *TESTED_COLUMNS], constants, caption="Differences to a constant"),
    ]
    title = Title("Differences between the models", results.plan["title"])
    return Section("comparison", title, blocks)


def ablation(results: Results) -> Section:
    """Return every model on every subset of the modalities."""
    detail = "every model on every subset of the modalities"
    title = Title("Modality ablation", results.plan["title"], detail)
    left_out = _note_of(results.plan["not_compared"]["ablation"])
    if not results.ablation:
        models = ",".join(results.plan["models"])
        command = f"Not measured. `dvc exp run -S 'ablation.models=[{models}]'` trains them."
        return Section("ablation", title, [command, *left_out])
    rows = []
    full = cautions.all_modalities(results)
    for model, part in results.ablation.items():
        for subset, values in part["rows"].items():
            pair = part["pairs"].get(f"{subset} - {full}", {})
            shown = [
                *(values[column] for column in VALID),
                *(measured(values, m) for m in HEADLINE),
            ]
            rows.append(row(model, subset, *shown, *map(pair.get, TESTED)))
    columns = [NAME, NAME, *map(Column, (*VALID, *HEADLINE)), *TESTED_COLUMNS]
    every = [values for part in results.ablation.values() for values in part["rows"].values()]
    blocks: list[Block] = [
        f"difference: MAE minus that of {full} of the same model, with interval and p as above, "
        "but paired by seed too; p_holm is adjusted for the subsets of one model.",
        *one_seed(results.plan["ablation_seeds"]),
        Table(columns, rows, keys=2),
        *cautions.of_modalities(results),
        *left_out,
        *why_dashes(every, results.plan),
    ]
    return Section("ablation", title, blocks)


def robustness(results: Results) -> Section:
    """Return the MAE on test data of which one modality is corrupted: a table for each scale."""
    title = Title("Robustness", results.plan["title"], "MAE on corrupted test data")
    if not results.robustness:
        command = "Not measured. `dvc exp run -S 'robustness_seeds=[1,2,3]'` measures it."
        return Section("robustness", title, [command])
    rows: dict[tuple[str, ...], list[list[Cell]]] = {}
    for kind in LEVELS:
        for model, kinds in results.robustness.items():
            if kind != ALL and (levels := kinds.get(kind)):
                cells = [measured(values, "mae") for values in levels.values()]
                named = row(kind.replace("_", ", "), model, *cells)
                rows.setdefault(tuple(levels), []).append(named)
    constant = cautions.better_constant(results)
    name, mae = cautions.CONSTANT_NAMES[constant], results.tables["6"][constant]["mae"]
    about = (
        "missing: a share of each utterance's tokens is [UNK], or of its frames zeros. noise: a "
        "share of its tokens is taken from other texts, or its frames have Gaussian noise, in "
        "standard deviations of each feature over the frames of train. With one seed, all models "
        f"have the same corrupted data. {_trained_for_it(results.plan)} "
        f"{name[0].upper()}{name[1:]} has {mae:.3f}."
    )
    scales = [
        Table([NAME, NAME, *map(Column, levels)], lines, keys=2) for levels, lines in rows.items()
    ]
    return Section("robustness", title, [about, *scales])


def _trained_for_it(plan: Mapping[str, Any]) -> str:
    """Say which of the models that are tested on corrupted data were trained with missing data."""
    trained = [model for model in plan["robustness"] if model in plan["missing"]]
    if not trained:
        return "No model was trained for it."
    return f"Trained with missing data: {', '.join(trained)}; no other model was trained for it."


def generated_labels(results: Results) -> Section:
    """Return how the unimodal labels that models generate fit the true ones."""
    names = ("multimodal", "generated", "shift_corr", "shift_ratio")
    rows = [
        row(model, modality, *(values[name] for name in names))
        for model, modalities in results.generated_labels.items()
        for modality, values in modalities.items()
    ]
    about = (
        "multimodal, generated: the correlation of the multimodal label and of the generated one "
        "(last epoch) with the true unimodal label of the training utterances. shift_corr: the "
        "correlation of what was added to the multimodal label with what would have been right; "
        "shift_ratio: the standard deviation of the former over that of the latter."
    )
    table = Table([NAME, NAME, *map(Column, names)], rows, keys=2)
    title = Title("Generated unimodal labels against the true ones", results.plan["title"])
    return Section("generated_labels", title, [about, table] if rows else [])

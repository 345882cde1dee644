"""The figures: title, marks and drawing of each, and what it shows, in numbers."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Integer
from matplotlib.figure import Figure as Drawing

from msabench.evaluation import cautions, literature
from msabench.evaluation.metrics import confusion
from msabench.evaluation.results import Results
from msabench.evaluation.robustness import ALL
from msabench.evaluation.statistics import mean_history
from msabench.evaluation.tables import (
    BASELINES,
    LABEL_CORR,
    PUBLISHED,
    SWEEPS,
    Rows,
    Runs,
    printed_name,
)
from msabench.labels import Classes, about_classes
from msabench.reporting import figures, published_figure
from msabench.reporting.content import published
from msabench.reporting.document import Figure, Title

Curves = Mapping[str, list[float]]  # columns of a history, means over seeds
Named = Iterable[tuple[str, str]]  # a name, and what is said of it

# What the figure of published results draws alike, and whose names it writes besides the best.
SELECTED = {
    "validation": ("validation", "none"),
    "unknown": ("unknown",),
    "test": literature.ON_TEST,
}
KNOWN = ("TFN (MMSA)", "MulT (MMSA)", "MISA (MMSA)", "Self-MM", "MMIM", "ALMT", "GPT-4o, zero-shot")


def draw(results: Results, runs: Mapping[str, Runs], classes: Classes) -> dict[str, Figure]:
    """Draw every figure, by the names of their files. runs: of each model of Table 6."""
    named = {printed_name(model): seeds for model, seeds in runs.items()}
    drawn = _of_histories(results, {name: seeds.histories for name, seeds in named.items()})
    tested = {name: seeds for name, seeds in named.items() if seeds.test}
    drawn |= _of_predictions(results, tested, classes) | _of_tables(results)
    drawn |= _of_missing(results)
    return drawn | _of_literature(results)


def _of_histories(
    results: Results, histories: Mapping[str, Sequence[figures.Columns]]
) -> dict[str, Figure]:
    curves = {name: mean_history(seeds) for name, seeds in histories.items() if seeds}
    return {
        "learning": _figure(
            Title("Learning curves", results.plan["title"]),
            "A thin line is a seed, a thick one the mean over seeds, as far as all of them went; "
            "the dot marks its lowest validation MAE.",
            _sentence("Lowest validation MAE", _lowest(curves), "No model was trained in epochs."),
            figures.learning_curves,
            histories,
        ),
        "generated_labels": _figure(
            Title("Generated unimodal labels against the true ones", results.plan["title"]),
            "Correlations with the true unimodal labels of the training utterances, by epoch; a "
            "thin line is a seed.",
            _sentence(
                "Correlation of the generated labels after the last epoch",
                _last_correlations(curves),
            ),
            figures.generated_labels,
            histories,
        ),
    }


def _of_predictions(
    results: Results, tested: Mapping[str, Runs], classes: Classes
) -> dict[str, Figure]:
    means = {name: seeds.mean() for name, seeds in tested.items()}
    counts = {name: confusion(*seeds.pooled(), classes) for name, seeds in tested.items()}
    about = about_classes(results.plan["metrics"])
    near = ((name, f"{_near(m, 0):.1%} ({_near(m, 1):.1%})") for name, m in counts.items())
    return {
        "predictions": _figure(
            Title("Predictions against labels on test", results.plan["title"]),
            "Means over seeds; the stronger the colour, the more utterances. The line is the mean "
            f"prediction of each class of the label. {about}",
            _sentence(
                "Slope of the prediction over the label (below 1: drawn to the mean)",
                _slopes(means),
            ),
            figures.predictions_against_labels,
            *(means, results.plan["label_range"], classes),
        ),
        "confusion": _figure(
            Title(f"Confusion of {len(classes.names)} classes on test", results.plan["title"]),
            "Of the utterances of each label (row), the per cent that were predicted so (column), "
            f"all seeds together. {about}",
            _sentence("In the class of the label (or the next to it)", near),
            figures.confusions,
            *(counts, classes.signed_names),
        ),
    }


def _of_tables(results: Results) -> dict[str, Figure]:
    facts, on, data = PUBLISHED["tables"], PUBLISHED["data"], results.plan["title"]
    rows = {printed_name(model): values for model, values in results.tables["6"].items()}
    constant = cautions.better_constant(results)
    # The lines of both constants would often be one.
    baselines = {name: rows[name] for name in map(printed_name, (constant, "probe"))}
    others = {*map(printed_name, BASELINES)}
    models = {name: values for name, values in rows.items() if name not in others}
    beside = literature.has_report(results.plan)
    report = {printed_name(model): values for model, values in facts["6"]["rows"].items() if beside}
    sweeps = {facts[n]["title"]: results.tables[n] for n in SWEEPS}
    report_sweeps = {facts[n]["title"]: facts[n]["rows"] if beside else {} for n in SWEEPS}
    corrupted = {
        printed_name(model): {kind: levels for kind, levels in kinds.items() if kind != ALL}
        for model, kinds in results.robustness.items()
    }
    return {
        "comparison": _figure(
            Title("Table 6", data, facts["6"]["title"]),
            "Bars are means over seeds on test, whiskers their standard deviation. The lines are "
            f"{cautions.CONSTANT_NAMES[constant]}, the better of the two constants, and a ridge "
            "regression on the mean vectors of all modalities.",
            _sentence("MAE on test", _beside_report(rows, report)),
            figures.comparison,
            *(models, baselines, report, on),
        ),
        "sweeps": _figure(
            Title("Tables 3-5", data, "MAE of our model by setting"),
            "The three sweeps of Tables 3 to 5; the ring marks the row chosen.",
            _sentence("Lowest validation MAE", _chosen(sweeps), "Not measured." if beside else ""),
            figures.sweeps,
            *(sweeps, report_sweeps, on),
        ),
        "robustness": _figure(
            Title("Robustness", data, "MAE on corrupted test data"),
            "MAE on test data of which a share is missing or wrong; bands are the standard "
            "deviation over seeds.",
            _sentence("What hurts most at its highest level", _worst(corrupted), ""),
            figures.robustness,
            *(corrupted, cautions.CONSTANT_NAMES[constant], results.tables["6"][constant]["mae"]),
        ),
    }


def _of_missing(results: Results) -> dict[str, Figure]:
    constant = cautions.better_constant(results)
    curves = {printed_name(model): kinds[ALL] for model, kinds in results.robustness.items()}
    trained = {
        printed_name(model): printed_name(own["counterpart"]) if own["counterpart"] else None
        for model, own in results.plan["missing"].items()
    }
    areas, whole = (results.missing.get(part, {}).get("models", {}) for part in ("area", "whole"))
    return {
        "missing": _figure(
            Title(
                "Missing data", results.plan["title"], "MAE by the share missing in all modalities"
            ),
            "Means over seeds on test. Dashed: trained with missing data, in the colour of the "
            "same model trained on whole data.",
            _sentence(
                "Area under the curve (MAE on whole data)",
                (
                    (printed_name(model), f"{row['value']:.3f} ({whole[model]['value']:.3f})")
                    for model, row in areas.items()
                ),
                "",
            ),
            figures.missing,
            *(curves, trained),
            *(cautions.CONSTANT_NAMES[constant], results.tables["6"][constant]["mae"]),
        )
    }


def _of_literature(results: Results) -> dict[str, Figure]:
    corpus = literature.corpus_of(results.plan)
    if corpus is None:
        return {}
    others, report = literature.published(corpus), literature.of_report(corpus)
    ours = published.measured(results)
    run, lines = _of_run(ours)
    drawn = [name for name, mae in lines.items() if mae is not None]
    groups = {
        name: [result for result in others if result.selection in selections]
        for name, selections in SELECTED.items()
    }
    best = {name: min(group, key=lambda r: r.mae) for name, group in groups.items() if group}
    marks = [
        "Filled: the epoch was selected on validation data, or nothing was trained. Hollow: that "
        "is unknown. Crosses: selected on test data, so not comparable. Small: second-hand.",
        *(["Diamonds: the report."] if report else []),
        *([f"Lines of {run}: {', '.join(drawn)}."] if drawn else []),
        *published.left_out(results),
    ]
    lowest = [(name, f"{result.mae:.3f} ({result.model})") for name, result in best.items()]
    lowest += [
        (f"this run's {name}", f"{model.values['mae']:.3f}" + (model.read and f" ({model.read})"))
        for name, model in ours.items()
        if model.values["mae"] is not None
    ]
    return {
        "published": _figure(
            Title("Published results", literature.NAMES[corpus], "MAE on test by year"),
            " ".join(marks),
            _sentence("Lowest MAE by what selected the epoch", lowest),
            published_figure.draw,
            *(groups, {*KNOWN, *(best[name].model for name in best if name != "test")}),
            *(report, lines, run),
        )
    }


def _of_run(ours: Mapping[str, published.Measured]) -> tuple[str, dict[str, float | None]]:
    """Return what the lines of this run are called together, and the MAE of each by its name.

    What the models read stands in the name of each where they do not all read the same.
    """
    measured = [model for model in ours.values() if model.values["mae"] is not None]
    read = {model.read for model in measured}
    alike = len(read) == 1
    run = ["this run", *(read if alike else ()), *{model.text_encoder for model in measured}]
    return ", ".join(filter(None, run)), {
        name if alike or not model.read else f"{name} ({model.read})": model.values["mae"]
        for name, model in ours.items()
    }


def _figure(
    title: Title, marks: str, finding: str, draw: Callable[..., Drawing], *data: Any
) -> Figure:
    return Figure(title, marks, finding, draw(*data, title=str(title)))


def _sentence(lead: str, named: Named, otherwise: str = "Not measured.") -> str:
    """Say something of each name, in one sentence."""
    text = ", ".join(f"{name} {what}" for name, what in named)
    return f"{lead}: {text}." if text else otherwise


def _lowest(curves: Mapping[str, Curves]) -> Named:
    for name, mean in curves.items():
        mae = mean["valid_mae"]
        best = int(np.argmin(mae))
        yield name, f"{mae[best]:.3f} (epoch {best + 1} of {len(mae)})"


def _last_correlations(curves: Mapping[str, Curves]) -> Named:
    for name, mean in curves.items():
        for column, values in mean.items():
            if column.startswith(LABEL_CORR):
                modality = column.removeprefix(LABEL_CORR)
                yield f"{name}'s {modality}", f"{values[-1]:.3f} (multimodal {values[0]:.3f})"


def _slopes(means: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Named:
    for name, (labels, guesses) in means.items():
        if np.ptp(labels) > 0:
            yield name, f"{np.polyfit(labels, guesses, 1)[0]:.2f}"


def _near(matrix: Integer[np.ndarray, "k k"], classes: int) -> float:
    """Return the share of predictions at most so many classes from the label's."""
    offsets = range(-classes, classes + 1)
    return float(sum(np.trace(matrix, offset) for offset in offsets) / matrix.sum())


def _beside_report(rows: Rows, report: Rows) -> Named:
    for name, values in rows.items():
        mae = "missing" if values["mae"] is None else f"{values['mae']:.3f}"
        quoted = f" (report {report[name]['mae']:.3f})" if name in report else ""
        yield name, f"{mae}{quoted}"


def _chosen(sweeps: Mapping[str, Rows]) -> Named:
    for heading, rows in sweeps.items():
        for name, values in rows.items():
            if values["chosen"]:
                yield heading, f"{name} ({values['valid_mae']:.3f})"


def _worst(corrupted: Mapping[str, Mapping[str, Rows]]) -> Named:
    for name, kinds in corrupted.items():
        highest = {kind: list(levels.values())[-1]["mae"] for kind, levels in kinds.items()}
        known: dict[str, Any] = {kind: mae for kind, mae in highest.items() if mae is not None}
        if known:
            kind = max(known, key=lambda kind: known[kind])
            modality, _, how = kind.partition("_")
            yield name, f"{modality} ({how}), MAE {known[kind]:.3f}"

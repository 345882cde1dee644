"""The report's figures: what each is drawn from, and what it shows, in numbers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Integer
from matplotlib.figure import Figure

from msabench.evaluation.metrics import confusion
from msabench.evaluation.statistics import mean_history
from msabench.evaluation.tables import LABEL_CORR, PUBLISHED, SWEEPS, Runs, Table, printed_name
from msabench.labels import Classes, about_classes
from msabench.reporting import figures


@dataclass(frozen=True)
class Exhibit:
    """A figure with its title, what its marks mean, and what it shows of these very data.

    finding: empty where it shows nothing, and has no place on the page.
    """

    figure: Figure
    title: str
    marks: str
    finding: str


def draw(
    plan: Mapping[str, Any],
    runs: Mapping[str, Runs],
    tables: Mapping[str, Table],
    robustness: Mapping[str, Mapping[str, Table]],
    classes: Classes,
) -> dict[str, Exhibit]:
    """Draw every figure.

    runs: of each model of Table 6; tables: by number, those of the report. robustness: by model
    and kind of corruption. classes: of the labels.
    """
    title, facts, on = plan["title"], PUBLISHED["tables"], PUBLISHED["data"]
    named = {printed_name(model): seeds for model, seeds in runs.items()}
    tested = {name: seeds for name, seeds in named.items() if seeds.test}
    histories = {name: seeds.histories for name, seeds in named.items()}
    counts = {name: confusion(*seeds.pooled(), classes) for name, seeds in tested.items()}
    means = {name: seeds.mean() for name, seeds in tested.items()}
    results = {printed_name(model): row for model, row in tables["6"].items()}
    report = {printed_name(model): row for model, row in facts["6"]["rows"].items()}
    sweeps = {facts[n]["title"]: tables[n] for n in SWEEPS}
    published = {facts[n]["title"]: facts[n]["rows"] for n in SWEEPS}
    corrupted = {printed_name(model): kinds for model, kinds in robustness.items()}
    baseline = tables["6"]["train_mean"]["mae"]
    curves = {name: mean_history(found) for name, found in histories.items() if found}
    return {
        "learning": Exhibit(
            figures.learning_curves(histories, title),
            f"Learning curves, {title}",
            "A thin line is a seed, a thick one the mean over seeds, as far as all of them went; "
            "the dot marks its lowest validation MAE.",
            _of_curves(curves),
        ),
        "generated_labels": Exhibit(
            figures.generated_labels(histories, title),
            f"Generated unimodal labels, {title}",
            "Correlations with the true unimodal labels of the training utterances, by epoch; a "
            "thin line is a seed.",
            _of_generated_labels(curves),
        ),
        "predictions": Exhibit(
            figures.predictions_against_labels(means, title, plan["label_range"], classes),
            f"Predictions against labels, {title}",
            "Test split, means over seeds; the stronger the colour, the more utterances. The line "
            f"is the mean prediction of each class of the label. {about_classes(plan['metrics'])}",
            _of_predictions(means),
        ),
        "confusion": Exhibit(
            figures.confusions(counts, title, classes.signed_names),
            f"Confusion of classes, {title}",
            "Test split; of the utterances of each label (row), the per cent that were predicted "
            f"so (column), all seeds together. {about_classes(plan['metrics'])}",
            _of_confusions(counts),
        ),
        "comparison": Exhibit(
            figures.comparison(results, report, title, on),
            f"Comparison of the models, {title}",
            "Bars are means over seeds on test, whiskers their standard deviation.",
            _of_results(results, report),
        ),
        "sweeps": Exhibit(
            figures.sweeps(sweeps, published, title, on),
            f"MAE by setting, {title}",
            "The three sweeps of Tables 3 to 5; the ring marks the row chosen.",
            _of_sweeps(sweeps),
        ),
        "robustness": Exhibit(
            figures.robustness(corrupted, baseline, title),
            f"Robustness, {title}",
            "MAE on test data of which a share is missing or wrong; bands are the standard "
            "deviation over seeds.",
            _of_robustness(corrupted),
        ),
    }


def _listed(lead: str, found: Mapping[str, str], otherwise: str) -> str:
    """Say something of each name, in one sentence."""
    told = ", ".join(f"{name} {what}" for name, what in found.items())
    return f"{lead}: {told}." if told else otherwise


def _of_curves(curves: Mapping[str, Mapping[str, list[float]]]) -> str:
    found = {}
    for name, mean in curves.items():
        best = int(np.argmin(mean["valid_mae"]))
        last = len(mean["valid_mae"])
        found[name] = f"{mean['valid_mae'][best]:.3f} (epoch {best + 1} of {last})"
    return _listed("Lowest validation MAE", found, "No model was trained in epochs.")


def _of_generated_labels(curves: Mapping[str, Mapping[str, list[float]]]) -> str:
    found = {
        f"{name}'s {column.removeprefix(LABEL_CORR)}": f"{told[-1]:.3f} (multimodal {told[0]:.3f})"
        for name, mean in curves.items()
        for column, told in mean.items()
        if column.startswith(LABEL_CORR)
    }
    return _listed(
        "Correlation of the generated labels after the last epoch", found, "Not measured."
    )


def _of_predictions(means: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> str:
    found = {
        name: f"{np.polyfit(labels, guesses, 1)[0]:.2f}"
        for name, (labels, guesses) in means.items()
        if np.ptp(labels) > 0
    }
    lead = "Slope of the prediction over the label (below 1: drawn to the mean)"
    return _listed(lead, found, "Not measured.")


def _of_confusions(counts: Mapping[str, Integer[np.ndarray, "k k"]]) -> str:
    found = {}
    for name, matrix in counts.items():
        right, near = (
            sum(np.trace(matrix, offset) for offset in range(-off, off + 1)) / matrix.sum()
            for off in (0, 1)
        )
        found[name] = f"{right:.1%} ({near:.1%})"
    return _listed("In the class of the label (or the next to it)", found, "Not measured.")


def _of_results(results: Table, report: Table) -> str:
    found = {}
    for name, row in results.items():
        measured = "missing" if row["mae"] is None else f"{row['mae']:.3f}"
        quoted = f" (report {report[name]['mae']:.3f})" if name in report else ""
        found[name] = measured + quoted
    return _listed("MAE on test", found, "Not measured.")


def _of_sweeps(sweeps: Mapping[str, Table]) -> str:
    found = {
        heading: f"{name} ({row['valid_mae']:.3f})"
        for heading, table in sweeps.items()
        for name, row in table.items()
        if row["chosen"]
    }
    return _listed("Lowest validation MAE", found, "Not measured.")


def _of_robustness(corrupted: Mapping[str, Mapping[str, Table]]) -> str:
    found = {}
    for name, kinds in corrupted.items():
        worst = {kind: list(levels.values())[-1]["mae"] for kind, levels in kinds.items()}
        known = {kind: mae for kind, mae in worst.items() if mae is not None}
        if known:
            kind = max(known, key=lambda kind: known[kind])
            modality, _, how = kind.partition("_")
            found[name] = f"{modality} ({how}), MAE {known[kind]:.3f}"
    return _listed("What hurts most at its highest level", found, "")

"""Figures: plain data -> matplotlib figures, one function each.

Mappings go from a model's printed name to its data. A model has the colour of its place in the
mapping, so that it keeps it from figure to figure: a model without data stays in, empty.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from io import StringIO
from math import ceil
from pathlib import Path
from typing import Any

os.environ["MPLBACKEND"] = "agg"  # nothing is shown; another name, or none, would be an error
import matplotlib
import numpy as np
from jaxtyping import Float, Integer
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, LogNorm, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from msabench.evaluation.statistics import mean_history
from msabench.evaluation.tables import LABEL_CORR, Row
from msabench.labels import Classes

Columns = Mapping[str, Sequence[float]]

# Palettes that are safe for the colour-blind, in an order of good contrast: Okabe and Ito's, then
# Paul Tol's muted one, for more models than the repository has.
COLOURS = (
    *("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#8C6D31"),
    *("#332288", "#882255", "#44AA99", "#999933", "#117733", "#AA4499", "#555555"),
)
COLUMNS = 4  # of panels, one per model
INK, GREY, PALE = "#333333", "#8A8A8A", "#D9D9D9"
SHADES = LinearSegmentedColormap.from_list("shades", ["#EEF4F9", "#5AA0CC", "#083E66"])
STYLE: Any = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "figure.titlesize": 12,
    "figure.titleweight": "bold",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": GREY,
    "xtick.color": INK,
    "ytick.color": INK,
    "figure.constrained_layout.h_pad": 0.1,
    "figure.constrained_layout.w_pad": 0.08,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#ECECEC",
    "legend.frameon": False,
    "svg.hashsalt": "msabench",  # the ids in the file are random without it
}
DASHED: Any = {"color": INK, "ls": "--", "lw": 1.2}
DOTTED: Any = {"color": INK, "ls": ":", "lw": 1.6}
DOTS: Any = {"marker": "o", "ms": 4}
MARKERS = "os^v"  # of a palette, and of each further round through it
DIAMOND: Any = {"mfc": "white", "mec": INK, "mew": 1.2, "ms": 6, "zorder": 5}  # the report
# The panels of the robustness figure, in two rows: heading and scale of each kind of corruption.
CORRUPTED = (
    {
        "text_missing": ("missing words", "share of tokens that are [UNK]"),
        "audio_missing": ("missing audio", "share of frames that are zeros"),
        "vision_missing": ("missing vision", "share of frames that are zeros"),
    },
    {
        "text_noise": ("wrong words", "share of tokens that are random ones"),
        "audio_noise": ("noisy audio", "noise in standard deviations"),
        "vision_noise": ("noisy vision", "noise in standard deviations"),
    },
)
TITLES = {"mae": "MAE", "corr": "Corr", "acc_2": "Acc-2", "f1": "F1"}


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Draw in the one style of this project, whatever the user's matplotlibrc says.

    The function that is returned takes the title of the figure, too.
    """

    @wraps(draw)
    def drawn(*data: Any, title: str = "") -> Figure:
        with matplotlib.rc_context():
            matplotlib.rcdefaults()
            matplotlib.rcParams.update(STYLE)
            figure = draw(*data)
            if title:
                figure.suptitle(title, wrap=True)
            return figure

    return drawn


def save(figure: Figure, path: Path) -> None:
    """Write the figure, byte for byte the same in every run."""
    with matplotlib.rc_context(STYLE):
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else {})


def as_text(figure: Figure) -> str:
    """Return the figure as SVG for a page that brings its title, background and font.

    Its words are text there, not outlines.
    """
    written, title = StringIO(), figure.get_suptitle()
    figure.suptitle("")
    with matplotlib.rc_context(STYLE | {"svg.fonttype": "none"}):
        figure.savefig(written, format="svg", metadata={"Date": None}, transparent=True)
    figure.suptitle(title)
    return written.getvalue()


@styled
def learning_curves(histories: Mapping[str, Sequence[Columns]]) -> Figure:
    """Draw training loss and validation MAE by epoch: the mean over seeds, each seed thin.

    A dot marks the lowest validation MAE of the mean.
    """
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    panels = figure.subplots(1, 2)
    for axes, column in zip(panels, ("train_loss", "valid_mae"), strict=True):
        for (name, runs), colour in zip(histories.items(), _colours(len(histories)), strict=True):
            if not runs:
                continue
            mean = _curve(axes, runs, column, color=colour, label=name)
            if column == "valid_mae":
                best = int(np.argmin(mean[column]))
                axes.plot(mean["epoch"][best], mean[column][best], "o", color=colour, ms=7)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    panels[0].set_title("training loss (each model's own)")
    panels[1].set_title("validation MAE")
    if any(histories.values()):
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center")
    return figure


@styled
def generated_labels(histories: Mapping[str, Sequence[Columns]]) -> Figure:
    """Draw how the unimodal labels that a model generates fit the true ones, by epoch.

    One row of panels per model with such columns, one panel per modality; each seed thin.
    """
    modalities = {
        name: [c.removeprefix(LABEL_CORR) for c in runs[0] if c.startswith(LABEL_CORR)]
        for name, runs in histories.items()
        if runs
    }
    rows = {name: names for name, names in modalities.items() if names}
    if not rows:
        return _not_measured("no true unimodal labels in the data, or no model that generates any")
    width = max(map(len, rows.values()))
    figure = Figure(figsize=(max(7, 1 + 3 * width), 1.4 + 2.4 * len(rows)), layout="constrained")
    panels = figure.subplots(len(rows), width, sharey=True, squeeze=False)
    for row, (name, names) in zip(panels, rows.items(), strict=True):
        row[0].set_ylabel("correlation")
        for axes, modality in zip(row, names, strict=False):
            column = LABEL_CORR + modality
            for key, label, colour in (
                (column, "generated label with the true one", COLOURS[0]),
                (f"shift_corr_{modality}", "what was added with what was missing", COLOURS[3]),
            ):
                mean = _curve(axes, histories[name], key, color=colour, label=label, **DOTS)
            # Epoch 1 moves no label.
            axes.axhline(mean[column][0], label="multimodal label with the true one", **DASHED)
            axes.set(title=f"{name}: {modality}", xlabel="epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    panels[0, 0].set_ylim(min(0.0, *(axes.dataLim.y0 for axes in panels.flat)) - 0.05, 1)
    _legend_below(figure, panels[0, 0], width)
    return figure


@styled
def predictions_against_labels(
    predictions: Mapping[str, tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]],
    label_range: Sequence[float | int],
    classes: Classes,
) -> Figure:
    """Draw, for each model's (labels, predictions), where the utterances lie, as hexagons.

    The line through them is the mean prediction of each class of the label.
    """
    figure, panels = _panels(len(predictions))
    low, high = label_range
    edge = 0.06 * (high - low)
    bottom = min([low, *(float(p.min()) for _, p in predictions.values())]) - edge
    top = max([high, *(float(p.max()) for _, p in predictions.values())]) + edge
    drawn = []
    for axes, (name, (labels, guesses)) in zip(panels, predictions.items(), strict=True):
        extent = (low - edge, high + edge, bottom, top)
        axes.plot([low, high], [low, high], color=GREY, lw=1, ls="--", label="label = prediction")
        drawn.append(
            axes.hexbin(
                *(labels, guesses), gridsize=24, extent=extent, mincnt=1, cmap=SHADES, lw=0.2
            )
        )
        of_each = classes.of(labels)
        occurring = np.unique(of_each).tolist()
        centres = [classes.values[i] for i in occurring]
        means = [float(guesses[of_each == i].mean()) for i in occurring]
        axes.plot(centres, means, "o-", color="#D55E00", ms=3.5, lw=1.4, label="mean prediction")
        axes.set(
            title=name, xlabel="label", ylabel="prediction", xlim=extent[:2], ylim=(bottom, top)
        )
    _label_outer(panels)
    if drawn:
        fullest = max(cells.get_clim()[1] or 1.0 for cells in drawn)
        for cells in drawn:
            cells.set_norm(LogNorm(1.0, max(2.0, fullest)))
        figure.colorbar(drawn[0], ax=panels, label="utterances", pad=0.02, format="{x:g}")
        _legend_below(figure, panels[0], 2)
    return figure


@styled
def confusions(counts: Mapping[str, Integer[np.ndarray, "k k"]], names: Sequence[str]) -> Figure:
    """Draw each model's confusion of k classes (rows: label), in per cent of the row."""
    figure, panels = _panels(len(counts))
    for axes, (name, matrix) in zip(panels, counts.items(), strict=True):
        total = matrix.sum(axis=1, keepdims=True)
        share = np.divide(100 * matrix, total, out=np.full(matrix.shape, np.nan), where=total > 0)
        axes.pcolormesh(share, cmap=SHADES, vmin=0, vmax=100, edgecolors="white", lw=0.8)
        for (row, column), value in np.ndenumerate(share):
            if value >= 0.5:
                colour = "white" if value > 45 else INK
                x, y, text = column + 0.5, row + 0.5, f"{value:.0f}"
                axes.text(x, y, text, color=colour, fontsize=7, ha="center", va="center")
        ticks = np.arange(len(names)) + 0.5
        axes.set(title=name, xlabel="prediction", ylabel="label", aspect="equal")
        axes.set_xticks(ticks, names)
        axes.set_yticks(ticks, names)
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
    _label_outer(panels)
    figure.supxlabel("per cent of the utterances of each label, all seeds together", fontsize=9)
    return figure


@styled
def comparison(
    rows: Mapping[str, Row],
    baselines: Mapping[str, Row],
    published: Mapping[str, Row],
    published_data: str,
) -> Figure:
    """Draw the four metrics of each row, with spread over seeds and the published value.

    baselines: one or two rows that are drawn as lines across the bars.
    """
    figure = Figure(figsize=(11, 1.9 + 0.5 * len(rows)), layout="constrained")
    panels = figure.subplots(1, len(TITLES), sharey=True)
    for axes, (metric, heading) in zip(panels, TITLES.items(), strict=True):
        for y, ((name, row), colour) in enumerate(
            zip(rows.items(), _colours(len(rows)), strict=True)
        ):
            _bar(axes, y, row, metric, colour)
            value = published.get(name, {}).get(metric)
            if value is not None:
                axes.plot(value, y, "D", **DIAMOND)
        for (name, row), style in zip(baselines.items(), (DASHED, DOTTED), strict=False):
            if row[metric] is not None:
                axes.axvline(row[metric], label=name, **style)
        axes.set_title(heading)
        axes.set_xlim(left=min(0.0, axes.dataLim.x0))  # a correlation can be negative
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
    panels[0].set_yticks(range(len(rows)), list(rows))
    panels[0].invert_yaxis()
    if published:
        label = (
            f"the report, of the same metric (measured on {published_data}); whiskers: std over "
            "seeds"
        )
        panels[0].plot([], [], "D", label=label, **DIAMOND)
    _legend_below(figure, panels[0], 1 + len(baselines))
    return figure


@styled
def sweeps(
    tables: Mapping[str, Mapping[str, Row]],
    published: Mapping[str, Mapping[str, Row]],
    published_data: str,
) -> Figure:
    """Draw the MAE of each row of each sweep: validation, test, published; chosen row ringed."""
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    panels = figure.subplots(1, len(tables), sharey=True, squeeze=False)[0]
    for axes, (heading, table) in zip(panels, tables.items(), strict=True):
        x = np.arange(len(table))
        report = [published[heading].get(name, {}).get("mae", np.nan) for name in table]
        for column, label, line, colour in (
            ("valid_mae", "validation", "o--", COLOURS[0]),
            ("mae", "test", "s-", COLOURS[3]),
        ):
            values = [np.nan if row[column] is None else row[column] for row in table.values()]
            axes.plot(x, values, line, label=label, color=colour, ms=6, lw=1.6)
        if published[heading]:
            axes.plot(x, report, "D", label=f"the report, test ({published_data})", **DIAMOND)
        chosen = [i for i, row in enumerate(table.values()) if row["chosen"]]
        height = [row["valid_mae"] for row in table.values() if row["chosen"]]
        label = "chosen on validation"
        axes.plot(chosen, height, "o", label=label, mfc="none", mec=COLOURS[0], mew=1.4, ms=13)
        axes.set_title(heading)
        axes.set_xticks(x, list(table))
        axes.margins(x=0.12, y=0.12)
        if all(row["mae"] is None for row in table.values()):
            axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", color=GREY)
    if len(panels):
        panels[0].set_ylabel("MAE")
        _legend_below(figure, panels[0], 4)
    return figure


@styled
def robustness(
    measured: Mapping[str, Mapping[str, Mapping[str, Row]]], constant: str, baseline: float
) -> Figure:
    """Draw each model's MAE on corrupted test data by level, one panel for each kind.

    Bands: std over seeds. constant: the name of a prediction that reads nothing; baseline: its MAE.
    """
    if not measured:
        return _not_measured("dvc exp run -S 'robustness_seeds=[1,2,3]'")
    kinds = {kind for curves in measured.values() for kind in curves}
    rows = [{kind: row[kind] for kind in row if kind in kinds} for row in CORRUPTED]
    width = max(1, *map(len, rows))
    figure = Figure(figsize=(max(7, 0.8 + 3.2 * width), 6.6), layout="constrained")
    panels = figure.subplots(len(rows), width, sharey=True, squeeze=False)
    headings = {kind: heading for row in rows for kind, heading in row.items()}
    for axes, (kind, (heading, scale)) in zip(panels.flat, headings.items(), strict=True):
        for (name, curves), colour in zip(measured.items(), _colours(len(measured)), strict=True):
            curve = curves.get(kind, {})
            levels = [float(level) for level in curve]
            mae, std = (
                np.array([row[column] for row in curve.values()], dtype=float)
                for column in ("mae", "mae_std")
            )
            axes.fill_between(levels, mae - std, mae + std, color=colour, alpha=0.2, lw=0)
            axes.plot(levels, mae, "o-", color=colour, lw=1.8, ms=4, label=name)
            if curve:
                axes.set_xticks(levels, list(curve))
        axes.axhline(baseline, label=constant, **DASHED)
        axes.set(title=heading, xlabel=scale)
    for first in panels[:, 0]:
        first.set_ylabel("MAE")
    _legend_below(figure, panels[0, 0], len(measured) + 1)
    return figure


@styled
def missing(
    curves: Mapping[str, Mapping[str, Row]],
    trained: Mapping[str, str | None],
    constant: str,
    baseline: float,
) -> Figure:
    """Draw each model's MAE by the share that is missing in all modalities.

    trained: the models trained with missing data, which are dashed and hollow, in the colour of
    their counterparts, if any. constant: the name of a prediction that reads nothing; baseline:
    its MAE.
    """
    if not curves:
        return _not_measured("dvc exp run -S 'robustness_seeds=[1,2,3]'")
    figure = Figure(figsize=(9, 4.8), layout="constrained")
    axes = figure.subplots()
    places = {name: place for place, name in enumerate(curves)}
    places |= {name: places[other] for name, other in trained.items() if other in places}
    for name in sorted(curves, key=lambda name: (places[name], name in trained)):
        turn, colour = divmod(places[name], len(COLOURS))
        axes.plot(
            [float(share) for share in curves[name]],
            np.array([row["mae"] for row in curves[name].values()], dtype=float),
            marker=MARKERS[turn % len(MARKERS)],
            color=COLOURS[colour],
            ls="--" if name in trained else "-",
            mfc="white" if name in trained else COLOURS[colour],
            lw=1.6,
            ms=4,
            label=name,
        )
    axes.axhline(baseline, label=constant, **DOTTED)
    axes.set(xlabel="share missing in all modalities", ylabel="MAE", xlim=(-0.02, 0.92))
    axes.set_xticks([float(share) for share in next(iter(curves.values()))])
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right center")
    return figure


def _curve(axes: Axes, runs: Sequence[Columns], column: str, **style: Any) -> Columns:
    """Draw the mean over seeds by epoch, and each of several seeds thin. Return all means."""
    for run in runs if len(runs) > 1 else ():
        axes.plot(run["epoch"], run[column], color=style["color"], lw=0.8, alpha=0.4)
    mean = mean_history(runs)
    axes.plot(mean["epoch"], mean[column], lw=2.2, **style)
    return mean


def _legend_below(figure: Figure, axes: Axes, columns: int) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=columns)


def _not_measured(why: str) -> Figure:
    """Draw words instead of data."""
    figure = Figure(figsize=(7, 2.4), layout="constrained")
    figure.text(0.5, 0.5, f"not measured: {why}", ha="center", color=GREY)
    return figure


def _colours(count: int) -> list[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(count)]


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    """Lay out one square panel per model, at most COLUMNS in a row."""
    columns = max(1, min(COLUMNS, count))
    lines = max(1, ceil(count / columns))
    figure = Figure(figsize=(max(7, 1 + 2.7 * columns), 1.2 + 2.8 * lines), layout="constrained")
    panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes in panels[count:]:
        axes.remove()
    return figure, list(panels[:count])


def _label_outer(panels: Sequence[Axes]) -> None:
    """Label the axes of the panels that have none on their left, or none below."""
    for number, axes in enumerate(panels):
        if number % COLUMNS:
            axes.set_ylabel("")
            axes.tick_params(labelleft=False)
        below = number + COLUMNS < len(panels)
        axes.tick_params(labelbottom=not below)
        if below:
            axes.set_xlabel("")


def _bar(axes: Axes, y: int, row: Row, metric: str, colour: str) -> None:
    value, std = row[metric], row[f"{metric}_std"]
    if row["mae"] is None:
        axes.text(0, y, " missing", va="center", color=GREY)
        return
    length = 0.0 if value is None else value  # the metric is not defined
    axes.barh(y, length, height=0.62, color=colour)
    if std is not None:
        axes.errorbar(value, y, xerr=std, color=INK, capsize=3, lw=1.2)
    text = " -" if value is None else f" {value:.3f}"
    axes.text(0, y, text, va="center", color=_readable(colour, length > 0), fontweight="bold")


def _readable(background: str, covered: bool) -> str:
    """Return white on a dark bar, ink on a light one and beside a bar that points to the left."""
    red, green, blue = to_rgb(background)
    dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.6
    return "white" if covered and dark else INK

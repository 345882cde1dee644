"""The figure of published results: MAE by year, with names where there is room for them."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import cycle, product
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox

from msabench.evaluation.literature import Result
from msabench.reporting.figures import COLOURS, DIAMOND, GREY, INK, styled

Places = Mapping[Result, float]  # of each result on the axis of years

# By what the epoch was selected on.
LOOKS: Any = {
    "validation": {"marker": "o", "mfc": INK, "mec": INK, "label": "selected on validation"},
    "unknown": {"marker": "o", "mfc": "white", "mec": INK, "label": "selection unknown"},
    "test": {"marker": "x", "mec": GREY, "label": "on test: not comparable"},
}
LARGE, SMALL = 6.5, 3.8  # markers, in points
SHIFTS = (0.0, -0.11, 0.11, -0.22, 0.22, -0.33, 0.33)  # within a year
# Where a name may stand: how far from its point, in points, and on which side.
DISTANCES = (7, 15, 25, 38)
SIDES = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1))
HORIZONTAL = {1: "left", 0: "center", -1: "right"}
LEADER: Any = {"arrowstyle": "-", "color": GREY, "lw": 0.6, "shrinkA": 0, "shrinkB": 3}
VERTICAL = {1: "bottom", 0: "center", -1: "top"}


@styled
def draw(
    groups: Mapping[str, Sequence[Result]],
    named: Collection[str],
    report: Sequence[Result],
    ours: Mapping[str, float | None],
    run: str,
) -> Figure:
    """Draw the MAE of results by year; those of one year stand side by side.

    groups: what was published, by what the epoch was selected on. named: the models whose names
    are written. report: the results of the report. ours: the MAE of each model of this run, a line.
    run: what these lines are called in the legend.
    """
    figure = Figure(figsize=(10, 6), layout="constrained")
    figure.suptitle(" ")  # keeps the room of the title while names are placed
    axes = figure.subplots()
    everything = [*(result for group in groups.values() for result in group), *report]
    places = _side_by_side(everything)
    for name, group in groups.items():
        for size in (LARGE, SMALL):
            alike = [r for r in group if (r.certainty == "second-hand") == (size == SMALL)]
            look = LOOKS[name] | ({} if size == LARGE else {"label": None})
            axes.plot(*_points(places, alike), ls="", ms=size, mew=1.1, zorder=3, **look)
    axes.plot([], [], "o", ms=SMALL, mfc=GREY, mec=GREY, label="small: second-hand")
    if report:
        axes.plot(*_points(places, report), ls="", marker="D", label="the report", **DIAMOND)
    axes.set(xlabel="year", ylabel="MAE on test")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(visible=False, axis="x")
    axes.margins(x=0.05, y=0.08)
    colours = cycle(COLOURS)  # a model without runs keeps its own, as in the other figures
    lines = {
        name: (mae, colour)
        for (name, mae), colour in zip(ours.items(), colours, strict=False)
        if mae is not None
    }
    _lines(axes, lines, run)
    ncols = 3 if lines else 6  # what is said of the run is long
    figure.legend(loc="outside lower center", ncols=ncols, columnspacing=1.6, handletextpad=0.4)
    names = {r: _short(r.model) for r in everything if r.model in named}
    names |= {r: f"{_short(r.model)} (report)" for r in report}
    figure.draw_without_rendering()  # settles where everything is
    _write_names(axes, names, places, _covered(axes, places, [mae for mae, _ in lines.values()]))
    return figure


def _side_by_side(results: Sequence[Result]) -> Places:
    """Move results of one year apart that would lie on each other."""
    height = 0.025 * (max(r.mae for r in results) - min(r.mae for r in results))
    places: dict[Result, float] = {}
    for result in sorted(results, key=lambda r: r.mae):
        near = [
            place - r.year
            for r, place in places.items()
            if r.year == result.year and abs(r.mae - result.mae) < height
        ]
        free = [shift for shift in SHIFTS if all(abs(shift - other) > 0.01 for other in near)]
        places[result] = result.year + (free or SHIFTS)[0]
    return places


def _points(places: Places, results: Sequence[Result]) -> tuple[list[float], list[float]]:
    return [places[result] for result in results], [result.mae for result in results]


def _short(model: str) -> str:
    """Return the name without its variant and without who ran it, which the marker tells."""
    return model.partition(",")[0].partition(" (")[0]


def _lines(axes: Axes, ours: Mapping[str, tuple[float, str]], run: str) -> None:
    """Draw a line for each model of this run, its MAE and colour, named at the right end."""
    if ours:
        axes.plot([], [], color=INK, lw=1.4, label=run)
    low, high = axes.get_ylim()
    place = -float("inf")
    for name, (mae, colour) in sorted(ours.items(), key=lambda pair: pair[1]):
        axes.axhline(mae, color=colour, lw=1.4, zorder=1)
        place = max(mae, place + 0.04 * (high - low))  # apart from the name below
        axes.annotate(
            f"{name} {mae:.3f}",
            (1.01, place),
            xycoords=("axes fraction", "data"),
            color=colour,
            va="center",
            fontweight="bold",
        )


def _write_names(
    axes: Axes, names: Mapping[Result, str], places: Places, taken: list[Bbox]
) -> None:
    """Write each name at the nearest place that is not taken, if there is one, and take it."""
    for result, name in sorted(names.items(), key=lambda pair: pair[0].mae):
        point = (places[result], result.mae)
        for distance, (right, up) in product(DISTANCES, SIDES):
            offset: Any = {"xytext": (right * distance, up * distance)}
            offset |= {"textcoords": "offset points", "fontsize": 8}
            text = axes.annotate(name, point, ha=HORIZONTAL[right], va=VERTICAL[up], **offset)
            box = text.get_window_extent()
            within = axes.bbox.contains(*box.min) and axes.bbox.contains(*box.max)
            if within and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                if distance > DISTANCES[0]:
                    axes.annotate("", point, arrowprops=LEADER, **offset)
                break
            text.remove()


def _covered(axes: Axes, places: Places, lines: Iterable[float]) -> list[Bbox]:
    """Return the boxes of points and lines, in pixels."""
    reach = LARGE  # more than half a marker
    centres = [axes.transData.transform((place, r.mae)) for r, place in places.items()]
    boxes = [Bbox.from_extents(*(centre - reach), *(centre + reach)) for centre in centres]
    heights = [axes.transData.transform((0, mae))[1] for mae in lines]
    return boxes + [Bbox.from_extents(axes.bbox.x0, y - 2, axes.bbox.x1, y + 2) for y in heights]

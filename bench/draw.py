"""Draw bench/results.json: `python -m bench.draw` writes docs/speed.svg and docs/verdicts.svg."""

import json
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator, NullLocator, PercentFormatter

from bench.harness import RESULTS, ROOT
from msabench.reporting.figures import COLOURS, GREY, save, styled

OURS, MMSA = COLOURS[0], GREY


@styled
def speed(figures: dict[str, Any]) -> Figure:
    """Draw training speed and memory beside MMSA, the SVMs beside scikit-learn, and the growth."""
    figure = Figure(figsize=(12, 8), layout="constrained")
    figure.suptitle("Speed and memory, simulated data of MOSEI's form")
    panels = {"compare_mmsa": samples, "memory": memory, "svm": machines, "scaling": growth}
    for axes, (name, draw) in zip(figure.subplots(2, 2).flat, panels.items(), strict=True):
        draw(axes, figures[name])
        axes.set_xlabel(f"{axes.get_xlabel()}\n{figures[name]['machine']}".strip())
    return figure


def pairs(axes: Axes, rows: dict[str, tuple[float, float]], unit: str) -> None:
    """Draw two bars a row, MMSA above ours, with their values and their ratio."""
    for y, (theirs, ours) in enumerate(rows.values()):
        for offset, value, colour, label in (
            (-0.2, theirs, MMSA, "MMSA 2.2.1"),
            (0.2, ours, OURS, "msabench"),
        ):
            axes.barh(y + offset, value, height=0.36, color=colour, label=label if not y else None)
            axes.text(value, y + offset, f" {significant(value)}{unit}", va="center", fontsize=8)
        text = f"{significant(ours / theirs)} times"
        axes.text(0.985, y, text, va="center", ha="right", transform=axes.get_yaxis_transform())
    axes.set_yticks(range(len(rows)), list(rows))
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")


def significant(value: float) -> str:
    """Write a number with three digits at least, and no power of ten."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def samples(axes: Axes, figures: dict[str, Any]) -> None:
    measured = figures["samples_per_second"]
    rows = {
        f"{text}, {n} thread{'s' * (n > 1)}": (
            measured[f"mmsa_{kind}_{n}_threads"],
            measured[f"ours_{kind}_{n}_threads"],
        )
        for kind, text in (("finetuned", "BERT fine-tuned"), ("frozen", "BERT frozen"))
        for n in (1, 2)
    }
    pairs(axes, rows, "")
    axes.set_xscale("log")
    axes.set_xlim(1, 60 * max(max(row) for row in rows.values()))
    axes.xaxis.set_major_formatter("{x:,g}")
    axes.set_title("Self-MM, BERT-base: samples per second")


def memory(axes: Axes, figures: dict[str, Any]) -> None:
    peaks = figures["anonymous_gigabytes_in_training"]
    rows = {f"BERT fine-tuned,\n{figures['batches']} batches": (peaks["mmsa"], peaks["ours"])}
    pairs(axes, rows, " GB")
    axes.set_ylim(1, -1)
    axes.set_xlim(right=1.45 * max(max(row) for row in rows.values()))
    axes.set_xlabel("GB, anonymous, once it trains")
    axes.legend(fontsize=8, loc="lower right")
    axes.set_title(f"Self-MM, BERT-base, {figures['utterances']:,} utterances: memory")


def machines(axes: Axes, figures: dict[str, Any]) -> None:
    seconds = figures["seconds"]
    rows = {
        "scikit-learn, 1 thread": ("plain", MMSA),
        "msabench, 1 thread": ("ours_1_threads", OURS),
        "msabench, 2 threads": ("ours_2_threads", OURS),
    }
    for y, (key, colour) in enumerate(rows.values()):
        axes.barh(y, seconds[key], height=0.5, color=colour)
        ratio = seconds["plain"] / seconds[key]
        text = f" {seconds[key]:.0f} s" + (f", {ratio:.1f} times as fast" if y else "")
        axes.text(seconds[key], y, text, va="center", fontsize=8)
    axes.set_yticks(range(len(rows)), list(rows))
    axes.invert_yaxis()
    axes.set_xlim(right=1.25 * seconds["plain"])
    axes.set_xlabel("seconds")
    axes.grid(visible=False, axis="y")
    utterances, width = figures["training_utterances"], sum(figures["widths"])
    axes.set_title(f"Table 2: seven SVMs, up to {utterances:,} x {width}")


def growth(axes: Axes, figures: dict[str, Any]) -> None:
    counts = figures["utterances"]
    for number, (name, stage) in enumerate(figures["stages"].items()):
        style: Any = {"color": COLOURS[number % len(COLOURS)], "ls": "-" if number < 7 else "--"}
        exponent = stage["exponent"]
        label = name if exponent is None else f"{name}: n^{exponent:.1f}"
        axes.plot(counts, stage["seconds"], "o", ms=4, label=label, **style)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(counts, [f"{count:,}" for count in counts])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("utterances, of all splits")
    axes.set_ylabel("seconds")
    axes.set_title("Each stage, one thread; growth beyond start-up")
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))


@styled
def verdicts(figures: dict[str, Any]) -> Figure:
    """Draw the share of false differences of each test by the number of seeds."""
    figure = Figure(figsize=(7.5, 3.6), layout="constrained")
    axes = figure.subplots()
    lines = figures["share_below_05"].items()
    for (test, shares), colour in zip(lines, (GREY, COLOURS[1], COLOURS[0]), strict=True):
        small: Any = {"ha": "center", "fontsize": 8, "color": colour}
        axes.plot(figures["seeds"], shares, "o-", color=colour, lw=2, label=test)
        for k, share in zip(figures["seeds"], shares, strict=True):
            offset = -14 if test == "videos and seeds" else 6
            axes.annotate(
                f"{share:.1%}", (k, share), (0, offset), textcoords="offset points", **small
            )
    axes.axhline(0.05, color=COLOURS[2], ls="--", lw=1.2, label="nominal level, 5 %")
    axes.set(xlabel="seeds of each model", ylabel="share of p < .05", ylim=(0, None))
    axes.set_xticks(figures["seeds"])
    axes.yaxis.set_major_locator(MultipleLocator(0.05))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_title(f"{figures['videos']} videos, {figures['trials']:,} pairs of models, simulated")
    axes.legend(fontsize=8)
    return figure


if __name__ == "__main__":
    results = json.loads(RESULTS.read_text())
    save(speed(results), ROOT / "docs" / "speed.svg")
    save(verdicts(results["verdicts"]), ROOT / "docs" / "verdicts.svg")

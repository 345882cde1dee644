from typing import Any
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from msabench.evaluation import literature
from msabench.evaluation.metrics import confusion
from msabench.evaluation.robustness import LEVELS
from msabench.labels import MOSEI, LabelScale, classes_of
from msabench.reporting import figures, published_figure

RANDOM = np.random.default_rng(0)
LABELS = RANDOM.choice(np.arange(-9, 10) / 3, 80)
GUESSES = LABELS + RANDOM.normal(0, 0.5, 80)
CLASSES = classes_of(LABELS, MOSEI, "mosei")
HISTORY = {"epoch": [1.0, 2.0, 3.0], "train_loss": [3.0, 2.0, 1.0], "valid_mae": [0.9, 0.7, 0.8]}
LONGER = {"epoch": [1.0, 2.0, 3.0, 4.0], "train_loss": [4.0] * 4, "valid_mae": [1.0] * 4}


def row(mae: float | None, corr: float | None = 0.7, **more) -> dict:
    values = {"mae": mae, "corr": corr, "acc_2": mae, "f1": mae}
    spread = {f"{name}_std": None if value is None else 0.01 for name, value in values.items()}
    return values | spread | more


SETTINGS = {
    "64": row(0.5, valid_mae=0.4, chosen=True),
    "32": row(None, valid_mae=None, chosen=False),
}
REPORT = {"64": {"mae": 0.563}, "32": {"mae": 0.577}}
TOLD = HISTORY | {"label_corr_text": [0.9, 0.8, 0.7], "shift_corr_text": [0.0, 0.1, -0.4]}
CURVE = {
    "0": {"mae": 0.4, "mae_std": 0.01},
    "0.5": {"mae": None, "mae_std": None},
    "1": {"mae": 0.7, "mae_std": None},
}
LONG = "simulated data" + " of a data set with a long name" * 4
DRAWN = {
    "learning with a long title": lambda: figures.learning_curves({"A": [HISTORY]}, title=LONG),
    "generated labels": lambda: figures.generated_labels(
        {"A": [TOLD, TOLD], "B": [HISTORY], "C": []}, title="simulated data"
    ),
    "generated labels of nothing": lambda: figures.generated_labels(
        {"B": [HISTORY]}, title="simulated data"
    ),
    "learning": lambda: figures.learning_curves(
        {"A": [HISTORY, LONGER], "B": [], "C": [HISTORY]}, title="simulated data"
    ),
    "learning of nothing": lambda: figures.learning_curves({"B": []}, title="simulated data"),
    "predictions": lambda: figures.predictions_against_labels(
        dict.fromkeys("ABCDE", (LABELS, GUESSES)), [-3, 3], CLASSES, title="simulated data"
    ),
    "predictions of one": lambda: figures.predictions_against_labels(
        {"A": (LABELS[:1], GUESSES[:1])}, [-3, 3], CLASSES, title="simulated data"
    ),
    "predictions of nothing": lambda: figures.predictions_against_labels(
        {}, [-3, 3], CLASSES, title="simulated data"
    ),
    "confusion": lambda: figures.confusions(
        {
            "A": confusion(LABELS, GUESSES, CLASSES),
            "B": confusion(LABELS[:1], GUESSES[:1], CLASSES),
        },
        CLASSES.signed_names,
        title="simulated data",
    ),
    "comparison": lambda: figures.comparison(
        {"A": row(0.5), "B": row(None, None), "C": row(0.6, -0.2)},
        {"mean": row(0.8, None), "probe": row(0.7, -0.4)},
        {"A": {"mae": 0.6}, "C": {"corr": 0.5}},
        "MOSEI",
        title="simulated data",
    ),
    "published": lambda: published_figure.draw(
        dict.fromkeys(published_figure.LOOKS, literature.published("mosei")),
        ["MMML, CME and context"],
        literature.of_report("mosei"),
        {"A model with a long name (text and audio)": 0.5, "B": 0.501, "C": None},
        "this run, text alone, a-text-encoder-with-a-long-name",
        title="simulated data",
    ),
    "robustness": lambda: figures.robustness(
        {"A": dict.fromkeys(LEVELS, CURVE), "B": {"text_noise": CURVE, "text_missing": {}}},
        "the median",
        0.8,
        title="simulated data",
    ),
    "robustness of text": lambda: figures.robustness(
        {"A": {"text_missing": CURVE, "text_noise": CURVE}}, "m", 0.8, title="simulated data"
    ),
    "robustness of nothing": lambda: figures.robustness({}, "m", 0.8, title="simulated data"),
    "missing": lambda: figures.missing(
        {"A": CURVE, "B": CURVE, "C": {}, "A (gaps)": CURVE, "D (gaps)": CURVE},
        {"A (gaps)": "A", "D (gaps)": None},
        "the median",
        0.8,
        title="simulated data",
    ),
    "missing of many": lambda: figures.missing(
        {f"a model with a long name {i}": CURVE for i in range(18)},
        {},
        "the median of the training labels",
        0.8,
        title="simulated data",
    ),
    "missing of nothing": lambda: figures.missing({}, {}, "m", 0.8, title="simulated data"),
    "sweeps": lambda: figures.sweeps(
        {"batch size": SETTINGS, "width": {"32": SETTINGS["32"]}},
        {"batch size": REPORT, "width": REPORT},
        "MOSEI",
        title="simulated data",
    ),
}


@pytest.mark.parametrize("name", [name for name in DRAWN if " of " not in name])
def test_every_figure_is_the_same_in_every_run(name, tmp_path):
    paths = [tmp_path / "first.svg", tmp_path / "second.svg"]
    for path in paths:
        figure = DRAWN[name]()
        assert isinstance(figure, Figure)
        figures.save(figure, path)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert ElementTree.parse(paths[0]).getroot().tag.endswith("svg")
    assert "<dc:date>" not in paths[0].read_text()


@pytest.mark.parametrize("name", DRAWN)
def test_every_figure_names_the_data_and_clips_no_text(name):
    figure = DRAWN[name]()
    assert "simulated data" in figure.get_suptitle()
    figure.canvas.draw()
    width, height = figure.bbox.size
    box = figure.get_tightbbox().transformed(figure.dpi_scale_trans)
    assert box.x0 >= -1
    assert box.y0 >= -1
    assert box.x1 <= width + 1
    assert box.y1 <= height + 1


def test_figures_leave_the_settings_of_others_alone():
    before = dict(matplotlib.rcParams)
    DRAWN["comparison"]()
    assert dict(matplotlib.rcParams) == before


def test_a_model_keeps_its_colour_when_another_has_no_data():
    axes = DRAWN["learning"]().axes[1]
    colours = {line.get_label(): line.get_color() for line in axes.lines}
    assert colours["A"] == figures.COLOURS[0]
    assert colours["C"] == figures.COLOURS[2]


def test_learning_curves_draw_the_mean_over_the_epochs_that_all_seeds_reached():
    axes = DRAWN["learning"]().axes[0]
    mean = next(line for line in axes.lines if line.get_label() == "A")
    assert np.array_equal(mean.get_xdata(), [1, 2, 3])
    assert np.array_equal(mean.get_ydata(), [3.5, 3.0, 2.5])


def test_comparison_marks_the_report_only_where_it_has_the_metric():
    axes = DRAWN["comparison"]().axes
    marks = [[line for line in panel.lines if line.get_marker() == "D"] for panel in axes]
    assert [len([m for m in panel if np.size(m.get_xdata())]) for panel in marks] == [1, 1, 0, 0]
    assert axes[1].get_xlim()[0] < -0.39  # a negative correlation stays visible


def test_comparison_draws_a_line_for_each_baseline_where_the_metric_is_defined():
    figure = DRAWN["comparison"]()
    drawn = [
        {
            line.get_label(): (np.asarray(line.get_xdata())[0], line.get_linestyle())
            for line in panel.lines
            if line.get_label() in ("mean", "probe")
        }
        for panel in figure.axes
    ]
    both = {"mean": (0.8, "--"), "probe": (0.7, ":")}
    assert drawn == [both, {"probe": (-0.4, ":")}, both, both]
    assert [text.get_text() for text in figure.legends[0].get_texts()][:2] == ["mean", "probe"]


def test_comparison_draws_a_dash_for_what_is_not_defined_and_says_missing_of_a_row_without_runs():
    rows = {"A": row(0.5) | {"acc_2": None, "acc_2_std": None}, "B": row(None, None)}
    axes = figures.comparison(rows, {}, {}, "MOSEI").axes
    words = [[text.get_text() for text in panel.texts] for panel in axes]
    assert words == [
        [" 0.500", " missing"],
        [" 0.700", " missing"],
        [" -", " missing"],
        [" 0.500", " missing"],
    ]


def test_the_mean_prediction_is_drawn_at_the_labels_there_are():
    labels = np.array([0.0, 0.0, 1.0, 1.0])
    classes = classes_of(labels, LabelScale.of([0, 1]), "mosei")
    guesses = np.array([0.1, 0.3, 0.6, 0.8])
    axes = figures.predictions_against_labels({"A": (labels, guesses)}, [0, 1], classes).axes[0]
    line = next(line for line in axes.lines if line.get_label() == "mean prediction")
    assert np.array_equal(line.get_xdata(), [0, 1])
    assert line.get_ydata() == pytest.approx([0.2, 0.7])


def test_confusion_is_in_per_cent_of_the_label():
    figure = DRAWN["confusion"]()
    shares: list[Any] = [panel.collections[0].get_array() for panel in figure.axes]
    first, second = (np.ma.filled(share, np.nan).reshape(7, 7) for share in shares)
    assert first.sum(axis=1) == pytest.approx(np.full(7, 100.0))
    assert np.isnan(second).all(axis=1).sum() == 6  # one label only


def test_robustness_has_a_panel_for_each_kind_with_every_model_in_its_colour():
    panels = DRAWN["robustness"]().axes
    assert len(panels) == len(LEVELS) - 1  # all_missing has a figure of its own
    wrong_words = panels[3]
    colours = {line.get_label(): line.get_color() for line in wrong_words.lines}
    assert (colours["A"], colours["B"]) == figures.COLOURS[:2]
    dashed = next(line for line in wrong_words.lines if line.get_linestyle() == "--")
    np.testing.assert_array_equal(dashed.get_ydata(), 0.8)
    curve = next(line for line in wrong_words.lines if line.get_label() == "A")
    np.testing.assert_array_equal(curve.get_ydata(), [0.4, np.nan, 0.7])
    assert len(DRAWN["robustness of text"]().axes) == 2


def test_missing_draws_a_model_trained_with_it_dashed_beside_its_counterpart_in_its_colour():
    figure = DRAWN["missing"]()
    lines = {str(line.get_label()): line for line in figure.axes[0].lines}
    assert list(lines) == ["A", "A (gaps)", "B", "C", "D (gaps)", "the median"]
    shown = [text.get_text() for text in figure.legends[0].get_texts()]
    assert shown == list(lines)
    styles = {name: (line.get_color(), line.get_linestyle()) for name, line in lines.items()}
    first, second, _, _, fifth, *_ = figures.COLOURS
    assert styles["A"] == (first, "-")
    assert styles["A (gaps)"] == (first, "--")
    assert styles["B"] == (second, "-")
    assert styles["D (gaps)"] == (fifth, "--")
    np.testing.assert_array_equal(lines["B"].get_xdata(), [0, 0.5, 1])
    np.testing.assert_array_equal(lines["B"].get_ydata(), [0.4, np.nan, 0.7])
    np.testing.assert_array_equal(lines["the median"].get_ydata(), 0.8)


def test_missing_tells_more_models_apart_than_there_are_colours():
    lines = DRAWN["missing of many"]().axes[0].lines
    looks = {(line.get_color(), line.get_marker()) for line in lines}
    assert len(looks) == len(lines) == 19


@pytest.mark.parametrize("name", ["robustness of nothing", "missing of nothing"])
def test_robustness_says_how_to_measure_it(name):
    (printed,) = [text for text in DRAWN[name]().texts if "not" in text.get_text()]
    assert printed.get_text() == "not measured: dvc exp run -S 'robustness_seeds=[1,2,3]'"

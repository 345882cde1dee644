"""The section of what others published on the same corpus."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

from msabench.evaluation import cautions, literature
from msabench.evaluation.literature import ON_TEST, Result
from msabench.evaluation.results import Results
from msabench.evaluation.tables import BASELINES, Row, printed_name
from msabench.reporting.document import Cell, Column, Section, Table, Title, row
from msabench.utterances import MODALITIES

METRICS = ("mae", "corr", "acc_2", "f1", "acc_7")
COLUMNS = [
    Column("", "words"),
    Column("year", "count"),
    *map(Column, METRICS),
    Column("text encoder", "words"),
    Column("data file", "words", detail=True),
    Column("seeds", "words", detail=True),
    Column("selected by", "words"),
    Column("source", "words"),
]
OURS, UNFAIR, SECOND_HAND = "*", "†", "‡"
MARKS = {
    UNFAIR: "Not comparable: test data selected the epoch or the settings, or each metric has "
    "an epoch of its own.",
    SECOND_HAND: "Second-hand: the source quotes it from elsewhere.",
}


@dataclass(frozen=True)
class Measured:
    """A model of Table 6.

    values: its row. read: `text alone`, `text and audio`; empty if it reads all three modalities.
    text_encoder: the last part of the encoder's name; None if the model reads no text.
    """

    values: Row
    read: str
    text_encoder: str | None


def section(results: Results) -> Section:
    """Return all results on the corpus by MAE, those of this run among them if it is real data."""
    corpus = literature.corpus_of(results.plan)
    if corpus is None:
        return Section("published", Title("Published results"), [])
    title = Title("Published results", literature.NAMES[corpus])
    others = literature.published(corpus)
    numbers = {
        source: str(i) for i, source in enumerate(dict.fromkeys(r.source for r in others), start=1)
    }
    rows = [(result.mae, _row(result, numbers[result.source])) for result in others]
    report = literature.of_report(corpus)
    rows += [(result.mae, _row(result, "the report", OURS)) for result in report]
    rows += [
        (model.values["mae"], _measured(name, model, results))
        for name, model in measured(results).items()
        if model.values["mae"] is not None
    ]
    rows.sort(key=lambda pair: pair[0])
    about = (
        f"Results on the test split of {title.data}; acc_2 and f1 are those without neutral "
        "labels. selected by: the data that selected epoch and settings. What to know before "
        "comparing is in docs/results.md; the selection rules in words, and notes, are in "
        "`src/msabench/evaluation/literature.csv`."
    )
    sources = {number: source for source, number in numbers.items()}
    own = f"marks the rows of {'the report and of ' if report else ''}this run."
    marks = {OURS: own} | MARKS | sources
    table = Table(COLUMNS, [cells for _, cells in rows], marks=marks, folded=True)
    return Section("published", title, [about, *left_out(results), table])


def measured(results: Results) -> dict[str, Measured]:
    """Return the models of Table 6 by printed name; none of simulated data."""
    if results.plan["simulated"]:
        return {}
    encoder, read = PurePath(results.plan["text_encoder"]).name, cautions.modalities_read(results)
    return {
        printed_name(name): Measured(
            values, _named(read[name]), encoder if "text" in read[name] else None
        )
        for name, values in results.tables["6"].items()
        if name not in BASELINES
    }


def _named(modalities: Sequence[str]) -> str:
    """Name what a model reads, where that is not what most published results read."""
    if len(modalities) == len(MODALITIES):
        return ""
    return " and ".join(modalities) + (" alone" if len(modalities) == 1 else "")


def left_out(results: Results) -> list[str]:
    """Say that what was measured on simulated data is not among the results on a corpus."""
    if not results.plan["simulated"]:
        return []
    return [f"What was measured on {results.plan['title']} is not among them."]


def _row(result: Result, source: str, mark: str = "") -> list[Cell]:
    return row(
        Cell(result.model, mark=mark),
        result.year,
        Cell(result.mae, mark=UNFAIR if result.selection in ON_TEST else ""),
        *(getattr(result, metric) for metric in METRICS[1:]),
        *(result.text_encoder, result.data_file, result.seeds, result.selection),
        Cell(source, mark=SECOND_HAND if result.certainty == "second-hand" else ""),
    )


def _measured(name: str, model: Measured, results: Results) -> list[Cell]:
    """Return a model of this run."""
    values, run = model.values, f"this run, {model.read}" if model.read else "this run"
    scores = [Cell(values.get(metric), values.get(f"{metric}_std")) for metric in METRICS]
    seeds = len(results.plan["seeds"])
    return row(
        *(Cell(f"{name} ({run})", mark=OURS), None, *scores),
        *(model.text_encoder, results.plan["title"], str(seeds), "validation", "this run"),
    )

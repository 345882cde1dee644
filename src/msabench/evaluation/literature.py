"""Published results on CMU-MOSEI and CMU-MOSI, one row of literature.csv each.

All are of the official test split. docs/results.md says what to know before comparing with them.
"""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from msabench import errors
from msabench.errors import DataError
from msabench.evaluation.metrics import HEADLINE
from msabench.evaluation.tables import PUBLISHED, printed_name

FILE = Path(__file__).with_name("literature.csv")
Corpus = Literal["mosei", "mosi"]
NAMES: Mapping[Corpus, str] = {"mosei": "CMU-MOSEI", "mosi": "CMU-MOSI"}
ON_TEST = ("test", "per metric")  # selections by test data, which make a result incomparable

Text = Annotated[str, Field(min_length=1)]
Share = Annotated[float, Field(ge=0, le=1)]


class Result(BaseModel):
    """What a source reports of one model on the test split of a corpus.

    mae: in units of the label, of a range of 6. acc_2, f1: without neutral labels, F1 weighted.
    data_file: MMSA's aligned or unaligned pickle, or what else was read. seeds: as stated.
    selection: which data selected the epoch and the settings; `per metric`: the best of each metric
    on test. rule: how, with the place in the code where that was read. certainty: `read`, or
    `read once` and not checked again, in the source itself; `second-hand`: the source quotes it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    corpus: Corpus
    model: Text
    year: Annotated[int, Field(ge=2016, le=2100)]
    data_file: Text
    text_encoder: Text
    mae: Annotated[float, Field(gt=0, le=6)]
    corr: Annotated[float, Field(ge=-1, le=1)] | None = None
    acc_2: Share | None = None
    f1: Share | None = None
    acc_7: Share | None = None
    seeds: Text
    selection: Literal["validation", "test", "per metric", "unknown", "none"]
    rule: str = ""
    source: Text
    certainty: Literal["read", "read once", "second-hand"]
    note: str = ""


@errors.see("docs/results.md")
def read(path: Path = FILE) -> list[Result]:
    """Return the results in the order of the file; an empty cell is not known.

    Raises DataError for a row that is not a Result, or has the corpus and the model of another.
    """
    results: dict[tuple[str, str], Result] = {}
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, restkey="more")
        for row in rows:
            place = f"{path.name}: line {rows.line_num}"
            result = _result(place, {column: value for column, value in row.items() if value})
            key = (result.corpus, result.model)
            if key in results:
                raise DataError(
                    f"{place}: model {result.model!r} again; one row for each of {result.corpus}"
                )
            results[key] = result
    return list(results.values())


def corpus_of(plan: Mapping[str, Any]) -> Corpus | None:
    """Return the corpus whose published results stand beside those of a run; None if there is none.

    plan: of the tables. Simulated data stand in for MOSEI.
    """
    name = "mosei" if plan["simulated"] else plan["corpus"]
    return next((corpus for corpus in NAMES if corpus == name), None)


def has_report(plan: Mapping[str, Any]) -> bool:
    """Return whether the figures of the report stand beside those of a run."""
    return corpus_of(plan) == PUBLISHED["corpus"]


def published(corpus: Corpus) -> list[Result]:
    """Return the results on a corpus, by MAE."""
    results = [result for result in read() if result.corpus == corpus]
    return sorted(results, key=lambda result: result.mae)


def of_report(corpus: Corpus) -> list[Result]:
    """Return Table 6 of the report; nothing of a corpus that it has not."""
    if corpus != PUBLISHED["corpus"]:
        return []
    facts = PUBLISHED["protocol"]
    return [
        Result(
            corpus=corpus,
            model=f"{printed_name(name)} (the report)",
            **{key: facts[key] for key in ("year", "data_file", "text_encoder", "seeds")},
            **{metric: row.get(metric) for metric in HEADLINE},
            selection=facts["selection"][name],
            source="the report, Table 6",
            certainty="read",
        )
        for name, row in PUBLISHED["tables"]["6"]["rows"].items()
    ]


def _result(place: str, row: Mapping[str, Any]) -> Result:
    try:
        return Result(**row)
    except ValidationError as error:
        first = error.errors()[0]
        value = "" if first["type"] == "missing" else f" {first['input']!r}"
        raise DataError(f"{place}: {first['loc'][0]}{value}: {first['msg']}") from None

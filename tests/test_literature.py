"""What is published on the corpora: what the file holds, and what it permits."""

import csv
from itertools import combinations

import pytest

from msabench.errors import DataError
from msabench.evaluation import literature
from msabench.evaluation.literature import ON_TEST
from msabench.evaluation.tables import PUBLISHED

RESULTS = literature.read()
ROW = {
    **{"corpus": "mosei", "model": "A", "year": "2021", "data_file": "unaligned"},
    **{"text_encoder": "bert-base", "mae": "0.53", "corr": "", "acc_2": "0.85", "f1": "0.85"},
    **{"acc_7": "", "seeds": "5", "selection": "validation", "rule": "", "source": "a paper"},
    **{"certainty": "read", "note": ""},
}


def written(path, *rows: dict[str, str]):
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_the_file_has_results_on_both_corpora_and_all_that_makes_them_comparable():
    assert {result.corpus for result in RESULTS} == set(literature.NAMES)
    assert {result.selection for result in RESULTS} >= {"validation", "test", "per metric"}
    for result in RESULTS:
        assert result.rule or result.selection not in ON_TEST, result
    mmsa = [result for result in RESULTS if result.source.startswith("thuiar/MMSA")]
    assert len(mmsa) == 22
    assert {result.selection for result in mmsa} == {"test"}


def test_no_result_stands_twice_in_the_file():
    """Under another name, or as another paper quotes it."""
    for a, b in combinations(RESULTS, 2):
        figures = [(r.corpus, r.mae, r.corr, r.acc_2, r.f1, r.acc_7) for r in (a, b)]
        assert figures[0] != figures[1], (a.model, b.model)


def test_empty_cells_are_not_known(tmp_path):
    (result,) = literature.read(written(tmp_path / "a.csv", ROW))
    assert (result.corr, result.acc_7, result.rule, result.note) == (None, None, "", "")
    assert (result.year, result.mae, result.acc_2) == (2021, 0.53, 0.85)


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("source", "", "source: Field required"),
        ("mae", "", "mae: Field required"),
        ("mae", "53.0", "mae '53.0': Input should be less than or equal to 6"),
        ("acc_2", "85.2", "acc_2 '85.2': Input should be less than or equal to 1"),
        ("corr", "nan", "corr 'nan': Input should be a finite number"),
        ("year", "21", "year '21': Input should be greater than or equal to 2016"),
        ("corpus", "sims", "corpus 'sims': Input should be 'mosei' or 'mosi'"),
        ("selection", "valid", "selection 'valid': Input should be 'validation', 'test', "),
        ("certainty", "from memory", "certainty 'from memory': Input should be 'read', "),
        ("std", "0.1", "std '0.1': Extra inputs are not permitted"),
    ],
)
def test_a_wrong_cell_is_an_error_that_names_line_column_and_value(tmp_path, column, value, words):
    path = written(tmp_path / "a.csv", ROW | {"std": ""}, ROW | {"model": "B", column: value})
    with pytest.raises(DataError) as error:
        literature.read(path)
    assert str(error.value).startswith(f"a.csv: line 3: {words}")


def test_a_model_has_one_row_for_each_corpus(tmp_path):
    both = written(tmp_path / "a.csv", ROW, ROW | {"corpus": "mosi"})
    assert len(literature.read(both)) == 2
    with pytest.raises(DataError, match="line 3: model 'A' again; one row for each of mosei"):
        literature.read(written(tmp_path / "b.csv", ROW, ROW | {"mae": "0.6"}))


def test_the_rows_of_the_report_are_its_table_6():
    rows = PUBLISHED["tables"]["6"]["rows"]
    assert [r.mae for r in literature.of_report("mosei")] == [row["mae"] for row in rows.values()]
    svm = next(r for r in literature.of_report("mosei") if r.model == "SVM (the report)")
    assert svm.acc_2 is None  # another metric
    assert literature.of_report("mosi") == []

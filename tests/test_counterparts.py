"""Runs that are trained with missing data find the runs that are else the same."""

from msabench.counterparts import counterparts
from tests.test_plan import BASE, planned

MISSING = {"share": 0.5, "copies": 4}


def config(missing=None, **others):
    schedule = {"epochs": 3, **({"missing": missing} if missing else {})}
    return {"model": "ours", "network": {"layers": 1}, "schedule": schedule, **others}


def test_a_counterpart_is_the_same_but_for_what_is_missing():
    named = counterparts(
        {
            "gaps": config(MISSING),
            "deeper": config(network={"layers": 2}),
            "ours": config(),
            "again": config(),
            "longer": {**config(MISSING), "schedule": {"epochs": 4, "missing": MISSING}},
            "more": config({"share": 0.9}),
        }
    )
    assert named == {
        "gaps": {"settings": MISSING, "counterpart": "ours"},
        "longer": {"settings": MISSING, "counterpart": None},
        "more": {"settings": {"share": 0.9}, "counterpart": "ours"},
    }


def test_a_schedule_that_says_none_is_one_without():
    configs = {"ours": config(), "gaps": config(MISSING)}
    configs["ours"]["schedule"]["missing"] = None
    assert counterparts(configs) == {"gaps": {"settings": MISSING, "counterpart": "ours"}}


def test_the_tables_know_of_none_where_no_model_is_trained_so():
    """The SVM has no schedule."""
    assert "svm" in BASE.compare
    assert planned()["stages/tables"]["missing"] == {}

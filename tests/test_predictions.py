"""predictions.csv, the narrow waist."""

import numpy as np
import pytest

from msabench.errors import DataError
from msabench.predictions import Predictions


def test_round_trip_is_exact(tmp_path):
    """Nothing of a float32 is lost on paper, and ids may hold what csv must quote."""
    values = np.random.default_rng(0).normal(size=3).astype(np.float32)
    Predictions(['a"b$_$0', "c,d$_$1", "é$_$2"], values, -values).write(tmp_path / "p.csv")
    read = Predictions.read(tmp_path / "p.csv")
    assert read.ids == ['a"b$_$0', "c,d$_$1", "é$_$2"]
    assert (read.labels.astype(np.float32) == values).all()
    assert (read.predictions.astype(np.float32) == -values).all()


@pytest.mark.parametrize("value", ["nan", "", "inf", "x"])
def test_a_value_that_is_no_number_is_named(tmp_path, value):
    (tmp_path / "p.csv").write_text(f"id,label,prediction\na,1.0,{value}\n")
    with pytest.raises(DataError, match=r"p.csv: line 2: label '1.0', prediction"):
        Predictions.read(tmp_path / "p.csv")

"""How long a training took: all of its parts, and no other training's."""

import json
from itertools import chain, repeat

import pytest

from msabench.execution import times


@pytest.fixture
def clock(monkeypatch):
    """Each part takes ten seconds."""
    ticks = chain.from_iterable(repeat((0.0, 10.0)))
    monkeypatch.setattr(times.time, "monotonic", lambda: next(ticks))


def part(path, training="a-1", weights=None):
    with times.recorded(path, training, "cpu") as record:
        if weights is None:
            raise InterruptedError
        record["weights"] = weights


def broken_off(path, training="a-1"):
    with pytest.raises(InterruptedError):
        part(path, training)


@pytest.mark.usefixtures("clock")
def test_the_parts_of_an_interrupted_training_add_up(tmp_path):
    path = tmp_path / "times" / "a-1.json"
    broken_off(path)
    broken_off(path)
    part(path, weights="0ab")
    record = times.read(path)
    assert (record["seconds"], record["parts"], record["weights"]) == (30.0, 3, "0ab")


@pytest.mark.usefixtures("clock")
def test_another_training_does_not_count(tmp_path):
    path = tmp_path / "a-1.json"
    broken_off(path, training="of other settings")
    part(path, weights="0ab")
    assert times.read(path)["seconds"] == 10.0


@pytest.mark.usefixtures("clock")
def test_nor_does_the_same_training_after_its_end(tmp_path):
    path = tmp_path / "a-1.json"
    part(path, weights="0ab")
    part(path, weights="0ab")
    assert times.read(path)["parts"] == 1


@pytest.mark.parametrize("content", ["", "{", "[1]", "null"])
def test_a_damaged_record_counts_as_none(tmp_path, content):
    path = tmp_path / "a-1.json"
    path.write_text(content)
    assert times.read(path) == {}
    part(path, weights="0ab")
    assert json.loads(path.read_text())["parts"] == 1


def test_what_cannot_be_written_stops_no_training(tmp_path):
    (tmp_path / "times").write_text("a file where the folder should be")
    part(tmp_path / "times" / "a-1.json", weights="0ab")
    broken_off(tmp_path / "times" / "a-1.json")

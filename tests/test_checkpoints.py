"""Checkpoints: when they are written, what survives a broken one, and that nothing is lost."""

import json
import os
import shutil
import subprocess

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from msabench.errors import ParamsError
from msabench.training import checkpoints
from msabench.training.checkpoints import NAME, SECONDS, Checkpoints, Progress
from tests.test_training import LABELS, Line, fit, utterances

DATA = utterances(LABELS)  # eight batches of four


@pytest.fixture(autouse=True)
def after_every_step(monkeypatch):
    monkeypatch.setenv(SECONDS, "0")


class Chancy(Line):
    """A line behind dropout: each step draws random numbers."""

    def __init__(self):
        super().__init__()
        self.dropout = nn.Dropout(0.5)

    def forward(self, batch):
        return self.dropout(super().forward(batch))


class PowerCut(BaseException):
    """Nothing catches it."""


def broken_off(build, steps):
    """The network, breaking off after so many batches."""

    def broken():
        network = build()
        whole, left = network.training_loss, iter(range(steps))

        def training_loss(batch, epoch):
            if next(left, None) is None:
                raise PowerCut
            return whole(batch, epoch)

        network.training_loss = training_loss
        return network

    return broken


def assert_same(actual, expected):
    """Two trainings have the same history and weights, bit for bit."""
    (regressor, history), (other, expected_history) = actual, expected
    assert history == expected_history
    torch.testing.assert_close(
        regressor.network.state_dict(), other.network.state_dict(), rtol=0, atol=0
    )


@pytest.fixture(scope="module", params=[1, 3])
def uninterrupted(request, tmp_path_factory):
    """So many accumulated batches, and a training with them."""
    scratch = tmp_path_factory.mktemp("whole")
    return request.param, fit(Chancy, DATA, scratch, accumulate=request.param)


@pytest.mark.parametrize("steps", range(1, 24))
def test_broken_off_after_any_batch(steps, uninterrupted, tmp_path):
    """Three epochs of eight batches, whose chance goes on where it was."""
    accumulate, whole = uninterrupted
    with pytest.raises(PowerCut):
        fit(broken_off(Chancy, steps), DATA, tmp_path / "broken", accumulate=accumulate)
    resumed = fit(Chancy, DATA, tmp_path / "broken", accumulate=accumulate)
    assert_same(resumed, whole)


def test_it_goes_on_and_does_not_begin_again(tmp_path, capsys):
    with pytest.raises(PowerCut):
        fit(broken_off(Line, 11), DATA, tmp_path)
    done = []

    class Counting(Line):
        def training_loss(self, batch, epoch):
            done.append(epoch)
            return super().training_loss(batch, epoch)

    fit(Counting, DATA, tmp_path)
    assert done == [2] * 5 + [3] * 8
    assert f"resumed from {tmp_path / NAME}: epoch 2, after 3 batches" in capsys.readouterr().err


def test_a_finished_training_is_not_continued(tmp_path):
    first, history = fit(Line, DATA, tmp_path)
    again, same = fit(broken_off(Line, 0), DATA, tmp_path)
    assert same == history
    np.testing.assert_array_equal(again.predict(DATA), first.predict(DATA))


@pytest.fixture(scope="module")
def line(tmp_path_factory):
    return fit(Line, DATA, tmp_path_factory.mktemp("line"))


@pytest.mark.parametrize("broken_write", [1, 2, 8, 9, 10, 11, 20, 28, 30])  # of about 30
def test_a_broken_write_leaves_the_checkpoint_before(broken_write, line, tmp_path, monkeypatch):
    """Half a file under another name is neither read nor in the way."""
    broken, written = tmp_path / "broken", []
    write = checkpoints.save_file

    def fail(tensors, path):
        written.append(path)
        if len(written) == broken_write:
            path.write_bytes(b"half a file")
            raise PowerCut
        write(tensors, path)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save_file", fail)
        with pytest.raises(PowerCut):
            fit(Line, DATA, broken)
    assert b"half a file" in [path.read_bytes() for path in broken.iterdir()]
    assert_same(fit(Line, DATA, broken), line)
    names = sorted(path.name for path in broken.iterdir())
    assert names[1:] == [NAME, "state-4-0.safetensors"]
    assert names[0].startswith("best-")


def test_weights_that_are_not_finite_are_not_kept(tmp_path):
    """A finite loss whose gradient is not: the checkpoint is that of the step before."""
    whole = fit(Line, DATA, tmp_path / "whole")

    class Steep(Line):
        def training_loss(self, batch, epoch):
            loss = super().training_loss(batch, epoch)
            if epoch == 2:
                loss = loss + (0 * self.linear.weight).sum().sqrt()  # 0, of slope 0 / 0
            return loss

    with pytest.raises(FloatingPointError, match=r"epoch 2, after 1 .*: linear\.weight is not fin"):
        fit(Steep, DATA, tmp_path / "broken")
    assert_same(fit(Line, DATA, tmp_path / "broken"), whole)


def test_nor_are_such_best_weights(tmp_path, monkeypatch):
    """Though predictions on valid do not show them: a word's vector that valid does not need."""
    monkeypatch.setenv(SECONDS, "30")

    class Rare(Line):
        def __init__(self):
            super().__init__()
            self.rare = nn.Parameter(torch.tensor([float("nan")]))

    with pytest.raises(FloatingPointError, match="epoch 1: rare is not finite"):
        fit(Rare, DATA, tmp_path)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A checkpoint in the middle of epoch 2, and how the training ends."""
    folder = tmp_path_factory.mktemp("kept")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(SECONDS, "0")
        whole = fit(Line, DATA, folder / "whole")
        with pytest.raises(PowerCut):
            fit(broken_off(Line, 13), DATA, folder / "broken")
    return folder / "broken", whole


@pytest.mark.slow
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    file=st.integers(0, 2),
    place=st.floats(0, 1, exclude_max=True),
    change=st.sampled_from(["cut", "flip", "remove"]),
)
def test_damage_is_noticed(kept, tmp_path_factory, capsys, file, place, change):
    """Whatever of a checkpoint is cut off, flipped or missing: the same end, and a word of it."""
    source, whole = kept
    folder = tmp_path_factory.mktemp("damaged")
    shutil.copytree(source, folder, dirs_exist_ok=True)
    path = sorted(folder.iterdir())[file]
    content = bytearray(path.read_bytes())
    at = int(place * len(content))
    content[at] ^= 1
    if change == "remove":
        path.unlink()
    else:
        path.write_bytes(content if change == "flip" else content[:at])
    capsys.readouterr()
    assert_same(fit(Line, DATA, folder), whole)
    printed = capsys.readouterr().err
    if path.name == NAME and change == "remove":
        assert printed == ""  # there is no checkpoint
    else:
        assert "moved to" in printed
        assert len(printed.splitlines()) == 1


def test_there_are_three_files_to_damage(kept):
    names = [path.name for path in sorted(kept[0].iterdir())]
    assert names == ["best-1.safetensors", NAME, "state-2-5.safetensors"]


def test_a_checkpoint_is_due_when_it_is_a_hundredth_of_the_time(tmp_path, monkeypatch):
    """The least pause is 30 s; after a checkpoint that took 2 s it is 200 s."""
    now = [1000.0]
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: now[0])
    monkeypatch.delenv(SECONDS)
    network = Line()
    result = Checkpoints(tmp_path, network, torch.optim.Adam(network.parameters()))
    now[0] += 29.9
    assert not result.due()
    now[0] += 0.2
    assert result.due()

    def slow(_):
        now[0] += 0.5

    monkeypatch.setattr(checkpoints, "_fsync", slow)
    result.keep_best(1)
    result.write(Progress([{"epoch": 1}]))  # state, best, json, folder: four times to disk
    now[0] += 199
    assert not result.due()
    now[0] += 2
    assert result.due()


def test_the_first_checkpoint_of_large_weights_waits_longer(tmp_path, monkeypatch):
    """500 MB of weights and moments: 2.5 s at the assumed rate, so after 250 s."""
    now = [0.0]
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: now[0])
    monkeypatch.setenv(SECONDS, "30")
    network = nn.Linear(2**20, 40, bias=False)
    result = Checkpoints(tmp_path, network, torch.optim.Adam(network.parameters()))
    now[0] = 3 * 4 * 40 * 2**20 / 2e8 * 100 - 1
    assert not result.due()
    now[0] += 2
    assert result.due()


@pytest.mark.parametrize("given_seconds", ["often", "-1", "nan", "inf"])
def test_an_impossible_pause_is_refused(given_seconds, tmp_path, monkeypatch):
    monkeypatch.setenv(SECONDS, given_seconds)
    with pytest.raises(ParamsError, match=f" {SECONDS}: '{given_seconds}'; permitted: seconds"):
        fit(Line, DATA, tmp_path)


def test_no_checkpoint_where_none_is_due(tmp_path, monkeypatch):
    monkeypatch.setenv(SECONDS, "1000")
    fit(Line, DATA, tmp_path)
    assert [path.name[:5] for path in tmp_path.iterdir()] == ["best-"]


@pytest.fixture
def mounted(tmp_path):
    """A file system of 200 kB, which a checkpoint of `Wide` and its successor overflow."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    yield place
    subprocess.run(["umount", str(place)], check=True)


class Wide(Line):
    """Line, with 4000 weights more: 16 kB, and 48 kB in a checkpoint."""

    def __init__(self):
        super().__init__()
        self.more = nn.Parameter(torch.zeros(4000))

    def forward(self, batch):
        return super().forward(batch) + self.more.sum()


@pytest.mark.parametrize("left", [0, 20, 40])
def test_a_full_disk_loses_nothing(left, mounted, tmp_path):
    """Whatever room (kB) is left: one line, and with more room the training goes on."""
    whole = fit(Wide, DATA, tmp_path / "whole")
    scratch = mounted / "scratch"
    with pytest.raises(PowerCut):
        fit(broken_off(Wide, 3), DATA, scratch)
    used = sum(path.stat().st_size for path in scratch.iterdir())
    (mounted / "other").write_bytes(bytes(max(0, 200_000 - used - left * 1000) // 4096 * 4096))
    with pytest.raises(OSError, match=r"No space left on device") as caught:
        fit(Wide, DATA, scratch)
    assert str(scratch) in str(caught.value)
    assert not any(scratch.glob("state-*.unfinished"))  # others need the room
    subprocess.run(["mount", "-o", "remount,size=10m", str(mounted)], check=True)
    assert_same(fit(Wide, DATA, scratch), whole)


def test_a_read_only_folder_loses_nothing(mounted, tmp_path):
    whole = fit(Line, DATA, tmp_path / "whole")
    with pytest.raises(PowerCut):
        fit(broken_off(Line, 3), DATA, mounted / "scratch")
    subprocess.run(["mount", "-o", "remount,ro", str(mounted)], check=True)
    with pytest.raises(OSError, match=r"(?i)read-only file system"):
        fit(Line, DATA, mounted / "scratch")
    subprocess.run(["mount", "-o", "remount,rw", str(mounted)], check=True)
    assert_same(fit(Line, DATA, mounted / "scratch"), whole)


def test_nothing_in_a_checkpoint_tells_the_time(tmp_path):
    """So that two of the same training are the same bytes."""
    for name in ("a", "b"):
        with pytest.raises(PowerCut):
            fit(broken_off(Line, 13), DATA, tmp_path / name)
    for path in (tmp_path / "a").iterdir():
        assert (tmp_path / "b" / path.name).read_bytes() == path.read_bytes()
    result = json.loads((tmp_path / "a" / NAME).read_text())["made"]
    assert result["batches"] == 5
    assert np.isfinite(result["loss"])

"""A checkpoint belongs to one configuration, seed, code, data and set of packages."""

import contextlib
import multiprocessing

import pytest

from msabench.errors import ParamsError, ProcessError
from msabench.execution import scratch


@pytest.fixture
def decisive(tmp_path):
    """Files that decide the numbers of a run."""
    plan, code = tmp_path / "plan.json", tmp_path / "code"
    plan.write_text("1")
    code.mkdir()
    (code / "model.py").write_text("a")
    (code / "model.pyc").write_text("compiled")
    return plan, code


def place(tmp_path, decisive, name="ours-1", machine="cpu"):
    with scratch.folder(tmp_path / "scratch", name, *decisive, machine=machine) as folder:
        return folder


def left_unfinished(tmp_path, decisive):
    """Return the folder of a run that was broken off."""
    with (
        contextlib.suppress(InterruptedError),
        scratch.folder(tmp_path, "ours-1", *decisive, machine="cpu") as folder,
    ):
        folder.mkdir()
        raise InterruptedError
    return folder


def test_the_folder_follows_what_decides_the_numbers(tmp_path, decisive, monkeypatch):
    plan, code = decisive
    first = place(tmp_path, decisive)
    assert place(tmp_path, decisive) == first
    assert place(tmp_path, decisive, "ours-2") != first
    (code / "model.pyc").write_text("compiled again")
    assert place(tmp_path, decisive) == first
    (code / "model.py").write_text("b")
    assert place(tmp_path, decisive) != first
    (code / "model.py").write_text("a")
    plan.write_text("2")
    assert place(tmp_path, decisive) != first
    plan.write_text("1")
    assert place(tmp_path, decisive, machine="cuda") != first
    monkeypatch.setattr(scratch, "version", lambda package: f"another {package}")
    assert place(tmp_path, decisive) != first


def test_it_is_kept_until_the_run_has_succeeded(tmp_path, decisive):
    folder = left_unfinished(tmp_path, decisive)
    assert folder.is_dir()
    with scratch.folder(tmp_path, "ours-1", *decisive, machine="cpu"):
        assert folder.is_dir()
    assert not folder.exists()


def test_a_checkpoint_of_other_settings_is_told_of(tmp_path, decisive, capsys):
    folder = left_unfinished(tmp_path, decisive)
    with scratch.folder(tmp_path, "ours-10", *decisive, machine="cpu"):
        assert capsys.readouterr().err == ""
    decisive[0].write_text("2")
    with scratch.folder(tmp_path, "ours-1", *decisive, machine="cpu") as other:
        assert other != folder
    assert capsys.readouterr().err == (
        f"{folder}: not resumed: its settings, data, code, packages or device are not those of "
        "this run; rm -r frees its space\n"
    )


def test_two_processes_never_share_it(tmp_path, decisive, monkeypatch):
    """The second waits, and says so in one line if the first does not end."""
    monkeypatch.setenv(scratch.SECONDS, "0.2")
    context = multiprocessing.get_context("fork")
    holds, may_end = context.Event(), context.Event()

    def first():
        with scratch.folder(tmp_path, "ours-1", *decisive, machine="cpu"):
            holds.set()
            may_end.wait(30)

    process = context.Process(target=first)
    process.start()
    try:
        assert holds.wait(300)
        with (
            pytest.raises(ProcessError, match="another process trains this run; wait for its end"),
            scratch.folder(tmp_path, "ours-1", *decisive, machine="cpu"),
        ):
            pass
    finally:
        may_end.set()
        process.join()
    with scratch.folder(tmp_path, "ours-1", *decisive, machine="cpu"):
        pass


@pytest.mark.parametrize("value", ["soon", "-1", "nan"])
def test_a_senseless_wait_is_refused(value, tmp_path, decisive, monkeypatch):
    monkeypatch.setenv(scratch.SECONDS, value)
    with pytest.raises(ParamsError, match=f"{scratch.SECONDS}: '{value}'; permitted: seconds"):
        place(tmp_path, decisive)

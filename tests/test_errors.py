"""What is printed of an error: one line that names a page of docs/, which exists."""

import ast
import errno
import os
import re
from pathlib import Path

import numpy as np
import pytest

from msabench import errors, params
from msabench.data import sources
from msabench.networks import torch_settings
from msabench.networks.text import load_model
from msabench.utterances import save_array

ROOT = Path(__file__).resolve().parents[1]


def _named():
    """Return every page that the code names: `PAGE = "..."`, `see("...")`, `one_line("...")`."""
    for file in [*(ROOT / "src").rglob("*.py"), *(ROOT / "stages").glob("*.py")]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Assign):
                name, value = getattr(node.targets[0], "id", ""), node.value
            elif isinstance(node, ast.Call) and node.args:
                name = getattr(node.func, "attr", getattr(node.func, "id", ""))
                value = node.args[0]
            else:
                continue
            if name in ("PAGE", "INSTALLATION", "see", "one_line"):
                yield from [value.value] if isinstance(value, ast.Constant) else []


@pytest.mark.parametrize("page", sorted(set(_named())))
def test_every_page_that_an_error_names_exists(page):
    assert re.fullmatch(r"docs/[\w-]+\.md", page)
    assert (ROOT / page).is_file()


def test_the_pages_are_collected():
    names = ["cards", "clusters", "data", "experiments", "features", "missing-data", "models"]
    names += ["reliability", "results", "review", "systems", "use"]
    expected = {f"docs/{name}.md" for name in names}
    assert expected == set(_named())


OURS = [
    errors.ParamsError("lr: 'abc'"),
    errors.DataError("data.pkl: truncated"),
    errors.DeviceError("device: 'mps'"),
    errors.EncoderError("no BERT"),
    errors.StorageError("a.npy: is the disk full?"),
    errors.ProcessError("no answer"),
    FloatingPointError("epoch 1: the loss is nan"),
    MemoryError("out of memory with batch_size 64; try 32"),
    ModuleNotFoundError("No module named 'torch'", name="torch"),
]
REFUSED = [
    *("ENOSPC", "EDQUOT", "EROFS", "EACCES", "EPERM", "EMFILE", "ENFILE", "EFBIG", "ENOMEM"),
    *("EIO", "ESTALE", "ENOLCK", "ENAMETOOLONG"),
]


@pytest.mark.parametrize("error", OURS, ids=lambda error: type(error).__name__)
def test_what_the_user_can_mend_is_fixable(error):
    assert errors.fixable(error)


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_machine_refuses_is_fixable(name):
    number = getattr(errno, name)
    error = OSError(number, os.strerror(number), "runs")
    assert errors.fixable(error)
    assert errors.message(error) == f"error: {error}"


@pytest.mark.parametrize(
    "error",
    [
        OSError("a bug"),
        OSError(errno.EINVAL, "Invalid argument"),
        OSError(errno.EBADF, "Bad file descriptor"),
        NotADirectoryError(errno.ENOTDIR, "Not a directory", "runs/plan"),
        IsADirectoryError(errno.EISDIR, "Is a directory", "runs"),
        FileExistsError(errno.EEXIST, "File exists", "runs"),
        ConnectionError("a bug"),
        BrokenPipeError(errno.EPIPE, "Broken pipe"),
        FileNotFoundError("no name"),
        FileNotFoundError(errno.ENOENT, "No such file or directory", 3),
        ModuleNotFoundError("No module named 'msabench.tex'", name="msabench.tex"),
        ModuleNotFoundError("No module named 'stages.trian'", name="stages.trian"),
        ModuleNotFoundError("No module named 'jsno'", name="json.decoderr"),
        ImportError("cannot import name 'a' from 'torch'", name="torch"),
        ValueError("a bug"),
        ZeroDivisionError("a bug"),
    ],
    ids=repr,
)
def test_a_defect_is_not_fixable(error):
    assert not errors.fixable(error)


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """The folder that a program works in, and another one that is no tree."""
    for name in ("tree", "other"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "tree")
    return tmp_path / "tree"


def _missing(path):
    with pytest.raises(FileNotFoundError) as error:
        os.close(os.open(path, os.O_RDONLY))
    return error.value


@pytest.mark.parametrize("folder", errors.OUTPUTS)
def test_a_missing_output_tells_what_makes_it(tree, folder):
    (tree / folder).mkdir()
    (tree.parent / "link").symlink_to(tree)
    below = f"{folder}/deep/a.json"
    for path in (below, f"./{below}", tree / below, tree.parent / "link" / below, folder + "/a"):
        error = _missing(path)
        assert errors.fixable(error)
        assert errors.message(error) == f"error: {path} is missing: `dvc repro` makes it"
    assert errors.fixable(_missing(below.encode()))


def test_an_output_of_another_tree_counts_too(tree):
    other = tree.parent / "other"
    assert not errors.fixable(_missing(other / "data/a.json"))
    (other / "dvc.yaml").touch()
    assert errors.fixable(_missing(other / "data/a.json"))


@pytest.mark.parametrize(
    "path", ["src/msabench/a.json", "dta/a", "a/../a.json", "../data/a", "src/data/a", "/data/a"]
)
def test_any_other_missing_file_is_a_defect(tree, path):  # noqa: ARG001
    assert not errors.fixable(_missing(path))


def test_a_line_says_what_is_wrong_and_where_to_read_on():
    with pytest.raises(errors.ParamsError) as caught, errors.see("docs/experiments.md"):
        raise errors.ParamsError("lr:\n  'abc'")
    line = errors.message(caught.value, place="ours-1")
    assert line == "error: ours-1: lr: 'abc' (docs/experiments.md)"


def test_the_innermost_page_is_named():
    @errors.see("docs/data.md")
    def read():
        raise errors.DataError("truncated")

    with pytest.raises(errors.DataError) as caught, errors.see("docs/reliability.md"):
        read()
    assert errors.message(caught.value) == "error: truncated (docs/data.md)"


def test_a_defect_names_no_page():
    with pytest.raises(KeyError) as caught, errors.see("docs/data.md"):
        raise KeyError("a")
    assert not hasattr(caught.value, "page")


def test_memory_that_python_lacks_tells_what_to_try():
    assert "out of memory; try a smaller batch_size" in errors.message(MemoryError())


def test_a_missing_package_tells_what_installs_it_wherever_it_is_imported():
    with pytest.raises(ModuleNotFoundError) as caught, errors.see("docs/data.md"):
        import no_such_package  # noqa: F401
    assert errors.message(caught.value) == (
        "error: No module named 'no_such_package'; `make repro` installs what is needed "
        "(docs/systems.md)"
    )


def test_errors_know_their_own_page(tmp_path, monkeypatch):
    """Those of devices and text encoders are about data no more than about settings."""
    monkeypatch.setattr(torch_settings.torch.backends.mps, "is_available", lambda: False)
    (tmp_path / "params.yaml").write_text("lr: abc", encoding="utf-8")
    (tmp_path / "mine").mkdir()
    for raises, page in (
        (lambda: load_model("bert-huge"), "docs/models.md"),
        (lambda: params.load(tmp_path / "params.yaml"), "docs/experiments.md"),
        (lambda: torch_settings.choose_device("mps"), "docs/systems.md"),
        (lambda: sources.read("folder", tmp_path / "mine", {}), "docs/data.md"),
        (lambda: sources.read("label_csv", tmp_path / "label.csv", {}), "docs/data.md"),
    ):
        with pytest.raises((errors.ParamsError, errors.DataError)) as caught:
            raises()
        assert errors.message(caught.value).endswith(f" ({page})")


def test_a_device_that_is_not_there(monkeypatch):
    monkeypatch.setattr(torch_settings.torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(errors.DeviceError, match="device: 'mps' is not available here"):
        torch_settings.choose_device("mps")


def test_an_array_that_the_disk_has_no_room_for_is_fixable(tmp_path, monkeypatch):
    """NumPy then raises an OSError without a number."""

    def save(_, array):
        raise OSError(f"{len(array)} requested and 1 written")

    monkeypatch.setattr(np, "save", save)
    with pytest.raises(errors.StorageError, match=r"a.npy: 3 requested .*; is the disk full\?"):
        save_array(tmp_path / "a.npy", np.zeros(3))

"""Bad input through the real stages: one line that names it, a status that is not 0, no traceback.

`tests/test_pipeline.py` runs some of it through DVC as well.
"""

import hashlib
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ruamel.yaml import YAML

import stages
from msabench import hashes
from msabench.utterances import SPLITS, Utterances
from stages import download, plan, prepare
from tests.test_sources import unaligned

ROWS = [("train", 1), ("train", 9), ("valid", 1), ("test", 1)]
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A folder with params.yaml, in which the stages run."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MOSEI", raising=False)
    return tmp_path


def change(**settings: Any) -> None:
    """Change params.yaml at the top level; data sets are added."""
    yaml, path = YAML(), Path("params.yaml")
    content = yaml.load(path)
    content["datasets"].update(settings.pop("datasets", {}))
    content.update(settings)
    yaml.dump(content, path)


def use(path: str | Path, sha256: str | None = None) -> None:
    """Make a pickle the data set."""
    digest = sha256 or hashlib.sha256(Path(path).read_bytes()).hexdigest()
    entry = {"source": "mmsa_pickle", "title": "own data", "file": "data.pkl", "sha256": digest}
    change(dataset="own", datasets={"own": entry | {"path": str(path)}})


def error() -> str:
    """Run plan, download and prepare until one fails; return its one line."""
    for stage in (plan, download, prepare):
        try:
            stages.run(stage.main)
        except SystemExit as stop:
            message = str(stop.code)
            assert message.startswith("error: ")
            assert "\n" not in message
            return message
    raise AssertionError("no stage failed")


def dumped(tree: Path, content: object) -> Path:
    path = tree / "data.pkl"
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content))
    return path


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rate": 1}, "params.yaml: learning_rate: unknown setting"),
        ({"lr": "abc"}, "lr: 'abc'; it should be a valid number"),
        ({"batch_size": 0}, "batch_size: 0; it should be greater than 0"),
        ({"dataset": "mosi2"}, "dataset: 'mosi2'; permitted: simulated,"),
        ({"device": "tpu"}, "device: 'tpu'; it should be 'auto', 'cpu', 'cuda' or 'mps'"),
        ({"seeds": []}, "seeds: []; "),
        ({"seeds": [2**32]}, "seeds.0: 4294967296; it should be less than 4294967296"),
    ],
)
def test_settings(tree, settings, message):  # noqa: ARG001
    change(**settings)
    assert message in error()


def test_a_params_file_that_is_not_utf_8(tree):
    content = (tree / "params.yaml").read_bytes()
    (tree / "params.yaml").write_bytes(content + "# \u00fc\n".encode("latin-1"))
    assert f"params.yaml: byte {len(content) + 2}, b'\\xfc' is not UTF-8" in error()


def test_a_params_file_that_is_not_there(tree):
    (tree / "params.yaml").unlink()
    assert "error: params.yaml: No such file or directory; run in the folder that has" in error()


def test_a_date_that_is_none_in_the_params(tree):
    (tree / "params.yaml").write_text("lr: 2024-13-45")
    assert "error: params.yaml: not valid YAML: " in error()


@pytest.mark.parametrize("source", ["folder", "label_csv"])
def test_an_error_in_the_data_names_its_page(tree, source):
    """Of its form as of a label out of range, which is found after it has been read."""
    rows = [f"v{i},{split},good,{label}\n" for i, (split, label) in enumerate(ROWS)]
    header = {"folder": "id,split,text,label\n", "label_csv": "video_id,mode,text,label\n"}
    file = tree / ("mine/utterances.csv" if source == "folder" else "mine.csv")
    file.parent.mkdir(exist_ok=True)
    if source == "label_csv":
        header["label_csv"] = "video_id,clip_id,mode,text,label\n"
        rows = [row.replace(",", ",1,", 1) for row in rows]
    for content, message in (
        ([header[source], *rows], "permitted: -3 to 3"),
        ([header[source], rows[0].replace("train", "dev"), *rows], "dev"),
    ):
        file.write_text("".join(content), encoding="utf-8")
        path = file.parent if source == "folder" else file
        entry = {"source": source, "title": "own data", "file": path.name, "path": str(path)}
        change(dataset="own", datasets={"own": entry | {"sha256": hashes.of_data(path)}})
        line = error()
        assert message in line
        assert line.endswith("(docs/data.md)")


def test_a_file_that_is_not_there(tree):
    use(tree / "data.pkl", sha256="0" * 64)
    assert f"datasets.own.path: no file at {tree / 'data.pkl'}" in error()


def test_a_relative_path(tree):
    dumped(tree, unaligned())
    use("data.pkl")
    assert "'data.pkl' is relative; it must be absolute" in error()


def test_a_file_not_given_at_all(tree):  # noqa: ARG001
    entry = {"source": "mmsa_pickle", "title": "own data", "file": "data.pkl", "sha256": "0" * 64}
    change(dataset="own", datasets={"own": entry})
    assert "datasets.own: neither path nor url; get data.pkl and give its absolute" in error()


def test_another_hash_leaves_the_data_before(tree):
    use(dumped(tree, unaligned()))
    stages.run(plan.main)
    stages.run(download.main)
    use(tree / "data.pkl", sha256="0" * 64)
    message = error()
    assert f"{tree / 'data.pkl'}: SHA-256 " in message
    assert f"expected {'0' * 64}" in message
    assert Path("data/raw/data.pkl").exists()


def test_a_truncated_pickle(tree):
    use(dumped(tree, pickle.dumps(unaligned())[:-100]))
    assert "data.pkl: " in error()


class Hostile:
    """Unpickled by pickle, it makes a folder."""

    def __reduce__(self):
        return os.mkdir, ("hacked",)


def test_a_pickle_that_would_run_code(tree):
    content: dict[str, Any] = unaligned()
    content["train"]["audio"] = Hostile()
    use(dumped(tree, content))
    assert "mkdir" in error()
    assert not Path("hacked").exists()


def test_labels_that_are_no_numbers(tree):
    content = unaligned()
    content["valid"]["regression_labels"][1] = np.nan
    use(dumped(tree, content))
    assert "valid" in (message := error())
    assert "nan" in message


@pytest.mark.parametrize("left", [[], [".DS_Store"]])
def test_an_empty_folder_of_frames(tree, left):
    """No hash tells of it, and no link leads to it: it must not pass for no folder."""
    (tree / "mine" / "audio").mkdir(parents=True)
    for name in left:
        (tree / "mine" / "audio" / name).touch()
    rows = [f"{split}0,{split},good,1\n" for split in SPLITS]
    (tree / "mine" / "utterances.csv").write_text("id,split,text,label\n" + "".join(rows))
    entry = {"source": "folder", "title": "own data", "file": "mine", "path": str(tree / "mine")}
    change(dataset="own", datasets={"own": entry | {"sha256": hashes.of_data(tree / "mine")}})
    assert f"{tree / 'mine' / 'audio'}: no file; remove the folder if the data have none" in error()
    shutil.rmtree(tree / "mine" / "audio")
    for stage in (plan, download, prepare):
        stages.run(stage.main)
    assert not Utterances.load(Path("data/prepared/train")).sequences


def test_an_empty_split(tree):
    content = unaligned()
    content["test"] = {key: value[:0] for key, value in content["test"].items()}
    use(dumped(tree, content))
    assert "test: " in error()


def test_a_width_that_differs_between_splits(tree):
    content = unaligned()
    content["test"]["audio"] = content["test"]["audio"][..., :3]
    use(dumped(tree, content))
    assert "test: frame widths {'audio': 3, 'vision': 2} differ from those of train" in error()

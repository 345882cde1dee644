"""The names of columns: those of published features, and those that a folder brings along."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from msabench import hashes, plan
from msabench.data import columns, sources
from msabench.errors import DataError
from msabench.utterances import Utterances
from stages import prepare

WIDTHS = {"audio": 3, "vision": 2}


def test_the_dictionary_is_whole():
    """Of every set each column has one name, but the first of ICT-MMMO's vision, as is known."""
    header, *lines = csv.reader(columns.TABLE.read_text(encoding="utf-8").splitlines())
    assert header == ["corpus", "modality", "width", "column", "name", "tool", "certainty"]
    sets: dict[tuple[str, ...], list[list[str]]] = {}
    for corpus, modality, width, *others in lines:
        sets.setdefault((corpus, modality, width), []).append(others)
    assert len(sets) == 15
    for (corpus, modality, width), rows in sets.items():
        numbers, names, tools, certainties = map(list, zip(*rows, strict=True))
        first = int((corpus, modality) == ("ict-mmmo", "vision"))
        assert numbers == [str(i) for i in range(first, int(width))]
        assert len(set(names)) == len(names)
        assert len(set(tools)) == len(set(certainties)) == 1
        assert set(certainties) <= {"sure", "likely", "inferred"}
    assert {"mosei", "mosi", "sims"} <= {corpus for corpus, _, _ in sets} & plan.CORPORA.keys()


def test_columns_are_named_by_corpus_modality_and_width():
    named = columns.published("mosei", {"audio": 74, "vision": 36})
    assert named.keys() == {"audio"}
    assert named["audio"]["names"][7] == "peakSlope"
    assert (named["audio"]["tool"], named["audio"]["certainty"]) == ("COVAREP", "sure")
    assert columns.published("mosi", {"audio": 5})["audio"]["names"][0] == "VUV"
    assert columns.published("sims", {"vision": 709})["vision"]["names"][674] == "AU01_r"
    assert columns.published(None, {"audio": 74}) == columns.published("mosei", {}) == {}


def write(folder: Path, names: str | None) -> None:
    rows = "".join(f"{split}$_$0,{split},x,0\n" for split in ("train", "valid", "test"))
    folder.mkdir(parents=True)
    (folder / "utterances.csv").write_text("id,split,text,label\n" + rows)
    for modality, width in WIDTHS.items():
        (folder / modality).mkdir()
        for split in ("train", "valid", "test"):
            np.save(folder / modality / f"{split}$_$0.npy", np.ones((2, width)))
    if names is not None:
        (folder / "features.csv").write_text(names, encoding="utf-8")


def test_a_folder_names_its_own_columns(tmp_path):
    """Some of them, with other columns of the table, such as those of the dictionary."""
    names = 'unit,modality,column,name\nHz,audio,2,F0\n,vision,0," AU 1\n(r)"\n,audio,0,loud\n'
    write(tmp_path / "mine", names)
    assert sources.names("folder", tmp_path / "mine", WIDTHS) == {
        "audio": {2: "F0", 0: "loud"},
        "vision": {0: "AU 1 (r)"},
    }
    (tmp_path / "mine/features.csv").unlink()
    assert sources.names("folder", tmp_path / "mine", WIDTHS) == {}
    assert sources.names("label_csv", tmp_path / "mine", {}) == {}


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("video,0,a", "line 3: modality 'video'; permitted: audio, vision"),
        ("text,0,a", "line 3: modality 'text'; permitted: audio, vision"),
        ("audio,3,a", "line 3: column '3'; permitted of audio: 0 to 2"),
        ("audio,-1,a", "line 3: column '-1'; permitted of audio: 0 to 2"),
        ("audio,1.0,a", "line 3: column '1.0'; permitted of audio: 0 to 2"),
        ("audio,,a", "line 3: column ''; permitted of audio: 0 to 2"),
        ("audio,0,b", "line 3: column 0 of audio has a name already"),
        ("vision,0, ", "line 3: name of 0 characters; permitted: 1 to 100"),
        (f"vision,0,{'x' * 101}", "line 3: name of 101 characters; permitted: 1 to 100"),
        ("audio,1", "line 3: the row does not have 3 fields like the first line"),
    ],
)
def test_names_that_do_not_fit_the_data_are_refused(tmp_path, row, words):
    write(tmp_path / "mine", f"modality,column,name\naudio,0,a\n{row}\n")
    with pytest.raises(DataError) as raised:
        sources.names("folder", tmp_path / "mine", WIDTHS)
    assert str(raised.value) == f"{tmp_path / 'mine/features.csv'}: {words}"
    assert vars(raised.value)["page"] == "docs/features.md"


def test_names_without_the_modality_are_refused(tmp_path):
    write(tmp_path / "mine", "column,name\n0,a\n")
    with pytest.raises(DataError, match=r"features\.csv: no column modality; found: "):
        sources.names("folder", tmp_path / "mine", WIDTHS)
    (tmp_path / "mine/features.csv").write_text("modality,column,name\naudio,0,a\n")
    with pytest.raises(DataError, match="permitted: none, as the data have neither"):
        sources.names("folder", tmp_path / "mine", {})


def test_prepared_data_tell_the_names_but_their_hashes_do_not(tmp_path, monkeypatch):
    """A training depends on the hashes, and names are no input of a model."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "data/raw/mine", None)
    config = {"source": "folder", "file": "mine", "settings": {}, "label_range": [-3.0, 3.0]}
    Path("runs/plan/stages").mkdir(parents=True)
    stage = Path("runs/plan/stages/prepare.json")
    stage.write_text(json.dumps(config | {"corpus": "mosi", "size": "few"}))
    known = {"audio": {"names": {0: "VUV"}, "tool": "COVAREP", "certainty": "likely"}}
    monkeypatch.setattr(columns, "published", lambda *_: known)
    prepare.main()
    named, before = json.loads(Path("data/prepared/columns.json").read_text()), prepared()
    assert named == {"audio": known["audio"] | {"names": {"0": "VUV"}}}
    Path("data/raw/mine/features.csv").write_text("modality,column,name\naudio,2,é\n", "utf-8")
    prepare.main()
    named = json.loads(Path("data/prepared/columns.json").read_text(encoding="utf-8"))
    assert named == {"audio": {"names": {"2": "é"}, "tool": None, "certainty": "given"}}
    assert prepared() == before
    assert Utterances.load(Path("data/prepared/train")).widths == WIDTHS


def prepared() -> dict[str, str]:
    """What trainings depend on: the hashes of all other files of the prepared data."""
    written = json.loads(Path("data/prepared/sha256.json").read_text())
    assert written == {
        name: value
        for name, value in hashes.of_folder(Path("data/prepared")).items()
        if name not in ("sha256.json", "split.json", "columns.json", "config.json")
    }
    return written

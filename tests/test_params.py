"""params.yaml: what is permitted, and that a refusal names place, value and range."""

import shutil
from pathlib import Path

import pytest
from dvc.utils.hydra import apply_overrides

from msabench import params
from msabench.errors import ParamsError

PARAMS = Path(__file__).resolve().parents[1] / "params.yaml"


def changed(tmp_path, old, new):
    content = PARAMS.read_text(encoding="utf-8")
    assert old in content
    path = tmp_path / "params.yaml"
    path.write_text(content.replace(old, new, 1), encoding="utf-8")
    return path


def test_rates_are_numbers():
    """DVC writes 2e-05, which YAML 1.1 reads as a string."""
    loaded = params.load(PARAMS)
    assert [loaded.presets["ours"][rate] for rate in ("lr", "bert_lr")] == [2e-4, 2e-5]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("\nlr: auto", "\nlr: abc", r"lr: 'abc'; .*number, or .*'auto'$"),
        ("\nbatch_size: auto", "\nbatch_size: 0", r"batch_size: 0; .*greater than 0"),
        ("\nbatch_size: auto", "\nbatch_size: 6.5", r"batch_size: 6.5; .*integer"),
        ("\nbatch_size: auto", "\nbatchsize: 64", r"batch_size: missing|batchsize: unknown"),
        ("\nthreads: 1", "\nthreads: 1\nspeed: 1", r"speed: unknown setting"),
        ("\ndevice: auto", "\ndevice: gpu", r"device: 'gpu'; .*'auto', 'cpu', 'cuda' or 'mps'"),
        ("\ndataset: simulated", "\ndataset: mosie", r"dataset: 'mosie'; permitted: simulated, "),
        ("- 3", "- 1", r"seeds: \[1, 2, 1\] names 1 twice"),
        (
            "robustness_seeds: []",
            "robustness_seeds: [3, 4]",
            r"robustness_seeds: \[3, 4\]; permitted: some of seeds, \[1, 2, 3\]",
        ),
        (
            "    path:\n",
            "    path: label.csv\n",
            r"path: 'label.csv' is relative",
        ),
        (
            "- -1.0\n    - 1.0",
            "- 1.0\n    - 1.0",
            r"sims: label_range: \[1, 1\]; permitted: the lowest label, then",
        ),
        ("\n- svm", "\n- svn", r"compare: 'svn'; permitted: some of self_mm, svm, cnn, ours"),
        ("\n- svm", "\n- ours", r"compare: .* names 'ours' twice"),
        ("\n- self_mm\n- svm\n- cnn\n- ours", " []", r"compare: \[\]; .*at least 1 item"),
        ("\n- svm", "\n- 1", r"compare.1: 1; .*valid string"),
        ("  - svm", "  - svn", r"ablation.models: 'svn'; permitted: some of self_mm, svm"),
        ("\nlr: auto", "\nlr: [", r"not valid YAML"),
        (
            "    corpus: simulated\n",
            "    corpus: simulated\n    label_range: [1, 0]\n",
            r"datasets.simulated: label_range: \[1, 0\]; permitted: the lowest label, then",
        ),
        (
            "    corpus: simulated\n",
            "    corpus: simulated\n    label_range: [0, .inf]\n",
            r"datasets.simulated.label_range.1: inf; .*finite",
        ),
        (
            "    corpus: simulated\n",
            "    corpus: simulated\n    label_range: [0, 1, 2]\n",
            r"datasets.simulated.label_range: \[0, 1, 2\]; .*2 items",
        ),
        (
            "    corpus: simulated\n",
            "    corpus: simulated\n    neutral: 3\n",
            r"datasets.simulated: neutral: 3; permitted: above -3 and below 3",
        ),
        (
            "    label_range:\n    - -1.0\n    - 1.0\n    metrics: sims",
            "    label_range: [0, 1]\n    metrics: sims",
            r"sims: metrics: 'sims' is for labels of -1 to 1 about 0; these are labels of 0 to 1",
        ),
    ],
)
def test_wrong_settings_are_named(tmp_path, old, new, message):
    with pytest.raises(ParamsError, match=message) as refused:
        params.load(changed(tmp_path, old, new))
    assert "\n" not in str(refused.value)


def test_the_file_is_in_the_form_dvc_writes(tmp_path):
    """`dvc exp run -S` rewrites the file: it must change no byte but those of the value.

    DVC replaces every list, with the comment that follows it, by a new one in block style.
    """
    file = Path(shutil.copy(PARAMS, tmp_path))
    apply_overrides(file, ["threads=1"])
    assert file.read_bytes() == PARAMS.read_bytes()

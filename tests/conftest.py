"""What the tests share: one thread, small random data, a small random BERT, one small pipeline."""

import os
import shutil
import signal
import time
import warnings
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

os.environ.setdefault("OMP_NUM_THREADS", "1")
# Where one is set, pytest shows whole differences, which it computes for hours if weights differ.
os.environ.pop("CI", None)
os.environ.pop("BUILD_NUMBER", None)

import numpy as np
import pytest
import torch

with warnings.catch_warnings():  # of pytest's plugins one has imported NumPy already
    warnings.simplefilter("ignore", RuntimeWarning)
    import msabench  # noqa: F401

from filelock import FileLock
from tqdm import tqdm

from msabench.evaluation.results import OTHERS, Results
from msabench.networks import torch_settings
from msabench.training import loop
from msabench.utterances import Ragged, Utterances

torch.set_num_threads(1)

# A shell lets what it starts in the background ignore Ctrl-C, and every process inherits that: the
# tests that press it would wait in vain.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# The longest files of each tier, the longest first; but the first alone makes what the third needs.
LONG = [
    *("test_pipeline.py", "test_cluster.py", "test_docs_commands.py"),
    *("test_soak.py", "test_two_processes.py"),
]


def pytest_collection_modifyitems(items):
    """Start the longest files first, so that they run beside all others."""
    items.sort(key=lambda item: LONG.index(name) if (name := item.path.name) in LONG else len(LONG))


@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    """Return a function that makes a folder once for all of pytest's workers.

    It takes the folder's name, and what fills it with what arguments. Who would change something
    there copies it first.
    """
    place = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        place = place.parent

    def once(name, make, *arguments):
        folder, whole = place / name, place / f"{name}.whole"
        with FileLock(f"{folder}.lock"):
            if not whole.exists():
                shutil.rmtree(folder, ignore_errors=True)  # what an error left of it
                folder.mkdir()
                make(folder, *arguments)
                whole.touch()
        return folder

    return once


@pytest.fixture(scope="session")
def pipeline(shared):
    """A repository in which the whole pipeline has run once, for all files; see `clones.copy`."""
    from tests import clones

    return shared("pipeline", clones.run_pipeline)


@pytest.fixture(scope="session")
def trained_with(shared, tiny_bert, tmp_path_factory):
    """Return a function that returns a copy of the tree of `trained_tree.make`, which is made once.

    It takes how many layers of the BERT are trained too.
    """
    from tests import trained_tree

    def copy(layers):
        tree = shared(f"trained-{layers}", trained_tree.make, tiny_bert, layers)
        return shutil.copytree(tree, tmp_path_factory.mktemp("trained") / "tree", symlinks=True)

    return copy


@pytest.fixture(autouse=True, scope="session")
def unsettled():
    """Let no stage that runs in this process change how all of it computes (denormals flushed)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch_settings, "configure", lambda *_: None)
        yield


@pytest.fixture
def in_memory(tmp_path):
    """A folder that waits for no disk, for what must end in time; elsewhere one on the disk."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


def random_ragged(rng, n, width, low=1, high=12):
    """n sequences of low to high frames."""
    lengths = rng.integers(low, high + 1, size=n)
    return Ragged.of([rng.normal(size=(t, width)).astype(np.float32) for t in lengths])


def random_utterances(seed=0, n=48, clips=3, text_tokens=1, text_width=8):
    """Utterances whose label is a linear function of the means of all modalities.

    text_tokens: 1 for a frozen text (one vector each), more for hidden states. text_width: of each.
    """
    rng = np.random.default_rng(seed)
    signal = rng.normal(size=n)
    sequences = {
        "text": random_ragged(
            rng, n, text_width, text_tokens if text_tokens == 1 else 3, text_tokens
        ),
        "audio": random_ragged(rng, n, 5),
        "vision": random_ragged(rng, n, 4, high=7),
    }
    for ragged in sequences.values():
        ragged.values[:, :3] += np.repeat(signal, ragged.lengths)[:, None]
    return Utterances(
        ids=[f"video{seed}_{i // clips}$_${i % clips}" for i in range(n)],
        texts=[f"text {i}" for i in range(n)],
        labels=np.clip(signal, -3, 3).astype(np.float32),
        sequences=sequences,
    )


def results_of(**parts: Any) -> Results:
    """Return results of which some parts are known."""
    unknown: dict[str, Any] = {name: {} for name in ("plan", "rows", "tables", "missing", *OTHERS)}
    return Results(**(unknown | parts))


def assert_same(actual, expected):
    """Two splits hold the same utterances, bit for bit."""
    assert (actual.ids, actual.texts, actual.videos) == (
        expected.ids,
        expected.texts,
        expected.videos,
    )
    np.testing.assert_array_equal(actual.labels, expected.labels)
    assert actual.labels.dtype == np.float32
    assert list(actual.sequences) == list(expected.sequences)
    for name, ragged in expected.sequences.items():
        np.testing.assert_array_equal(actual.sequences[name].values, ragged.values)
        np.testing.assert_array_equal(actual.sequences[name].offsets, ragged.offsets)
    assert list(actual.unimodal_labels) == list(expected.unimodal_labels)
    for name, labels in expected.unimodal_labels.items():
        np.testing.assert_array_equal(actual.unimodal_labels[name], labels)


@contextmanager
def broken_off(batches):
    """The training inside breaks off after so many batches."""
    left = iter(range(batches))

    def some(of_epoch, _):
        for batch in of_epoch:
            if next(left, None) is None:
                raise InterruptedError
            yield batch

    patched = patch.object(loop, "_progress", lambda *of: tqdm(some(*of), disable=True))
    with patched, pytest.raises(InterruptedError):
        yield


def until(condition, seconds=900):
    """Wait until something is true of another process, and return it.

    seconds: after which it never will be, however busy the machine is.
    """
    end = time.monotonic() + seconds
    while not (actual := condition()):
        assert time.monotonic() < end
        time.sleep(0.01)
    return actual


def anonymous_megabytes() -> float:
    """Return the memory of this process that is no view of a file; skip where nothing tells it."""
    status = Path("/proc/self/status")
    for line in status.read_text().splitlines() if status.exists() else ():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 1024
    pytest.skip("this system does not tell anonymous memory")


@pytest.fixture(scope="session")
def tiny_bert(shared):
    """A folder with a random BERT of three layers, width 8, and a tokenizer of few words."""
    return str(shared("bert", _write_bert))


def _write_bert(folder):
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "good",
        "bad",
        "very",
        "not",
        "film",
        "the",
        "was",
        "but",
    ]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=8,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=64,
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)

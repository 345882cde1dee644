"""The text encoder: memory, truncation and counts of tokens, errors that name the cause."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from msabench.errors import DataError
from msabench.networks import encoders, text
from msabench.networks.batches import Padded
from msabench.utterances import Ragged
from stages import features
from tests.conftest import random_utterances

CPU = torch.device("cpu")
TEXTS = ["the film was good", "bad", "not very good but the film was not bad", "was it"]


def padded(ragged, longer=0):
    values, lengths = ragged.padded(np.arange(len(ragged)))
    widths = [(0, 0), (0, longer)] + [(0, 0)] * (values.ndim - 2)
    return Padded(torch.from_numpy(np.pad(values, widths)), torch.from_numpy(lengths))


@pytest.fixture
def tokens(tiny_bert):
    return text.tokenize(text.load_tokenizer(tiny_bert), TEXTS)


@pytest.mark.parametrize("trainable_layers", [2, "all"])
@pytest.mark.parametrize("layers_kept", [0, 1])
def test_layers_run_again_give_the_same_gradients(
    tiny_bert, tokens, tmp_path, monkeypatch, trainable_layers, layers_kept
):
    """Bit for bit, dropout included; and a layer that is run again keeps less."""
    name = text.cache_name(trainable_layers, "mean")
    bert, batch = text.load_model(tiny_bert), padded(tokens)
    if trainable_layers != "all":
        text.encode(bert, tokens, {name: (trainable_layers, "mean")}, tmp_path, device=CPU)
        batch = padded(Ragged.load(tmp_path, name))
    outputs, gradients, kept = [], [], []
    for limit in (text.MAX_ACTIVATIONS, layers_kept * batch.mask.numel() * bert.config.hidden_size):
        monkeypatch.setattr(text, "MAX_ACTIVATIONS", limit)
        encoder = text.build_encoder(tiny_bert, trainable_layers, "mean", bert.config.hidden_size)
        encoder.train()
        torch.manual_seed(1)
        sizes: list[int] = []

        def keep(value, sizes=sizes):
            sizes.append(value.numel())
            return value

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
            output = encoder(batch)
        output.square().sum().backward()
        outputs.append(output)
        gradients.append([parameter.grad for parameter in encoder.parameters()])
        kept.append(sum(sizes))
    assert torch.equal(*outputs)
    assert all(torch.equal(*pair) for pair in zip(*gradients, strict=True))
    assert kept[1] < 0.7 * kept[0]


def test_states_of_a_frozen_text_are_those_that_are_pooled(tiny_bert, tokens, tmp_path):
    """Cached for a network that reads token states: those of the last layer, without padding."""
    settings: Any = {text.cache_name(0, pooling): (0, pooling) for pooling in ("mean", None)}
    assert list(settings) == ["pooled-mean", "states"]
    bert = text.load_model(tiny_bert)
    text.encode(bert, tokens, settings, tmp_path, batch_size=2, device=CPU)
    states, vectors = (Ragged.load(tmp_path, name) for name in ("states", "pooled-mean"))
    assert states.lengths.tolist() == tokens.lengths.tolist()
    encoder = text.TextEncoder(bert.config.hidden_size)
    read = encoder.states(padded(states))
    assert torch.equal(read.values, padded(states).values)
    torch.testing.assert_close(encoder(padded(states)), torch.from_numpy(vectors.values.copy()))


def test_tokens_are_cut_as_the_tokenizer_does(tiny_bert):
    tokenizer = text.load_tokenizer(tiny_bert)
    whole = text.tokenize(tokenizer, TEXTS)
    tokens = text.truncate(whole, 5)
    assert tokens.lengths.tolist() == [5, 3, 5, 4]
    expected = tokenizer(TEXTS, truncation=True, max_length=5)["input_ids"]
    assert [tokens[i].tolist() for i in range(len(tokens))] == expected


def test_token_ids_of_another_vocabulary_are_noticed(tiny_bert):
    whole = text.tokenize(text.load_tokenizer(tiny_bert), TEXTS)
    counts = {"tokens_cut": 2, "tokens_unknown": 0, "texts_unknown": 0, "text_missing": 0}
    assert text.count_differences(TEXTS, whole, 5, None, None) == counts
    given = text.truncate(whole, 4)  # cut to another length: the same vocabulary
    counts |= {"tokens_cut": 0, "tokens_differ": 0}
    assert text.count_differences(TEXTS, whole, 50, None, given) == counts
    other = Ragged(given.values + (given.values > 3), given.offsets)  # one word was inserted
    assert text.count_differences(TEXTS, whole, 50, None, other)["tokens_differ"] == len(TEXTS)


def test_unknown_tokens_are_counted_among_those_that_are_read(tiny_bert):
    tokenizer = text.load_tokenizer(tiny_bert)
    whole = text.tokenize(tokenizer, ["好 film 好", "good 😂", "", "good film bad 好"])
    unknown = tokenizer.unk_token_id
    assert text.count_unknown(whole, unknown).tolist() == [2, 1, 0, 1]
    assert text.count_unknown(whole, None).tolist() == [0, 0, 0, 0]
    counts = {"tokens_cut": 2, "tokens_unknown": 2, "texts_unknown": 2, "text_missing": 1}
    assert text.count_differences(TEXTS, whole, 4, unknown, None) == counts


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("I loved it", (0, 0, 0)),
        ("loved " * 80, (32, 0, 0)),
        ("loved " * 1700, (1652, 0, 0)),
        ("😂😂 fine 😂", (0, 2, 0)),
        ("我喜欢这部电影", (0, 5, 0)),
        ("", (0, 0, 1)),
        ("\u200b \ufffd", (0, 0, 1)),  # the tokenizer drops what nobody sees
    ],
    ids=["all", "80-words", "1700-words", "emoji", "Chinese", "nothing", "invisible"],
)
def test_what_minilm_does_not_read_of_a_text_is_counted(said, expected):
    reads = {"array": "tokens", "max_tokens": 50}
    reader = text.Reader({"name": encoders.MINILM}, reads, torch.device("cpu"))
    tokens, losses = reader.tokens_and_losses([said, "fine"])
    kinds = ("tokens_cut", "tokens_unknown", "text_missing")
    none = dict.fromkeys(kinds, 0)
    assert losses == [dict(zip(kinds, expected, strict=True)), none]
    np.testing.assert_array_equal(tokens.values, reader.tokens([said, "fine"]).values)


def test_minilm_is_the_model_of_the_package():
    """The embedded default loads without a network and its files have the published hashes."""
    bert = text.load_model(encoders.MINILM)
    assert (bert.config.num_hidden_layers, bert.config.hidden_size) == (6, 384)


def test_too_many_layers(tiny_bert):
    with pytest.raises(DataError, match="trainable_layers: 4; the text encoder has 3 layers"):
        text.build_encoder(tiny_bert, 4, "mean", 8)


def test_a_blank_text_has_no_token_though_the_tokenizer_has_one_for_a_space():
    tokens = Ragged.of([np.zeros(n, np.int32) for n in (3, 2, 4)])
    assert text.without_token([" ", "\u200b", "good"], tokens).tolist() == [True, True, False]


def test_texts_longer_than_the_positions_are_refused(tiny_bert):
    model = text.load_model(tiny_bert)
    positions = model.config.max_position_embeddings
    text.check_length(model, positions)
    with pytest.raises(DataError) as refused:
        text.check_length(model, positions + 1)
    assert str(refused.value) == (
        f"max_tokens: {positions + 1}; the text encoder has {positions} positions; "
        f"permitted: 3 to {positions}"
    )


def test_no_such_encoder(tmp_path):
    with pytest.raises(DataError, match="text_encoder: no text encoder at"):
        text.load_model(str(tmp_path / "nothing"))


def test_the_features_stage_says_what_is_not_read_of_the_texts(
    tiny_bert, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    config = {"encoder": {"name": tiny_bert}, "max_tokens": 4, "device": "cpu", "threads": 1}
    config["runs"] = {}
    config["probe"] = {"array": "pooled-mean", "trainable_layers": 0, "pooling": "mean"}
    Path("runs/plan/stages").mkdir(parents=True)
    Path("runs/plan/stages/features.json").write_text(json.dumps(config))
    texts = {
        "train": ["good film", "very good film", "好 film 😂", "😂"],
        "valid": ["good", "good film", "", "not"],
        "test": ["good", "the film was not good", "bad", "bad"],
    }
    for split, own in texts.items():
        data = random_utterances(n=4).select([])
        replace(data, texts=own).save(Path("data/prepared") / split)
    features.main()
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines() == [
        "train: texts cut to 4 tokens: 2 of 4; "
        "with tokens unknown to the text encoder (2 in all): 2 of 4",
        "valid: texts without a token: 1 of 4",
        "test: texts cut to 4 tokens: 1 of 4",
    ]
    counts = json.loads(Path("data/features/train/tokens.json").read_text())
    assert counts == {"tokens_cut": 2, "tokens_unknown": 2, "texts_unknown": 2, "text_missing": 0}
    # Whatever the runs read: here there are none.
    assert Ragged.load(Path("data/features/train"), "pooled-mean").values.shape == (4, 8)
    assert list(Path("data/features/runs").iterdir()) == []

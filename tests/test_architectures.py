"""Text encoders of every architecture: layer by layer they compute what transformers computes."""

import json
import shutil
from copy import deepcopy
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from msabench.errors import DataError
from msabench.inference.explanation import similarities
from msabench.networks import text, torch_settings
from msabench.networks.architectures import ARCHITECTURES
from msabench.networks.batches import Padded
from msabench.training import checkpoints
from msabench.utterances import Ragged
from tests.conftest import broken_off, random_utterances
from tests.test_every_model import build, weights

CPU = torch.device("cpu")
WORDS, DEPTH, WIDTH, PAD = 40, 3, 8, 1
COMMON: dict[str, Any] = {
    "vocab_size": WORDS,
    "hidden_size": WIDTH,
    "num_hidden_layers": DEPTH,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 80,
    "pad_token_id": PAD,
}
DEBERTA_V3: dict[str, Any] = {
    "relative_attention": True,
    "position_buckets": 4,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
    "type_vocab_size": 0,
}
# Model type, with the settings that make it unlike the others.
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("bert", COMMON),
    "roberta": ("roberta", COMMON),
    "xlm-roberta": ("xlm-roberta", COMMON),
    "camembert": ("camembert", COMMON),
    "electra": ("electra", COMMON | {"embedding_size": WIDTH}),
    "electra, projected": ("electra", COMMON | {"embedding_size": 4}),
    "distilbert": (
        "distilbert",
        {"vocab_size": WORDS, "dim": WIDTH, "n_layers": DEPTH, "n_heads": 2, "hidden_dim": 16}
        | {"pad_token_id": PAD},
    ),
    "mpnet": ("mpnet", COMMON),
    "deberta v2": ("deberta-v2", COMMON | DEBERTA_V3 | {"conv_kernel_size": 3}),
    "deberta v3": ("deberta-v2", COMMON | DEBERTA_V3),
    "deberta, absolute": ("deberta-v2", COMMON | {"type_vocab_size": 2}),
    "modernbert": (
        "modernbert",
        COMMON | {"local_attention": 4, "global_attn_every_n_layers": 2},
    ),
}


@pytest.fixture(scope="session", params=CONFIGS)
def folder(request, tmp_path_factory):
    """A folder with a random encoder of an architecture: three layers, eight values wide."""
    path = tmp_path_factory.mktemp("encoder")
    model_type, settings = CONFIGS[request.param]
    config = transformers.AutoConfig.for_model(model_type, **settings)
    torch.manual_seed(1)
    model = transformers.AutoModel.from_config(config)
    for parameter in model.parameters():  # biases and LayerNorms too, which begin as 0 and 1
        torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(path)
    return str(path)


@pytest.fixture(autouse=True)
def loaded_once(monkeypatch):
    """Copy what was loaded from a folder before: much faster than to load it again."""
    monkeypatch.setattr(text, "load_model", lambda name, _=None: deepcopy(LOADED(name)))


LOAD = text.load_model
LOADED = cache(LOAD)
REFERENCE = cache(lambda name: transformers.AutoModel.from_pretrained(name).eval())


def random_tokens(seed, *lengths):
    rng = np.random.default_rng(seed)
    return Ragged.of([rng.integers(4, WORDS, size=n).astype(np.int32) for n in lengths])


TOKENS = random_tokens(0, 1, 12, 5, 1, 9)
LONG = random_tokens(3, 1, 70, 3)


def padded(ragged, longer=0):
    values, lengths = ragged.padded(np.arange(len(ragged)))
    widths = [(0, 0), (0, longer)] + [(0, 0)] * (values.ndim - 2)
    return Padded(torch.from_numpy(np.pad(values, widths)), torch.from_numpy(lengths))


def states_of(folder, tokens):
    """The states of each text after 0, 1, ... layers, by transformers' own forward."""
    batch = padded(tokens)
    ids = torch.where(batch.mask, batch.values.long(), PAD)
    with torch.no_grad():
        output = REFERENCE(folder)(ids, attention_mask=batch.mask.long(), output_hidden_states=True)
    return [
        [row[:n] for row, n in zip(states, batch.lengths, strict=True)]
        for states in output.hidden_states
    ]


def test_every_architecture_is_tested():
    assert {model_type for model_type, _ in CONFIGS.values()} == set(ARCHITECTURES)


@pytest.mark.parametrize("tokens", [TOKENS, LONG], ids=["short", "long"])
@pytest.mark.parametrize("trainable_layers", range(1, DEPTH + 1))
def test_states_after_each_layer_are_those_of_transformers(
    folder, tokens, trainable_layers, tmp_path
):
    """With padding, and texts of one token. The states below the trained layers are cached."""
    name = text.cache_name(trainable_layers, "mean")
    text.encode(
        text.load_model(folder), tokens, {name: (trainable_layers, "mean")}, tmp_path, device=CPU
    )
    cached = Ragged.load(tmp_path, name)
    for i, expected in enumerate(states_of(folder, tokens)[DEPTH - trainable_layers]):
        torch.testing.assert_close(
            torch.from_numpy(np.array(cached[i])), expected, rtol=0, atol=1e-6
        )


def test_every_query_of_a_window_has_a_key(folder):
    """Padded ones too: of a row of masked keys alone, the softmax of some kernels is NaN."""
    model = text.load_model(folder)
    architecture, states = ARCHITECTURES[model.config.model_type], torch.zeros(3, 70, WIDTH)
    inputs = architecture.inputs(architecture.shared(model), states, padded(LONG))
    for mask in inputs.get("masks", {}).values():
        assert mask.any(-1).all()


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("trainable_layers", [0, 1, DEPTH, "all"])
def test_cached_equals_the_whole_encoder(folder, trainable_layers, pooling, tmp_path):
    """Whatever follows the text in a batch."""
    name, cached = text.cache_name(trainable_layers, pooling), TOKENS
    if trainable_layers != "all":
        settings = {name: (trainable_layers, pooling)}
        text.encode(text.load_model(folder), TOKENS, settings, tmp_path, batch_size=2, device=CPU)
        cached = Ragged.load(tmp_path, name)
    encoder = text.build_encoder(folder, trainable_layers, pooling, cached.width).eval()
    with torch.no_grad():
        vectors = encoder(padded(cached, longer=3 if trainable_layers else 0))
    for vector, states in zip(vectors, states_of(folder, TOKENS)[-1], strict=True):
        expected = states[0] if pooling == "cls" else states.mean(0)
        torch.testing.assert_close(vector, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("trainable_layers", [1, "all"])
def test_gradients_reach_the_trained_part_alone(folder, trainable_layers):
    """What is shared is trained with the whole encoder, and else saved beside the layers."""
    encoder = text.build_encoder(folder, trainable_layers, "mean", WIDTH)
    tokens = padded(TOKENS)
    states = Padded(torch.randn(*tokens.values.shape, WIDTH), tokens.lengths)
    encoder(tokens if trainable_layers == "all" else states).square().sum().backward()
    assert [name for name, p in encoder.named_parameters() if p.grad is None] == []
    trained = {name.partition(".")[0] for name, _ in encoder.named_parameters()}
    saved = {name.partition(".")[0] for name in encoder.state_dict()}
    config = LOADED(folder).config
    relative = config.model_type == "mpnet" or getattr(config, "relative_attention", False)
    shared = {"shared"} if relative else set()
    if trainable_layers == "all":
        assert saved == trained == {"embeddings", "layers"} | shared
    else:
        assert trained == {"layers"}
        assert saved == {"layers"} | shared


@pytest.mark.parametrize("trainable_layers", [2, "all"])
def test_layers_run_again_give_the_same_gradients(folder, trainable_layers, monkeypatch):
    """Bit for bit, dropout included."""
    tokens = padded(TOKENS)
    states = Padded(torch.ones(*tokens.values.shape, WIDTH), tokens.lengths)
    outputs, gradients = [], []
    for limit in (text.MAX_ACTIVATIONS, 0):
        monkeypatch.setattr(text, "MAX_ACTIVATIONS", limit)
        encoder = text.build_encoder(folder, trainable_layers, "mean", WIDTH).train()
        torch.manual_seed(1)
        outputs.append(encoder(tokens if trainable_layers == "all" else states))
        outputs[-1].square().sum().backward()
        gradients.append([parameter.grad for parameter in encoder.parameters()])
    assert torch.equal(*outputs)
    assert all(torch.equal(*pair) for pair in zip(*gradients, strict=True))


def test_mixed_precision_rounds_products_alone(folder, monkeypatch):
    """The vectors and gradients of float32 but for rounding; weights and gradients are float32."""
    vectors, gradients = [], []
    for precision in ("float32", "bfloat16"):
        monkeypatch.setattr(torch_settings, "precision", precision)
        encoder = text.build_encoder(folder, "all", "mean", WIDTH).eval()
        vectors.append(encoder(padded(TOKENS)))
        of_loss = torch.autograd.grad(vectors[-1].square().sum(), list(encoder.parameters()))
        gradients.append(torch.cat([gradient.flatten() for gradient in of_loss]))
    for exact, rounded in (vectors, gradients):
        assert rounded.dtype == torch.float32
        assert 1e-4 < (rounded - exact).norm() / exact.norm() < 0.1


def test_texts_are_refused_for_which_the_encoder_has_no_positions(folder):
    """Those on which transformers would fail with an index out of range."""
    model = text.load_model(folder)
    architecture = ARCHITECTURES[model.config.model_type]
    for length in (78, 79, 80, 81, 512, 513):
        try:
            architecture.embed(architecture.embeddings(model), padded(random_tokens(0, length)))
        except (IndexError, RuntimeError):
            with pytest.raises(DataError, match=rf"^max_tokens: {length}; .*permitted: 3 to \d+$"):
                text.check_length(model, length)
        else:
            text.check_length(model, length)


def test_vectors_of_an_encoder_do_not_decay_in_self_mm(folder):
    """Its biases and LayerNorms, whatever an architecture calls them; all else does."""
    data = random_utterances(seed=0, n=4).with_text(TOKENS.take(np.arange(4)))
    regressor = build("self_mm", data, folder, trainable_layers="all")
    network = regressor.build()
    decays = {
        id(parameter): group["weight_decay"] > 0
        for group in network.parameter_groups(regressor.optimizer)
        for parameter in group["params"]
    }
    for name, parameter in network.encoder.named_parameters():
        vector = name.endswith("bias") or "norm" in name.lower()
        assert decays[id(parameter)] != vector, name


def utterances(folder, seed, count, trainable_layers, path):
    rng = np.random.default_rng(seed)
    tokens = random_tokens(seed, *rng.integers(1, 9, size=count))
    data = random_utterances(seed=seed, n=count).select(["audio"])
    if trainable_layers == "all":
        return data.with_text(tokens)
    name = text.cache_name(trainable_layers, "mean")
    path.mkdir()
    model = text.load_model(folder)
    text.encode(model, tokens, {name: (trainable_layers, "mean")}, path, device=CPU)
    return data.with_text(Ragged.load(path, name))


@pytest.mark.parametrize(("name", "trainable_layers"), [("ours", 2), ("self_mm", "all")])
def test_a_stopped_training_ends_as_one_that_was_not(
    name, folder, trainable_layers, tmp_path, monkeypatch
):
    """Bit for bit; so does a saved one that is loaded."""
    monkeypatch.setenv(checkpoints.SECONDS, "0")
    data = {
        split: utterances(folder, seed, 8, trainable_layers, tmp_path / split)
        for seed, split in enumerate(("train", "valid", "test"))
    }

    def regressor():
        return build(
            name, data["train"], folder, trainable_layers=trainable_layers, epochs=2, batch_size=4
        )

    def fit(one, scratch):
        return one.fit(data["train"], data["valid"], seed=1, scratch=tmp_path / scratch)

    whole, resumed, loaded = regressor(), regressor(), regressor()
    history = fit(whole, "whole")
    with broken_off(3):  # of four batches
        fit(regressor(), "stopped")
    assert fit(resumed, "stopped") == history
    assert weights(resumed, tmp_path / "b") == weights(whole, tmp_path / "a")
    loaded.load(tmp_path / "a")
    np.testing.assert_array_equal(loaded.predict(data["test"]), whole.predict(data["test"]))


def test_neighbours_are_found_by_the_word_embeddings(folder, tmp_path):
    train = utterances(folder, 0, 6, "all", tmp_path)
    similarity = similarities(train, train.take([2]), {"name": folder})
    assert similarity.argmax() == 2
    np.testing.assert_allclose(similarity[2], 1.0)


DAMAGES = {
    "config.json": "[]",
    "model.safetensors": "",
    "tokenizer.json": "{",
}


@pytest.mark.parametrize("file", DAMAGES)
@pytest.mark.parametrize("damage", ["missing", "damaged"])
def test_a_folder_that_cannot_be_read_is_one_line(tiny_bert, file, damage, tmp_path):
    folder = shutil.copytree(tiny_bert, tmp_path / "encoder")
    if damage == "missing":
        (folder / file).unlink()
    else:
        (folder / file).write_text(DAMAGES[file])
    load = text.load_tokenizer if file == "tokenizer.json" else LOAD
    with pytest.raises(DataError) as refused:
        load(str(folder))
    message = str(refused.value)
    assert message.startswith("text_encoder: ")
    assert str(folder) in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_hidden_layers": 5}, r"\d+ weights of its configuration are not in its files"),
        ({"model_type": "mpnet"}, r"\d+ weights of its configuration are not in its files"),
        ({"intermediate_size": 7}, "no text encoder at"),
        ({"is_decoder": True}, "is_decoder: true; permitted: false"),
        ({"model_type": "unheard-of"}, "is a unheard-of; permitted: bert, roberta, "),
    ],
)
def test_weights_of_another_configuration_are_refused(tiny_bert, changes, message, tmp_path):
    """transformers would leave random what is missing, and say nothing."""
    folder = shutil.copytree(tiny_bert, tmp_path / "encoder")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
    with pytest.raises(DataError, match=message) as refused:
        LOAD(str(folder))
    assert "\n" not in str(refused.value)


def test_another_architecture_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    with pytest.raises(DataError) as refused:
        text.load_model(str(tmp_path))
    message = str(refused.value)
    assert message.startswith(f"text_encoder: {tmp_path} is a gpt2; permitted: bert, roberta, ")
    assert "\n" not in message

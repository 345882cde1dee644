"""The contract that every model named in params.yaml keeps; no model's name stands here.

A model is tested by being named in params.yaml. Its block is taken from there, with the sizes of
the loop made small. What only networks have (seeds, epochs, an encoder) is asked of networks.
"""

import inspect
from collections import Counter
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode

from msabench import models, params, plan
from msabench.networks import text, torch_settings
from msabench.networks.batches import Batch, cost, length_bucketed
from msabench.training import checkpoints
from msabench.training.loop import NetworkRegressor
from msabench.utterances import MODALITIES, Ragged
from tests.conftest import broken_off, random_ragged, random_utterances

PARAMS = params.load(Path(__file__).parents[1] / "params.yaml")
# Other blocks are the same models with other settings.
NAMES = [name for name in PARAMS.models if plan.block_of(PARAMS, name)["model"] == name]
# The settings that a model has in params.yaml; which modalities a run reads is none of them.
BLOCKS = {
    name: {
        key: value
        for key, value in plan.own_settings(PARAMS, name, block, name).items()
        if key != "modalities"
    }
    for name, block in PARAMS.models.items()
    if name in NAMES
}
NETWORKS = [name for name in NAMES if models.is_network(name)]


def in_tiers(names):
    """The names as parameters of a test: of models not compared by default, in the second tier."""
    return [
        pytest.param(name, marks=() if name in PARAMS.compare else pytest.mark.slow, id=name)
        for name in names
    ]


SUBSETS = [list(subset) for size in (1, 2, 3) for subset in combinations(MODALITIES, size)]
# For the models that have them; trainable_layers 0: the text is one frozen vector.
SMALL = {
    "trainable_layers": 0,
    "epochs": 3,
    "patience": 3,
    "batch_size": 8,
    "accumulate": 1,
    "minimum_improvement": 0.0,
    "transformer_dim": 32,
}


def config_of(name, text_encoder="none", **changes):
    """The model's own block in groups, small, with those changes that it knows."""
    known = [key for group in models.groups(name).values() for key in group.model_fields]
    changes = {key: value for key, value in (SMALL | changes).items() if key in known}
    groups = models.check_settings(name, BLOCKS[name] | changes, name, plan.shared_settings(PARAMS))
    groups["encoder"] |= {"name": text_encoder}
    return {"model": name, **groups}


def build(name, data, text_encoder="none", **changes):
    return models.build(config_of(name, text_encoder, **changes), data.widths)


def weights(regressor, folder):
    """The bytes of what a trained model is saved as."""
    folder.mkdir(parents=True, exist_ok=True)
    regressor.save(folder)
    return (folder / "weights.safetensors").read_bytes()


def error(predictions, data):
    return np.abs(predictions.astype(np.float64) - data.labels).mean()


# A frozen text of so many features: of fewer, one that normalizes them, as a BERT does, loses much.
WIDTH = 32
LINEAR = random_utterances(seed=1, n=120, text_width=WIDTH)
TRAIN = random_utterances(seed=1, n=24, text_width=WIDTH)
VALID = random_utterances(seed=2, n=16, text_width=WIDTH)
TEST = random_utterances(seed=3, n=16, text_width=WIDTH)
MANY = random_utterances(seed=3, n=400, text_width=WIDTH)  # of which few are predicted by chance


@pytest.fixture(scope="module", params=in_tiers(NAMES))
def name(request):
    return request.param


@pytest.fixture(scope="module")
def fitted(name, tmp_path_factory):
    """A model after its training on the small data with seed 1."""
    regressor = build(name, TRAIN)
    regressor.fit(TRAIN, VALID, seed=1, scratch=tmp_path_factory.mktemp("fitted"))
    return regressor


def test_is_a_regressor(name):
    assert isinstance(build(name, TRAIN), models.Regressor)


@pytest.mark.parametrize("name", in_tiers(NETWORKS))
def test_mixed_precision_is_that_of_products_alone(name, tiny_bert, monkeypatch):
    """Of most of them, in what the losses and tables read as float32: not rounded to bfloat16."""
    data = random_utterances(seed=1, n=8, text_width=8)
    regressor = build(name, data, tiny_bert, trainable_layers=1)
    regressor.network = regressor.build()
    regressor.network.fit_statistics(data)
    batch = Batch.of(data, np.arange(8), torch.device("cpu"))
    exact = regressor.network.eval()(batch)
    monkeypatch.setattr(torch_settings, "precision", "bfloat16")
    with Products() as products:
        loss = regressor.network.training_loss(batch, epoch=1)
    loss.backward()
    assert products[torch.bfloat16] > 0
    assert loss.dtype == torch.float32
    assert {p.grad.dtype for p in regressor.network.parameters() if p.grad is not None} == {
        torch.float32
    }
    predictions = regressor.network.eval()(batch)
    with torch.inference_mode():
        torch.testing.assert_close(regressor.network(batch), predictions, rtol=0, atol=0.02)
    assert predictions.dtype == torch.float32
    assert not torch.equal(predictions, predictions.bfloat16().float())
    torch.testing.assert_close(predictions, exact, rtol=0.05, atol=0.05)
    assert not torch.equal(predictions, exact)


class Products(TorchDispatchMode):
    """Counts matrix products by the type of their factors."""

    NAMES = ("mm", "addmm", "bmm", "baddbmm", "convolution")

    def __enter__(self):
        super().__enter__()
        self.counts: Counter[torch.dtype] = Counter()
        return self.counts

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.overloadpacket.__name__ in self.NAMES:
            self.counts[args[1].dtype] += 1
        return function(*args, **(kwargs or {}))


def test_says_what_it_is_and_how_large(name, fitted, tmp_path):
    """The numbers counted are in the file of weights, where the rest are buffers."""
    assert 20 < len(models.about(name)) < 200
    size = fitted.size()
    assert sum(size.values()) > 0
    assert list(size) == list(build_and_load(name, fitted, tmp_path).size())
    stored = load_file(tmp_path / "weights.safetensors")
    if isinstance(fitted, NetworkRegressor):
        buffers = {key for key, _ in fitted._trained().named_buffers()}
        counted = {key: array.size for key, array in stored.items() if key not in buffers}
        of_encoder = sum(n for key, n in counted.items() if key.startswith("encoder."))
        assert list(size.values()) == [of_encoder, sum(counted.values()) - of_encoder]


def build_and_load(name, fitted, folder):
    fitted.save(folder)
    loaded = build(name, TRAIN)
    loaded.load(folder)
    return loaded


@pytest.fixture(scope="module")
def trained(name, tmp_path_factory):
    """A model that has learned a linear label from 120 utterances."""
    return trained_on(LINEAR, VALID, name, tmp_path_factory.mktemp("trained"))


def trained_on(train, valid, name, scratch):
    dim = PARAMS.transformer_dim
    regressor = build(name, train, epochs=4, decay="none", transformer_dim=dim)
    regressor.fit(train, valid, seed=1, scratch=scratch)
    return regressor


def of_chance(regressor, data):
    """The model's error as a share of that of the mean training label."""
    rng = np.full(len(data), LINEAR.labels.mean())
    return error(regressor.predict(data), data) / error(rng, data)


def test_learns_a_linear_label(trained):
    assert of_chance(trained, MANY) < 0.65


def test_a_constant_added_to_all_labels_is_added_to_all_predictions(name, tmp_path):
    """Training sees distances alone; without, labels of 1 to 7 ruin a network that starts at 0."""
    predictions = []
    for shift, scale in ((0, {}), (4, {"label_range": [1.0, 7.0], "neutral": 4.0})):
        splits = (
            replace(split, labels=split.labels + np.float32(shift)) for split in (TRAIN, VALID)
        )
        regressor = build(name, TRAIN, **scale)
        regressor.fit(*splits, seed=1, scratch=tmp_path / str(shift))
        predictions.append(regressor.predict(TEST) - shift)
    assert np.ptp(predictions[0]) > 0
    np.testing.assert_allclose(predictions[1], predictions[0], atol=1e-3)


def test_shuffled_labels_give_chance(name, tmp_path):
    """Labels of other utterances teach nothing, unless the right ones leak in some other way."""
    rng = np.random.default_rng(0)
    train, valid = (
        replace(split, labels=rng.permutation(split.labels)) for split in (LINEAR, VALID)
    )
    assert 0.9 < of_chance(trained_on(train, valid, name, tmp_path), MANY) < 1.5


@pytest.mark.parametrize("modality", MODALITIES)
def test_the_modality_of_another_utterance_is_worse(name, trained, modality):
    """So each modality is used, and is that of its own utterance.

    One that only weighs the others changes predictions; here no weights are better than others.
    """
    other = MANY.sequences[modality].take(np.roll(np.arange(len(MANY)), 1))
    swapped = replace(MANY, sequences={**MANY.sequences, modality: other})
    if modality in getattr(models._model(name), "only_weighs", ()):
        assert np.abs(trained.predict(swapped) - trained.predict(MANY)).max() > 1e-4
    else:
        assert of_chance(trained, swapped) > 1.05 * of_chance(trained, MANY)


def test_same_seed_same_predictions(name, fitted, tmp_path):
    torch.rand(3)  # what happened before has no part in it
    again = build(name, TRAIN)
    again.fit(TRAIN, VALID, seed=1, scratch=tmp_path)
    np.testing.assert_array_equal(again.predict(TEST), fitted.predict(TEST))


def test_prediction_changes_nothing(fitted, tmp_path):
    before = weights(fitted, tmp_path / "before")
    first, second = fitted.predict(TEST), fitted.predict(TEST)
    np.testing.assert_array_equal(first, second)
    assert first.dtype == np.float32
    assert weights(fitted, tmp_path / "after") == before


def test_order_of_utterances_does_not_matter(fitted):
    order = np.random.default_rng(0).permutation(len(TEST))
    reordered = fitted.predict(TEST.take(order))
    np.testing.assert_allclose(reordered, fitted.predict(TEST)[order], rtol=0, atol=1e-5)


def test_training_never_sees_the_test_split(name, fitted, tmp_path):
    """Fit is given train and valid alone; predictions are no function of the test labels."""
    assert list(inspect.signature(fitted.fit).parameters) == ["train", "valid", "seed", "scratch"]
    order = np.random.default_rng(0).permutation(len(TEST))
    other = replace(TEST.take(order), labels=TEST.labels)  # features permuted, labels not
    expected = weights(fitted, tmp_path / "fitted")
    again = build(name, TRAIN)
    again.fit(TRAIN, VALID, seed=1, scratch=tmp_path)
    again.predict(other)
    assert weights(again, tmp_path / "again") == expected
    blind = replace(TEST, labels=np.full_like(TEST.labels, np.nan))
    np.testing.assert_array_equal(again.predict(blind), fitted.predict(TEST))


def test_save_and_load(name, fitted, tmp_path):
    fitted.save(tmp_path)
    loaded = build(name, TRAIN)
    loaded.load(tmp_path)
    np.testing.assert_array_equal(loaded.predict(TEST), fitted.predict(TEST))


def test_longer_padding_same_predictions(name, tiny_bert, tmp_path):
    """An utterance has the same prediction alone and beside one that is many times longer."""
    trained = {"text_encoder": tiny_bert, "trainable_layers": 1}
    layers = trained if models.is_network(name) else {}
    data = random_utterances(n=16, text_tokens=6 if layers else 1)
    regressor = build(name, data, **layers, epochs=1)
    regressor.fit(data, data, seed=1, scratch=tmp_path)
    rng = np.random.default_rng(0)
    frames = {"text": 50 if layers else 1, "audio": 100, "vision": 100}
    long = {
        name: Ragged.of([ragged[0], random_ragged(rng, 1, ragged.width, *2 * [frames[name]])[0]])
        for name, ragged in data.sequences.items()
    }
    beside = replace(data.take([0, 1]), sequences=long)
    alone = regressor.predict(data.take([0]))
    np.testing.assert_allclose(regressor.predict(beside)[0], alone[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("modalities", SUBSETS, ids="+".join)
def test_works_with_each_subset_of_modalities(name, modalities, tmp_path):
    train, valid, test = (split.select(modalities) for split in (TRAIN, VALID, TEST))
    regressor = build(name, train, epochs=1, batch_size=16)
    regressor.fit(train, valid, seed=1, scratch=tmp_path / "scratch")
    predictions = regressor.predict(test)
    assert np.isfinite(predictions).all()
    assert len(np.unique(predictions)) > 1
    loaded = build(name, train, batch_size=16)
    weights(regressor, tmp_path / "saved")
    loaded.load(tmp_path / "saved")
    np.testing.assert_array_equal(loaded.predict(test), predictions)


def constant(data, value):
    """The same frames, all of one value."""
    same = {
        name: Ragged(np.full_like(ragged.values, value), ragged.offsets)
        for name, ragged in data.sequences.items()
    }
    return replace(data, sequences=same)


DEGENERATE = {
    "features of zeros": lambda data: constant(data, 0.0),
    "constant features": lambda data: constant(data, 0.1),
    "constant features of one modality": lambda data: replace(
        data, sequences={**data.sequences, "text": constant(data, 0.1).sequences["text"]}
    ),
    "the same utterance throughout": lambda data: data.take([0] * len(data)),
    "one utterance": lambda data: data.take([0]),
    "one utterance of zeros": lambda data: constant(data.take([0]), 0.0),
    "labels of 0": lambda data: replace(data, labels=np.zeros_like(data.labels)),
    "constant labels": lambda data: replace(data, labels=np.full_like(data.labels, 0.1)),
    "labels within the SVM's tube": lambda data: replace(data, labels=data.labels / 100),
    "labels without a negative one": lambda data: replace(data, labels=np.abs(data.labels)),
}


@pytest.mark.parametrize("modalities", [["text"], ["vision"], list(MODALITIES)], ids="+".join)
@pytest.mark.parametrize("kind", DEGENERATE)
def test_degenerate_data_give_finite_predictions(name, kind, modalities, tmp_path):
    """In silence: warnings are errors here."""
    train, valid, test = (
        DEGENERATE[kind](split).select(modalities) for split in (TRAIN, VALID, TEST)
    )
    regressor = build(name, train, epochs=2)
    regressor.fit(train, valid, seed=1, scratch=tmp_path / "scratch")
    predictions = regressor.predict(test)
    assert np.isfinite(predictions).all()
    loaded = build(name, train)
    weights(regressor, tmp_path / "saved")
    loaded.load(tmp_path / "saved")
    np.testing.assert_array_equal(loaded.predict(test), predictions)
    assert loaded.size() == regressor.size()


def test_unknown_setting_is_refused(name):
    known = next(iter(BLOCKS[name]))
    with pytest.raises(params.ParamsError) as caught:
        models.check_settings(name, {"no_such_setting": 7}, f"models.{name}", {})
    message = str(caught.value)
    assert message.startswith(f"models.{name}.no_such_setting: unknown setting (value 7); ")
    assert known in message
    assert "\n" not in message


def test_wrong_setting_is_refused(name):
    wrong = {next(iter(BLOCKS[name])): object()}
    with pytest.raises(params.ParamsError, match=rf"^models\.{name}: {next(iter(wrong))}"):
        models.check_settings(
            name, BLOCKS[name] | wrong, f"models.{name}", plan.shared_settings(PARAMS)
        )


# indirect: else pytest would keep `fitted` for the next name, as it knows that it depends on the
# fixture `name`, but not that it does on a parameter of that name.
network = pytest.mark.parametrize("name", in_tiers(NETWORKS), scope="module", indirect=True)


@pytest.mark.slow
@network
def test_no_setting_of_the_optimizer_shapes_the_network(name, fitted, tmp_path):
    """Loaded for inference, a network needs no more than `encoder` and `network`."""
    config = config_of(name)
    expected = fitted.predict(TEST)
    weights(fitted, tmp_path)
    for group in ("optimizer", "schedule"):
        del config[group]
    loaded = models.build(config, TRAIN.widths)
    loaded.load(tmp_path)
    np.testing.assert_allclose(loaded.predict(TEST), expected, rtol=0, atol=1e-5)
    with pytest.raises(RuntimeError, match="without optimizer and schedule cannot be trained"):
        loaded.fit(TRAIN, VALID, seed=1, scratch=tmp_path)


@pytest.mark.slow
@network
def test_overfits_64_utterances(name, tmp_path):
    """A network that cannot has a gradient, a target or a modality in the wrong place.

    Where a batch's utterances are coupled, all of them are one batch: others differ by chance.
    """
    data = random_utterances(seed=1, n=64, text_width=WIDTH)
    batches = 1 if models._model(name).couples_utterances else 4
    epochs = 480 // batches
    regressor = build(name, data, epochs=epochs, patience=epochs, batch_size=64 // batches)
    regressor.fit(data, data, seed=1, scratch=tmp_path)
    assert error(regressor.predict(data), data) < 0.1


@network
def test_gradient_reaches_every_modality_but_no_padding(fitted):
    batch = Batch.of(TRAIN, np.arange(8), torch.device("cpu"))
    for sequence in batch.sequences.values():
        sequence.values.requires_grad_()
    fitted.network.eval()(batch).sum().backward()
    for sequence in batch.sequences.values():
        assert sequence.values.grad is not None
        reached = sequence.values.grad.abs().sum(dim=2) > 0
        assert reached.any(dim=1).all()
        assert not (reached & ~sequence.mask).any()


@network
def test_the_unit_of_a_feature_does_not_matter(name):
    """Where features that are not trained are standardized, by training statistics."""
    other = TRAIN.take(np.arange(len(TRAIN)))
    for modality, factor in {"text": 2, "audio": 64, "vision": 1 / 64}.items():
        other.sequences[modality].values[:] *= factor  # powers of 2, which round nothing
    predictions = []
    for data in (TRAIN, other):
        regressor = build(name, data, standardize=True)
        torch.manual_seed(1)
        network = regressor.build().eval()
        network.fit_statistics(data)
        batch = Batch.of(data, np.arange(8), torch.device("cpu"))
        predictions.append(network(batch))
    torch.testing.assert_close(*predictions)


@network
def test_other_seed_other_predictions(name, fitted, tmp_path):
    other = build(name, TRAIN)
    other.fit(TRAIN, VALID, seed=2, scratch=tmp_path)
    assert (other.predict(TEST) != fitted.predict(TEST)).any()


@network
def test_keeps_the_best_epoch(name, tmp_path):
    """Valid contradicts train here: what is learned makes it worse; the last epoch is not kept."""
    valid = replace(VALID, labels=-VALID.labels)
    regressor = build(name, TRAIN, patience=12, epochs=12)
    history = regressor.fit(TRAIN, valid, seed=1, scratch=tmp_path)
    errors = [row["valid_mae"] for row in history]
    assert [row["epoch"] for row in history] == list(range(1, 13))
    assert errors[-1] > min(errors)
    assert error(regressor.predict(valid), valid) == min(errors)


@pytest.fixture(scope="module")
def uninterrupted(name, tmp_path_factory):
    """A model, its history and its checkpoints: three epochs of three batches, two to a step."""
    whole, scratch = build(name, TRAIN, accumulate=2, decay="linear"), tmp_path_factory.mktemp(name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(checkpoints.SECONDS, "0")
        return whole, whole.fit(TRAIN, VALID, seed=1, scratch=scratch), scratch


@network
@pytest.mark.parametrize("done", [1, 2, 5, 8])
def test_resumed_equals_uninterrupted(name, uninterrupted, done, tmp_path, monkeypatch):
    """Bit for bit: history, weights, optimizer and label tables, after a stop at any batch."""
    monkeypatch.setenv(checkpoints.SECONDS, "0")
    whole, history, checkpoint = uninterrupted
    with broken_off(done):
        build(name, TRAIN, accumulate=2, decay="linear").fit(
            TRAIN, VALID, seed=1, scratch=tmp_path / "broken"
        )
    resumed = build(name, TRAIN, accumulate=2, decay="linear")
    assert resumed.fit(TRAIN, VALID, seed=1, scratch=tmp_path / "broken") == history
    assert weights(resumed, tmp_path / "b") == weights(whole, tmp_path / "a")
    for file in checkpoint.iterdir():  # the last checkpoint has all that training changes
        assert (tmp_path / "broken" / file.name).read_bytes() == file.read_bytes()
    np.testing.assert_array_equal(resumed.predict(TEST), whole.predict(TEST))


@pytest.mark.slow
@network
def test_resumed_after_every_batch_equals_uninterrupted(name, uninterrupted, tmp_path, monkeypatch):
    """Of every phase too, and whatever a network remembers of the batches before."""
    monkeypatch.setenv(checkpoints.SECONDS, "0")
    whole, history, checkpoint = uninterrupted
    steps = whole._steps(whole.network, length_bucketed(cost(TRAIN), 8, np.random.default_rng(0)))
    for done in range(1, len(history) * len(steps)):
        scratch, resumed = tmp_path / str(done), build(name, TRAIN, accumulate=2, decay="linear")
        with broken_off(done):
            build(name, TRAIN, accumulate=2, decay="linear").fit(
                TRAIN, VALID, seed=1, scratch=scratch
            )
        assert resumed.fit(TRAIN, VALID, seed=1, scratch=scratch) == history
        for file in checkpoint.iterdir():
            assert (scratch / file.name).read_bytes() == file.read_bytes()


def with_text(data, trainable_layers):
    """Data whose text is what a network with so many trained layers reads."""
    rng = np.random.default_rng(len(data))
    if trainable_layers == "all":
        ids = [rng.integers(4, 12, size=t).astype(np.int32) for t in rng.integers(3, 9, len(data))]
        return data.select(["audio", "vision"]).with_text(Ragged.of(ids))
    states = random_ragged(rng, len(data), 8, 3, 8)
    return data.select(["audio", "vision"]).with_text(states)


@network
@pytest.mark.parametrize("trainable_layers", [1, "all"])
def test_trains_the_text_encoder(name, trainable_layers, tiny_bert, tmp_path):
    """Every weight of network and encoder gets a gradient within three epochs, and moves.

    Three, because a model may leave a part of it alone for an epoch.
    """
    train, valid = with_text(TRAIN, trainable_layers), with_text(VALID, trainable_layers)
    regressor = build(name, train, tiny_bert, trainable_layers=trainable_layers)
    reached: set[int] = set()

    def watch(optimizer, *_):
        for group in optimizer.param_groups:
            reached.update(id(p) for p in group["params"] if p.grad is not None and p.grad.any())

    handle = register_optimizer_step_pre_hook(watch)
    try:
        regressor.fit(train, valid, seed=1, scratch=tmp_path)
    finally:
        handle.remove()
    missed = [key for key, p in regressor.network.named_parameters() if id(p) not in reached]
    assert missed == []
    before = text.build_encoder(tiny_bert, trainable_layers, "mean", 8).state_dict()
    after = regressor.network.encoder.state_dict()
    assert [key for key in before if torch.equal(before[key], after[key])] == []
    assert np.isfinite(regressor.predict(valid)).all()


@network
def test_the_rate_of_the_text_encoder_reaches_it(name, tiny_bert):
    """Each parameter is in one group; those of the encoder, and no others, have its rate."""
    data = with_text(TRAIN, 1)
    config = config_of(name, tiny_bert, trainable_layers=1)
    regressor = models.build(config, data.widths)
    assert isinstance(regressor, NetworkRegressor)
    built = regressor.build()
    groups = built.parameter_groups(regressor.optimizer)
    members = [id(p) for group in groups for p in group["params"]]
    assert sorted(members) == sorted(id(p) for p in built.parameters())
    settings = config["optimizer"]
    if "bert_lr" not in settings and not isinstance(settings["lr"], dict):
        pytest.skip("it has one rate for all its weights")
    rate = settings["bert_lr"] if "bert_lr" in settings else settings["lr"]["text"]
    at_rate = {id(p) for group in groups if group["lr"] == rate for p in group["params"]}
    encoder = {id(p) for key, p in built.named_parameters() if key.startswith("encoder.")}
    assert at_rate == encoder
    assert encoder

"""The text encoder, whose lower layers are frozen, run once and cached.

A network trains the top `trainable_layers` of the encoder (0 to all of them). The input of its text
modality follows from that and is always a sequence:

    all   token ids, (t,)            the whole encoder is trained
    k     hidden states, (t, d)      after the lower layers, which are frozen
    0     one pooled vector, (1, d)  nothing is trained
    0     hidden states, (t, d)      nothing is trained, for a network that reads token states

Pooling over the single step of a frozen text is the identity, so models treat all of them alike.
"""

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Integer
from safetensors import safe_open
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from msabench import errors
from msabench.errors import EncoderError
from msabench.networks import encoders, precision
from msabench.networks.architectures import ARCHITECTURES, Architecture
from msabench.networks.batches import Padded, sorted_by_length
from msabench.networks.layers import pool
from msabench.params import Pooling, TrainableLayers
from msabench.utterances import Ragged, save_array

PAGE = "docs/models.md"
# Activation checkpointing on a CPU begins beyond this many values of layer outputs (b t d, summed
# over layers), about a hundred bytes each: 7 layers of bert-base for 32 texts of 50 tokens.
MAX_ACTIVATIONS = 9_000_000
# Files that tokenizers read their vocabularies from, one of which an encoder has.
VOCABULARIES = (
    *("tokenizer.json", "vocab.txt", "vocab.json", "spm.model", "spiece.model"),
    *("sentencepiece.bpe.model", "tokenizer.model"),
)
# What acts on the states of the tokens, (b, t, d), between two layers.
Inject = Callable[[Tensor], Tensor]
SPECIAL_TOKENS = 2  # of every text: [CLS] and [SEP], alone where it is blank


class TextEncoder(nn.Module):
    """The trained part of an encoder, then pooling to one vector per utterance.

    architecture: what the layers read. embeddings: where all of it is trained. layers: the trained
    top layers, none where the text is frozen. shared: what all layers read; trained with the
    embeddings alone, as cached states were made with it. width: features of the vector, d.
    pooler: reads the checkpoint's own layer above the first token's last state, for a network that
    has one too (load_pooler); None where the pooling is another. It is no part of this module.
    """

    def __init__(
        self,
        width: int,
        *,
        architecture: Architecture | None = None,
        layers: Iterable[nn.Module] = (),
        embeddings: nn.Module | None = None,
        shared: nn.Module | None = None,
        pooling: Pooling = "mean",
        pooler: Callable[[], Mapping[str, Tensor] | None] | None = None,
    ) -> None:
        super().__init__()
        self.width = width
        self.pooler = pooler
        self.pooling = pooling
        self.architecture = architecture or Architecture()
        self.embeddings = embeddings
        self.layers = nn.ModuleList(layers)
        self.shared = shared
        if shared is not None and embeddings is None:
            _freeze(shared)

    @property
    def frozen(self) -> bool:
        """Whether nothing of the encoder is trained."""
        return self.embeddings is None and len(self.layers) == 0

    def forward(self, text: Padded) -> Float[Tensor, "b d"]:
        return pool(self.states(text).values, text, self.pooling)

    def states(self, text: Padded, inject: Inject | None = None, at: int = 0) -> Padded:
        """Return the states of the tokens, (b, t, d).

        inject: applied in full precision to the states before the trained layer `at`, from 0; of a
        text that is all frozen, to what it is.
        """
        states = text.values
        if self.frozen:
            return text if inject is None else Padded(_injected(inject, states), text.lengths)
        with precision.mixed(states.device):
            if self.embeddings is not None:
                states = self.architecture.embed(self.embeddings, text)
            inputs = self.architecture.inputs(self.shared, states, text)
            states = run_layers(self.layers, states, inputs, inject, at)
        return Padded(precision.exact(states), text.lengths)


def _freeze(module: nn.Module) -> None:
    """Turn the parameters of a module into buffers: saved, but neither counted nor trained."""
    for part in module.modules():
        for name, parameter in list(part.named_parameters(recurse=False)):
            delattr(part, name)
            part.register_buffer(name, parameter.detach())


def untrained(encoder: TextEncoder | None, widths: Mapping[str, int]) -> dict[str, int]:
    """Return the widths of the modalities with constant features: text only if it is all frozen."""
    trained = encoder is not None and not encoder.frozen
    return {name: width for name, width in widths.items() if not (trained and name == "text")}


def run_layers(
    layers: Iterable[nn.Module],
    states: Float[Tensor, "b t d"],
    inputs: Mapping[str, Any],
    inject: Inject | None = None,
    at: int = 0,
) -> Float[Tensor, "b t d"]:
    """Apply layers to the states of a padded text; inputs: see Architecture.inputs.

    inject: applied to the states before layer `at`, in full precision.
    In training on a CPU, the first layers of a large batch are recomputed in the backward pass
    (activation checkpointing, see MAX_ACTIVATIONS): the same numbers, in bounded memory.
    """
    layers = list(layers)
    bounded = torch.is_grad_enabled() and states.device.type == "cpu"
    recomputed = len(layers) - MAX_ACTIVATIONS // states.numel() if bounded else 0
    for number, layer in enumerate(layers):
        if inject is not None and number == at:
            states = _injected(inject, states)
        if number < recomputed:
            states = checkpoint(_after, layer, states, inputs, use_reentrant=False)
        else:
            states = _after(layer, states, inputs)
    return states


def _injected(inject: Inject, states: Tensor) -> Tensor:
    with precision.full(states.device):
        return inject(precision.exact(states))


def _after(layer: nn.Module, states: Tensor, inputs: Mapping[str, Any]) -> Tensor:
    """Return the states after a layer, which may return attention weights behind them."""
    after = layer(states, **inputs)
    return after[0] if isinstance(after, tuple) else after


@errors.see(PAGE)
def build_encoder(
    name: str,
    trainable_layers: TrainableLayers,
    pooling: Pooling,
    width: int,
    published: Mapping[str, Any] | None = None,
) -> TextEncoder:
    """Build the trained part of an encoder; width: of the cached text features.

    published: see encoders.published. Raises EncoderError for more layers than the encoder has.
    """
    if trainable_layers == 0:
        return TextEncoder(width, pooling=pooling)
    model = load_model(name, published)
    architecture = ARCHITECTURES[model.config.model_type]
    layers = architecture.layers(model)
    return TextEncoder(
        model.config.hidden_size,
        architecture=architecture,
        layers=layers[frozen_layers(trainable_layers, len(layers)) :],
        embeddings=architecture.embeddings(model) if trainable_layers == "all" else None,
        shared=architecture.shared(model),
        pooling=pooling,
        pooler=partial(load_pooler, name, published) if pooling == "cls" else None,
    )


@errors.see(PAGE)
def frozen_layers(trainable_layers: TrainableLayers, layers: int) -> int:
    """Return the number of frozen lower layers. Raises EncoderError for more than it has."""
    if trainable_layers == "all":
        return 0
    if trainable_layers > layers:
        raise EncoderError(
            f"trainable_layers: {trainable_layers}; the text encoder has {layers} layers; "
            f"permitted: 0 to {layers}, or all"
        )
    return layers - trainable_layers


def transformers() -> Any:
    """Import transformers on first use: it takes seconds, and a frozen text does not need it."""
    import transformers

    # No report of unused pooler weights, and no progress bar for a second of loading.
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return transformers


@errors.see(PAGE)
def load_model(name: str, published: Mapping[str, Any] | None = None) -> Any:
    """Load an encoder by name (on the hub) or folder; published: see encoders.published.

    Raises EncoderError where there is none, for an architecture that is not permitted, and for
    weights that are not those of the configuration.
    """
    with encoders.folder(name, published) as folder, _one_line(name):
        architecture = _architecture(name, folder)
        config = transformers().AutoConfig.from_pretrained(folder, trust_remote_code=False)
        if getattr(config, "is_decoder", False):
            raise EncoderError(f"text_encoder: {name}: is_decoder: true; permitted: false")
        # float32 whatever the file holds; weights as pickle (pytorch_model.bin) are not read.
        model, loaded = transformers().AutoModel.from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            attn_implementation=architecture.attention,
            use_safetensors=True,
            output_loading_info=True,
            **architecture.loading,
        )
        # transformers leaves random what a file does not have.
        if missing := sorted(loaded["missing_keys"]):
            raise EncoderError(
                f"text_encoder: {name}: {len(missing)} weights of its configuration are not in its "
                f"files, such as {missing[0]}"
            )
        return model


def load_pooler(
    name: str, published: Mapping[str, Any] | None = None
) -> dict[str, Float[Tensor, "..."]] | None:
    """Return weight (d, d) and bias (d,) of an encoder's pooler, by these names; None without."""
    with encoders.folder(name, published) as folder, _one_line(name):
        for path in sorted(folder.glob("*.safetensors")):
            with safe_open(path, framework="pt") as file:
                stored = {key.removeprefix("bert."): key for key in file.keys()}  # noqa: SIM118
                if "pooler.dense.weight" in stored:
                    return {
                        part: file.get_tensor(stored[f"pooler.dense.{part}"]).float()
                        for part in ("weight", "bias")
                    }
    return None


def _architecture(name: str, folder: Path) -> Architecture:
    content = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    kind = content.get("model_type")
    if kind not in ARCHITECTURES:
        raise EncoderError(
            f"text_encoder: {name} is a {kind}; permitted: {', '.join(ARCHITECTURES)}"
        )
    return ARCHITECTURES[kind]


@errors.see(PAGE)
def check_length(model: Any, max_tokens: int) -> None:
    """Raise EncoderError for texts of more tokens than the encoder has positions for."""
    table = getattr(model.embeddings, "position_embeddings", None)
    if table is None:  # its positions are relative
        return
    first = 0 if table.padding_idx is None else table.padding_idx + 1
    if max_tokens > (most := table.num_embeddings - first):
        raise EncoderError(
            f"max_tokens: {max_tokens}; the text encoder has {most} positions; "
            f"permitted: 3 to {most}"
        )


@errors.see(PAGE)
def load_tokenizer(name: str, published: Mapping[str, Any] | None = None) -> Any:
    """Load the tokenizer of a text encoder, as load_model does."""
    with encoders.folder(name, published) as folder, _one_line(name):
        # Without a vocabulary transformers makes a tokenizer that knows no word.
        if not any((folder / file).exists() for file in VOCABULARIES):
            raise EncoderError(
                f"text_encoder: {name}: no vocabulary; permitted: {', '.join(VOCABULARIES)}"
            )
        return transformers().AutoTokenizer.from_pretrained(folder, trust_remote_code=False)


@contextmanager
def _one_line(name: str) -> Iterator[None]:
    """Turn what transformers raises for files that it cannot use into an EncoderError."""
    try:
        yield
    except (EncoderError, MemoryError):
        raise
    except Exception as error:  # of any kind: OSError, ValueError, those of safetensors and json
        reason = " ".join(str(error).split())[:200]
        raise EncoderError(f"text_encoder: no text encoder at {name!r} ({reason})") from error


def tokenize(tokenizer: Any, texts: list[str]) -> Ragged:
    """Return the token ids of each text, int32, with [CLS] and [SEP]."""
    return Ragged.of([np.array(row, dtype=np.int32) for row in tokenizer(texts)["input_ids"]])


def truncate(tokens: Ragged, length: int) -> Ragged:
    """Truncate each text to at most that many tokens; the last of those is [SEP] again."""
    return Ragged.of([_truncate(tokens[i], length) for i in range(len(tokens))])


def count_unknown(tokens: Ragged, unknown: int | None) -> Integer[np.ndarray, " n"]:
    """Count the unknown tokens ([UNK]) of each text; unknown: their id, None if it has none."""
    before = np.concatenate([[0], np.cumsum(tokens.values == unknown)])
    return np.diff(before[tokens.offsets])


def without_token(texts: Sequence[str], tokens: Ragged) -> Bool[np.ndarray, " n"]:
    """Return which texts have no token, or are blank: some tokenizers have a token for a space."""
    blank = np.array([not text.strip() for text in texts], dtype=bool)
    return blank | (tokens.lengths == SPECIAL_TOKENS)


def count_differences(
    texts: Sequence[str],
    tokens: Ragged,
    max_tokens: int,
    unknown: int | None,
    given: Ragged | None,
) -> dict[str, int]:
    """Count for the data report, over the texts of a split, of the encoder's untruncated tokens:

    tokens_cut: texts that are truncated. tokens_unknown: see count_unknown, after truncation;
    texts_unknown: texts with such tokens. text_missing: see without_token.
    tokens_differ: texts whose token ids in the data, `given` (truncated to any length, as in MMSA's
    files), are not the encoder's.
    """
    unknown_counts = count_unknown(truncate(tokens, max_tokens), unknown)
    counts = {
        "tokens_cut": int((tokens.lengths > max_tokens).sum()),
        "tokens_unknown": int(unknown_counts.sum()),
        "texts_unknown": int((unknown_counts > 0).sum()),
        "text_missing": int(without_token(texts, tokens).sum()),
    }
    if given is not None:
        counts["tokens_differ"] = sum(
            not np.array_equal(given[i], _truncate(tokens[i], len(given[i])))
            for i in range(len(tokens))
        )
    return counts


def _truncate(tokens: Integer[np.ndarray, " t"], length: int) -> Integer[np.ndarray, " _"]:
    return tokens if len(tokens) <= length else np.append(tokens[: length - 1], tokens[-1])


def cache_name(trainable_layers: TrainableLayers, pooling: Pooling | None) -> str:
    """Return the name of the cached array that a model with these settings reads.

    pooling: of a text that is all frozen; None where the model reads the states of its tokens.
    """
    if trainable_layers == "all":
        return "tokens"
    if trainable_layers:
        return f"below-{trainable_layers}"
    return f"pooled-{pooling}" if pooling else "states"


def encode(
    model: Any,
    tokens: Ragged,
    settings: Mapping[str, tuple[TrainableLayers, Pooling | None]],
    folder: Path,
    *,
    batch_size: int = 64,
    device: torch.device,
    workers: int = 1,
) -> None:
    """Run the frozen layers once over all texts and save one array for each of the settings.

    settings: cache_name -> (trainable_layers, pooling). The states of real tokens are written
    straight to disk: (total tokens, d), or (n, d) where they are pooled. workers: threads that take
    one batch after the other, each with PyTorch's number of threads; the arrays are the same.
    """
    model.to(device).eval()
    architecture = ARCHITECTURES[model.config.model_type]
    layers, shared = architecture.layers(model), architecture.shared(model)
    embeddings = architecture.embeddings(model)
    depth, width = len(layers), model.config.hidden_size
    arrays = {}
    for name, (trainable_layers, pooling) in settings.items():
        pooled = trainable_layers == 0 and pooling is not None
        offsets = np.arange(len(tokens) + 1) if pooled else tokens.offsets
        save_array(folder / f"{name}.offsets.npy", offsets)
        arrays[name] = np.lib.format.open_memmap(
            folder / f"{name}.npy", mode="w+", dtype=np.float32, shape=(int(offsets[-1]), width)
        )
    if not settings:
        return
    deepest = max(
        frozen_layers(trainable_layers, depth) for trainable_layers, _ in settings.values()
    )

    @torch.inference_mode()
    def encode_batch(index: Integer[np.ndarray, " b"]) -> None:
        text = Padded.of(tokens, index, device)
        states = [architecture.embed(embeddings, text)]  # after 0, 1, 2, ... layers
        inputs = architecture.inputs(shared, states[0], text)
        for layer in layers[:deepest]:
            states.append(run_layers([layer], states[-1], inputs))
        for name, (trainable_layers, pooling) in settings.items():
            after = states[frozen_layers(trainable_layers, depth)]
            if trainable_layers == 0 and pooling is not None:
                arrays[name][index] = pool(after, text, pooling).cpu().numpy()
                continue
            for row, i in zip(after.cpu().numpy(), index, strict=True):
                start, end = tokens.offsets[i], tokens.offsets[i + 1]
                arrays[name][start:end] = row[: end - start]

    batches = sorted_by_length(tokens.lengths, batch_size)
    if workers == 1:
        deque(map(encode_batch, batches), maxlen=0)
    else:
        # Flushing denormals is a setting of each thread.
        threads = ThreadPoolExecutor(
            workers, initializer=torch.set_flush_denormal, initargs=(True,)
        )
        try:
            deque(threads.map(encode_batch, batches), maxlen=0)
        finally:
            threads.shutdown(cancel_futures=True)
    for array in arrays.values():
        array.flush()


class Reader:
    """The text input of a saved run: tokenized, truncated, and run through the frozen layers.

    encoder: of the run's settings; its name and what is published count. reads: `text` of its
    run.json. Raises EncoderError for an unknown encoder.
    """

    def __init__(
        self, encoder: Mapping[str, Any], reads: Mapping[str, Any], device: torch.device
    ) -> None:
        self.name = encoder["name"]
        files = self.name, encoder.get("published")
        self.tokenizer = load_tokenizer(*files)
        self.reads = reads
        self.device = device
        self.model = None if reads["array"] == "tokens" else load_model(*files)

    def tokens(self, texts: list[str]) -> Ragged:
        """Return the token ids of each text, truncated as in training."""
        return self.tokens_and_losses(texts)[0]

    def tokens_and_losses(self, texts: list[str]) -> tuple[Ragged, list[dict[str, int]]]:
        """Return the token ids of each text, truncated as in training, and what is lost of it.

        tokens_cut: tokens beyond max_tokens. tokens_unknown: see count_unknown, after truncation.
        text_missing: 1 for a text without a token, see without_token.
        """
        untruncated = tokenize(self.tokenizer, texts)
        tokens = truncate(untruncated, self.reads["max_tokens"])
        losses = {
            "tokens_cut": untruncated.lengths - tokens.lengths,
            "tokens_unknown": count_unknown(tokens, self.tokenizer.unk_token_id),
            "text_missing": without_token(texts, untruncated),
        }
        rows = zip(*(counts.tolist() for counts in losses.values()), strict=True)
        return tokens, [dict(zip(losses, map(int, row), strict=True)) for row in rows]

    def read(self, tokens: Ragged) -> Ragged:
        """Return the model's text input: these token ids, hidden states or a vector."""
        if self.model is None:
            return tokens
        name = self.reads["array"]
        settings = {name: (self.reads["trainable_layers"], self.reads["pooling"])}
        with TemporaryDirectory() as folder:
            encode(self.model, tokens, settings, Path(folder), device=self.device)
            encoded = Ragged.load(Path(folder), name)
            return Ragged(np.array(encoded.values), encoded.offsets)

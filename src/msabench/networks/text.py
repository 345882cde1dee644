"""The text encoder: a BERT whose lower layers are frozen, run once and cached.

A network trains the top `trainable_layers` of the encoder (0 to all of them). The input of its text
modality follows from that and is always a sequence:

    all   token ids, (t,)            the whole encoder is trained
    k     hidden states, (t, d)      after the lower layers, which are frozen
    0     one pooled vector, (1, d)  nothing is trained

Pooling over the single step of a frozen text is the identity, so models treat all three alike.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from msabench import errors
from msabench.errors import EncoderError
from msabench.networks import encoders
from msabench.networks.batches import Padded, sorted_by_length
from msabench.networks.layers import pool
from msabench.params import Pooling, TrainableLayers
from msabench.utterances import Ragged, save_array

PAGE = "docs/models.md"
# Activation checkpointing on a CPU begins beyond this many values of layer outputs (b t d, summed
# over layers), about a hundred bytes each: 7 layers of bert-base for 32 texts of 50 tokens.
MAX_ACTIVATIONS = 9_000_000
SPECIAL_TOKENS = 2  # of every text: [CLS] and [SEP], alone where it is blank


class TextEncoder(nn.Module):
    """The trained part of a BERT, then pooling to one vector per utterance.

    embeddings: the BERT's own, where all of it is trained. layers: the trained top layers,
    none where the text is frozen. width: features of the vector, d.
    """

    def __init__(
        self,
        width: int,
        *,
        layers: Iterable[nn.Module] = (),
        embeddings: nn.Module | None = None,
        pooling: Pooling = "mean",
    ) -> None:
        super().__init__()
        self.width = width
        self.pooling = pooling
        self.embeddings = embeddings
        self.layers = nn.ModuleList(layers)

    def forward(self, text: Padded) -> Float[Tensor, "b d"]:
        states = text.values if self.embeddings is None else self.embeddings(text.values)
        return pool(run_layers(self.layers, states, text), text, self.pooling)


def untrained(encoder: TextEncoder | None, widths: Mapping[str, int]) -> dict[str, int]:
    """Return the widths of the modalities with constant features: text only if it is all frozen."""
    trained = encoder is not None and len(encoder.layers) > 0
    return {name: width for name, width in widths.items() if not (trained and name == "text")}


def run_layers(
    layers: Iterable[nn.Module], states: Float[Tensor, "b t d"], text: Padded
) -> Float[Tensor, "b t d"]:
    """Apply BERT layers to the states of a padded text; padding is masked.

    In training on a CPU, the first layers of a large batch are recomputed in the backward pass
    (activation checkpointing, see MAX_ACTIVATIONS): the same numbers, in bounded memory.
    """
    mask = text.mask[:, None, None, :]  # (b, 1, 1, t): every query sees the real keys
    layers = list(layers)
    bounded = torch.is_grad_enabled() and states.device.type == "cpu"
    recomputed = len(layers) - MAX_ACTIVATIONS // states.numel() if bounded else 0
    for number, layer in enumerate(layers):
        if number < recomputed:
            states = checkpoint(layer, states, attention_mask=mask, use_reentrant=False)
        else:
            states = layer(states, attention_mask=mask)
    return states


@errors.see(PAGE)
def build_encoder(
    name: str, trainable_layers: TrainableLayers, pooling: Pooling, width: int
) -> TextEncoder:
    """Build the trained part of an encoder; width: of the cached text features.

    Raises EncoderError for more layers than the encoder has.
    """
    if trainable_layers == 0:
        return TextEncoder(width, pooling=pooling)
    bert = load_bert(name)
    frozen = frozen_layers(trainable_layers, bert.config.num_hidden_layers)
    return TextEncoder(
        bert.config.hidden_size,
        layers=bert.encoder.layer[frozen:],
        embeddings=bert.embeddings if trainable_layers == "all" else None,
        pooling=pooling,
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
def load_bert(name: str) -> Any:
    """Load a BERT by name (on the hub) or folder. Raises EncoderError where there is none."""
    try:
        with encoders.folder(name) as folder:
            config = transformers().AutoConfig.from_pretrained(folder, trust_remote_code=False)
            if config.model_type != "bert":
                raise EncoderError(
                    f"text_encoder: {name} is a {config.model_type}; only a BERT is supported"
                )
            # float32 whatever the file holds; weights as pickle (pytorch_model.bin) are not read.
            return transformers().BertModel.from_pretrained(
                folder,
                add_pooling_layer=False,
                dtype=torch.float32,
                attn_implementation="sdpa",
                use_safetensors=True,
            )
    except OSError as error:
        raise _not_found(name, error) from error


@errors.see(PAGE)
def load_tokenizer(name: str) -> Any:
    """Load the tokenizer of a text encoder. Raises EncoderError where there is none."""
    try:
        with encoders.folder(name) as folder:
            return transformers().AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except OSError as error:
        raise _not_found(name, error) from error


def _not_found(name: str, error: OSError) -> EncoderError:
    reason = " ".join(str(error).split())[:200]
    return EncoderError(f"text_encoder: no BERT at {name!r} ({reason})")


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


def count_differences(
    tokens: Ragged, max_tokens: int, unknown: int | None, given: Ragged | None
) -> dict[str, int]:
    """Count for the data report, over the texts of a split, of the encoder's untruncated tokens:

    tokens_cut: texts that are truncated. tokens_unknown: see count_unknown, after truncation;
    texts_unknown: texts with such tokens. text_missing: texts without a token, such as blank ones.
    tokens_differ: texts whose token ids in the data, `given` (truncated to any length, as in MMSA's
    files), are not the encoder's.
    """
    unknown_counts = count_unknown(truncate(tokens, max_tokens), unknown)
    counts = {
        "tokens_cut": int((tokens.lengths > max_tokens).sum()),
        "tokens_unknown": int(unknown_counts.sum()),
        "texts_unknown": int((unknown_counts > 0).sum()),
        "text_missing": int((tokens.lengths == SPECIAL_TOKENS).sum()),
    }
    if given is not None:
        counts["tokens_differ"] = sum(
            not np.array_equal(given[i], _truncate(tokens[i], len(given[i])))
            for i in range(len(tokens))
        )
    return counts


def _truncate(tokens: Integer[np.ndarray, " t"], length: int) -> Integer[np.ndarray, " _"]:
    return tokens if len(tokens) <= length else np.append(tokens[: length - 1], tokens[-1])


def cache_name(trainable_layers: TrainableLayers, pooling: Pooling) -> str:
    """Return the name of the cached array that a model with these settings reads."""
    if trainable_layers == "all":
        return "tokens"
    return f"below-{trainable_layers}" if trainable_layers else f"pooled-{pooling}"


@torch.inference_mode()
def encode(
    bert: Any,
    tokens: Ragged,
    settings: Mapping[str, tuple[TrainableLayers, Pooling]],
    folder: Path,
    *,
    batch_size: int = 64,
    device: torch.device,
) -> None:
    """Run the frozen layers once over all texts and save one array for each of the settings.

    settings: cache_name -> (trainable_layers, pooling). The states of real tokens are written
    straight to disk: (total tokens, d), or (n, d) where they are pooled.
    """
    bert.to(device).eval()
    depth, width = bert.config.num_hidden_layers, bert.config.hidden_size
    arrays = {}
    for name, (trainable_layers, _) in settings.items():
        offsets = tokens.offsets if trainable_layers else np.arange(len(tokens) + 1)
        save_array(folder / f"{name}.offsets.npy", offsets)
        arrays[name] = np.lib.format.open_memmap(
            folder / f"{name}.npy", mode="w+", dtype=np.float32, shape=(int(offsets[-1]), width)
        )
    if not settings:
        return
    deepest = max(
        frozen_layers(trainable_layers, depth) for trainable_layers, _ in settings.values()
    )
    for index in sorted_by_length(tokens.lengths, batch_size):
        text = Padded.of(tokens, index, device)
        states = [bert.embeddings(text.values)]  # after 0, 1, 2, ... layers
        for layer in bert.encoder.layer[:deepest]:
            states.append(run_layers([layer], states[-1], text))
        for name, (trainable_layers, pooling) in settings.items():
            after = states[frozen_layers(trainable_layers, depth)]
            if trainable_layers == 0:
                arrays[name][index] = pool(after, text, pooling).cpu().numpy()
                continue
            for row, i in zip(after.cpu().numpy(), index, strict=True):
                start, end = tokens.offsets[i], tokens.offsets[i + 1]
                arrays[name][start:end] = row[: end - start]
    for array in arrays.values():
        array.flush()


class Reader:
    """The text input of a saved run: tokenized, truncated, and run through the frozen layers.

    encoder: the name of the run's text encoder. reads: `text` of its run.json.
    Raises EncoderError for an unknown encoder.
    """

    def __init__(self, encoder: str, reads: Mapping[str, Any], device: torch.device) -> None:
        self.tokenizer = load_tokenizer(encoder)
        self.reads = reads
        self.device = device
        self.bert = None if reads["array"] == "tokens" else load_bert(encoder)

    def tokens(self, texts: list[str]) -> Ragged:
        """Return the token ids of each text, truncated as in training."""
        return self.tokens_and_losses(texts)[0]

    def tokens_and_losses(self, texts: list[str]) -> tuple[Ragged, list[dict[str, int]]]:
        """Return the token ids of each text, truncated as in training, and what is lost of it.

        tokens_cut: tokens beyond max_tokens. tokens_unknown: see count_unknown, after truncation.
        text_missing: 1 for a text without a token, such as one of spaces.
        """
        untruncated = tokenize(self.tokenizer, texts)
        tokens = truncate(untruncated, self.reads["max_tokens"])
        losses = {
            "tokens_cut": untruncated.lengths - tokens.lengths,
            "tokens_unknown": count_unknown(tokens, self.tokenizer.unk_token_id),
            "text_missing": untruncated.lengths == SPECIAL_TOKENS,
        }
        rows = zip(*(counts.tolist() for counts in losses.values()), strict=True)
        return tokens, [dict(zip(losses, map(int, row), strict=True)) for row in rows]

    def read(self, tokens: Ragged) -> Ragged:
        """Return the model's text input: these token ids, hidden states or a vector."""
        if self.bert is None:
            return tokens
        name = self.reads["array"]
        settings = {name: (self.reads["trainable_layers"], self.reads["pooling"])}
        with TemporaryDirectory() as folder:
            encode(self.bert, tokens, settings, Path(folder), device=self.device)
            encoded = Ragged.load(Path(folder), name)
            return Ragged(np.array(encoded.values), encoded.offsets)

"""The text encoder: a BERT whose lower layers are frozen, run once and cached.

A network trains the top `trainable_layers` of the encoder (0 to all of them). What it reads
as its text modality follows from that and is always a sequence:

    all   token ids, (t,)            the whole encoder is trained
    k     hidden states, (t, d)      after the lower layers, which are frozen
    0     one pooled vector, (1, d)  nothing is trained

so that pooling over the one "token" of a frozen text is the identity, and no model
needs to know which of the three it has.
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
from msabench.networks.batches import Padded, in_order_of_length
from msabench.networks.layers import pool
from msabench.params import Pooling, TrainableLayers
from msabench.utterances import Ragged, save_array

SECTION = "The report's own setting"  # of the README
# Values of layers' outputs (b t d, summed over layers) whose layers keep what the backward pass
# reads, about a hundred bytes for each: 7 layers of bert-base for 32 texts of 50 tokens.
KEPT = 9_000_000


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
    """Return the widths of the modalities whose features no training changes.

    A text is among them where it is one frozen vector, but not below trained layers.
    """
    trained = encoder is not None and len(encoder.layers) > 0
    return {name: width for name, width in widths.items() if not (trained and name == "text")}


def run_layers(
    layers: Iterable[nn.Module], states: Float[Tensor, "b t d"], text: Padded
) -> Float[Tensor, "b t d"]:
    """Apply BERT layers to the states of a padded text; padding is masked.

    Training on a CPU, the first layers of a long batch are run again in the backward pass, as many
    as KEPT does not provide for: the same numbers, in bounded memory.
    """
    mask = text.mask[:, None, None, :]  # (b, 1, 1, t): every query sees the real keys
    layers = list(layers)
    bounded = torch.is_grad_enabled() and states.device.type == "cpu"
    again = len(layers) - KEPT // states.numel() if bounded else 0
    for number, layer in enumerate(layers):
        if number < again:
            states = checkpoint(layer, states, attention_mask=mask, use_reentrant=False)
        else:
            states = layer(states, attention_mask=mask)
    return states


@errors.section(SECTION)
def build_encoder(
    name: str, trainable_layers: TrainableLayers, pooling: Pooling, width: int
) -> TextEncoder:
    """Build the trained part of an encoder; `width` is that of the text the network reads.

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


@errors.section(SECTION)
def frozen_layers(trainable_layers: TrainableLayers, layers: int) -> int:
    """Return how many lower layers are frozen. Raises EncoderError for more than there are."""
    if trainable_layers == "all":
        return 0
    if trainable_layers > layers:
        raise EncoderError(
            f"trainable_layers: {trainable_layers}; the text encoder has {layers} layers: "
            f"permitted are 0 to {layers}, or all"
        )
    return layers - trainable_layers


def transformers() -> Any:
    """Import transformers on first use: it takes seconds, which a frozen text does not need."""
    import transformers

    # Its report of unused pooler weights, and its bar for a second's loading, are noise.
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return transformers


@errors.section(SECTION)
def load_bert(name: str) -> Any:
    """Load a BERT by name (on the hub) or folder. Raises EncoderError where there is none."""
    try:
        with encoders.folder(name) as folder:
            config = transformers().AutoConfig.from_pretrained(folder, trust_remote_code=False)
            if config.model_type != "bert":
                raise EncoderError(
                    f"text_encoder: {name} is a {config.model_type}; only a BERT is supported"
                )
            # float32 whatever the file holds; eager masks are not needed: sdpa takes a boolean
            # mask. Weights as pickle (pytorch_model.bin) are not read.
            return transformers().BertModel.from_pretrained(
                folder,
                add_pooling_layer=False,
                dtype=torch.float32,
                attn_implementation="sdpa",
                use_safetensors=True,
            )
    except OSError as error:
        raise _not_found(name, error) from error


@errors.section(SECTION)
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


def cut(tokens: Ragged, most: int) -> Ragged:
    """Cut each text to at most so many tokens; the last of those is [SEP] again."""
    return Ragged.of([_cut(row, most) for row in map(tokens.__getitem__, range(len(tokens)))])


def count_unknown(tokens: Ragged, unknown: int | None) -> Integer[np.ndarray, " n"]:
    """Count the tokens of each text that stand for what the encoder does not know.

    unknown: the id of that token, None for an encoder that knows everything.
    """
    before = np.concatenate([[0], np.cumsum(tokens.values == unknown)])
    return np.diff(before[tokens.offsets])


def count_differences(
    whole: Ragged, most: int, unknown: int | None, given: Ragged | None
) -> dict[str, int]:
    """Count what a data report says of the tokens of a split.

    tokens_cut: texts that are cut. tokens_unknown: see count_unknown, of what is left of them;
    texts_unknown: texts with such tokens. tokens_differ: texts whose given token ids are not the
    encoder's.

    whole: the encoder's tokens of each text, uncut. given: those that came with the data, cut to
    whatever length, as MMSA's files have them.
    """
    not_known = count_unknown(cut(whole, most), unknown)
    counts = {
        "tokens_cut": int((whole.lengths > most).sum()),
        "tokens_unknown": int(not_known.sum()),
        "texts_unknown": int((not_known > 0).sum()),
    }
    if given is not None:
        counts["tokens_differ"] = sum(
            not np.array_equal(given[i], _cut(whole[i], len(given[i]))) for i in range(len(whole))
        )
    return counts


def _cut(tokens: Integer[np.ndarray, " t"], most: int) -> Integer[np.ndarray, " at_most"]:
    return tokens if len(tokens) <= most else np.append(tokens[: most - 1], tokens[-1])


def cache_name(trainable_layers: TrainableLayers, pooling: Pooling) -> str:
    """Return the name of the cached array that a model with these settings reads."""
    if trainable_layers == "all":
        return "tokens"
    return f"below-{trainable_layers}" if trainable_layers else f"pooled-{pooling}"


@torch.inference_mode()
def encode(
    bert: Any,
    tokens: Ragged,
    wanted: Mapping[str, tuple[TrainableLayers, Pooling]],
    folder: Path,
    *,
    batch_size: int = 64,
    device: torch.device,
) -> None:
    """Run the frozen layers once over all texts and save each wanted array in the folder.

    wanted: cache_name -> (trainable_layers, pooling). Only the states of real tokens are kept,
    written straight to disk: (total tokens, d), or (n, d) where they are pooled.
    """
    bert.to(device).eval()
    depth, width = bert.config.num_hidden_layers, bert.config.hidden_size
    arrays = {}
    for name, (trainable_layers, _) in wanted.items():
        offsets = tokens.offsets if trainable_layers else np.arange(len(tokens) + 1)
        save_array(folder / f"{name}.offsets.npy", offsets)
        arrays[name] = np.lib.format.open_memmap(
            folder / f"{name}.npy", mode="w+", dtype=np.float32, shape=(int(offsets[-1]), width)
        )
    if not wanted:
        return
    deepest = max(frozen_layers(trainable_layers, depth) for trainable_layers, _ in wanted.values())
    for index in in_order_of_length(tokens.lengths, batch_size):
        values, lengths = tokens.padded(index)
        text = Padded(torch.from_numpy(values).to(device), torch.from_numpy(lengths).to(device))
        states = [bert.embeddings(text.values)]  # after 0, 1, 2, ... layers
        for layer in bert.encoder.layer[:deepest]:
            states.append(run_layers([layer], states[-1], text))
        for name, (trainable_layers, pooling) in wanted.items():
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
    """Texts as a saved run reads them: tokenized, cut, and run through the frozen layers.

    encoder: the name of the run's text encoder. reads: `text` of its run.json.
    Raises EncoderError where there is no such encoder.
    """

    def __init__(self, encoder: str, reads: Mapping[str, Any], device: torch.device) -> None:
        self.tokenizer = load_tokenizer(encoder)
        self.reads = reads
        self.device = device
        self.bert = None if reads["array"] == "tokens" else load_bert(encoder)

    def tokens(self, texts: list[str]) -> Ragged:
        """Return the token ids of each text, cut as in training."""
        return self.tokens_and_losses(texts)[0]

    def tokens_and_losses(self, texts: list[str]) -> tuple[Ragged, list[dict[str, int]]]:
        """Return the token ids of each text, cut as in training, and what is lost of it.

        tokens_cut: tokens that are cut off. tokens_unknown: see count_unknown, of the others.
        text_missing: 1 for a text without a token, as one of spaces.
        """
        whole = tokenize(self.tokenizer, texts)
        tokens = cut(whole, self.reads["max_tokens"])
        marks = len(self.tokenizer("")["input_ids"])
        losses = {
            "tokens_cut": whole.lengths - tokens.lengths,
            "tokens_unknown": count_unknown(tokens, self.tokenizer.unk_token_id),
            "text_missing": whole.lengths == marks,
        }
        rows = zip(*(counts.tolist() for counts in losses.values()), strict=True)
        return tokens, [dict(zip(losses, map(int, row), strict=True)) for row in rows]

    def read(self, tokens: Ragged) -> Ragged:
        """Return what the model reads as its text: these token ids, hidden states or a vector."""
        if self.bert is None:
            return tokens
        array, how = self.reads["array"], (self.reads["trainable_layers"], self.reads["pooling"])
        with TemporaryDirectory() as place:
            encode(self.bert, tokens, {array: how}, Path(place), device=self.device)
            made = Ragged.load(Path(place), array)
            return Ragged(np.array(made.values), made.offsets)

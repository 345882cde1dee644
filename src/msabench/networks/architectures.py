"""Architectures of text encoders, taken apart: embeddings, layers, and what each layer reads.

Lower layers are run once and cached, upper ones are trained, so that an encoder is needed layer by
layer. The modules are those of transformers; its own `forward` joins them in the same way.
"""

from collections.abc import Mapping
from copy import copy
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from msabench.networks.batches import Padded


class Architecture:
    """BERT, and those whose layers read the states and the padding mask alone.

    attention: transformers' implementation, where the architecture has a choice. loading: further
    arguments of `from_pretrained`. It holds no weights: modules are passed to it.
    """

    attention = "sdpa"
    loading: Mapping[str, Any] = {"add_pooling_layer": False}

    def embeddings(self, model: Any) -> nn.Module:
        """Return the module that `embed` applies."""
        return model.embeddings

    def layers(self, model: Any) -> list[nn.Module]:
        """Return the layers, from the first to the last."""
        return list(model.encoder.layer)

    def shared(self, model: Any) -> nn.Module | None:
        """Return what all layers read, such as a table of relative positions; None for nothing."""
        return None

    def embed(self, embeddings: Any, text: Padded) -> Float[Tensor, "b t d"]:
        """Return the states below the first layer, of token ids (b, t)."""
        return embeddings(text.values)

    def inputs(self, shared: Any, states: Float[Tensor, "b t d"], text: Padded) -> dict[str, Any]:
        """Return what each layer of a pass reads beside the states; see the layer's `forward`."""
        return {"attention_mask": _real_keys(text)}


class Electra(Architecture):
    """ELECTRA (Clark et al., ICLR 2020): embeddings may be narrower than the layers."""

    loading: Mapping[str, Any] = {}

    def embeddings(self, model: Any) -> nn.Module:
        if not hasattr(model, "embeddings_project"):
            return model.embeddings
        return nn.Sequential(model.embeddings, model.embeddings_project)


class DistilBert(Architecture):
    """DistilBERT (Sanh et al., 2019)."""

    loading: Mapping[str, Any] = {}

    def layers(self, model: Any) -> list[nn.Module]:
        return list(model.transformer.layer)


class MPNet(Architecture):
    """MPNet (Song et al., NeurIPS 2020): one table of relative positions for all layers."""

    attention = "eager"

    def shared(self, model: Any) -> nn.Module:
        return _without_layers(model.encoder)

    def inputs(self, shared: Any, states: Float[Tensor, "b t d"], text: Padded) -> dict[str, Any]:
        keys = _real_keys(text)
        lowest = torch.finfo(states.dtype).min
        return {
            "attention_mask": torch.zeros_like(keys, dtype=states.dtype).masked_fill(~keys, lowest),
            "position_bias": shared.compute_position_bias(states),
        }


class DebertaV2(Architecture):
    """DeBERTa v2 and v3 (He et al., ICLR 2021 and 2023): embeddings of relative positions.

    Their LayerNorm is shared too. A convolution, where there is one, belongs to the first layer.
    """

    attention = "eager"
    loading: Mapping[str, Any] = {}

    def layers(self, model: Any) -> list[nn.Module]:
        first, *others = model.encoder.layer
        if model.encoder.conv is not None:
            first = _WithConvolution(first, model.encoder.conv)
        return [first, *others]

    def shared(self, model: Any) -> nn.Module:
        encoder = _without_layers(model.encoder)
        encoder.conv = None
        return encoder

    def embed(self, embeddings: Any, text: Padded) -> Float[Tensor, "b t d"]:
        return embeddings(text.values, mask=text.mask)

    def inputs(self, shared: Any, states: Float[Tensor, "b t d"], text: Padded) -> dict[str, Any]:
        return {
            "attention_mask": shared.get_attention_mask(text.mask),  # (b, 1, t, t)
            "relative_pos": shared.get_rel_pos(states),
            "rel_embeddings": shared.get_rel_embedding(),
        }


class _WithConvolution(nn.Module):
    """The first layer of a DeBERTa, and the convolution of its input that is added behind it."""

    def __init__(self, layer: nn.Module, convolution: nn.Module) -> None:
        super().__init__()
        self.layer, self.convolution = layer, convolution

    def forward(self, states: Tensor, attention_mask: Tensor, **inputs: Any) -> Tensor:
        after, _ = self.layer(states, attention_mask, **inputs)
        real = attention_mask.diagonal(dim1=-2, dim2=-1)[:, 0]  # (b, t)
        return self.convolution(states, after, real.long())


class ModernBert(Architecture):
    """ModernBERT (Warner et al., 2024): rotary positions; some layers read a window alone."""

    loading: Mapping[str, Any] = {}

    def layers(self, model: Any) -> list[nn.Module]:
        last = len(model.layers) - 1
        return [
            _ModernBertLayer(layer, model.final_norm if number == last else None)
            for number, layer in enumerate(model.layers)
        ]

    def shared(self, model: Any) -> nn.Module:
        return model.rotary_emb

    def inputs(self, shared: Any, states: Float[Tensor, "b t d"], text: Padded) -> dict[str, Any]:
        steps = torch.arange(states.shape[1], device=states.device)
        near = (steps[:, None] - steps).abs() <= shared.config.sliding_window  # (t, t)
        # A padded query far behind the text would have no key in its window, and softmax be NaN.
        near = near | ~text.mask[:, None, :, None]
        full = _real_keys(text)
        return {
            "masks": {"full_attention": full, "sliding_attention": full & near},
            "positions": {
                kind: shared(states, steps[None], kind) for kind in set(shared.config.layer_types)
            },
        }


class _ModernBertLayer(nn.Module):
    """A layer with the mask and the positions of its kind, and the LayerNorm behind the last."""

    def __init__(self, layer: Any, norm: nn.Module | None) -> None:
        super().__init__()
        self.layer, self.norm = layer, norm

    def forward(self, states: Tensor, masks: Mapping[str, Tensor], positions: Any) -> Tensor:
        kind = self.layer.attention_type
        after = self.layer(states, attention_mask=masks[kind], position_embeddings=positions[kind])
        return after if self.norm is None else self.norm(after)


def _real_keys(text: Padded) -> Bool[Tensor, "b 1 1 t"]:
    """Return the padding mask as attention reads it: every query sees the real keys."""
    return text.mask[:, None, None, :]


def _without_layers(encoder: Any) -> Any:
    """Return a shallow copy of a module of transformers without its list of layers."""
    copied = copy(encoder)
    copied._modules = {**encoder._modules, "layer": nn.ModuleList()}
    return copied


# By `model_type` of config.json.
ARCHITECTURES: dict[str, Architecture] = {
    **dict.fromkeys(("bert", "roberta", "xlm-roberta", "camembert"), Architecture()),
    "electra": Electra(),
    "distilbert": DistilBert(),
    "mpnet": MPNet(),
    "deberta-v2": DebertaV2(),
    "modernbert": ModernBert(),
}

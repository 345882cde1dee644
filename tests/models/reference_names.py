"""Names of weights, loss terms and groups in the published code (thuiar/MMSA at a94e65d)."""

# Names of the project -> of the reference, by regular expressions, applied one after the other.
SUBNETWORKS = {
    r"^subnetworks\.vision\.": "video_subnet.",
    r"^subnetworks\.(audio|text)\.": r"\1_subnet.",
    r"\.end\.forwards\.": ".rnn.",
    r"^text_subnet\.linear\.": "text_subnet.linear_1.",
    r"\.layers\.0\.": ".linear_1.",
    r"\.layers\.1\.": ".linear_2.",
    r"\.layers\.2\.": ".linear_3.",
}
TRANSFORMER = {
    r"\.attention\.projection\.": ".self_attn.in_proj_",
    r"\.attention\.out\.": ".self_attn.out_proj.",
    r"\.feedforward\.0\.": ".fc1.",
    r"\.feedforward\.3\.": ".fc2.",
    r"\.norm1\.": ".layer_norms.0.",
    r"\.norm2\.": ".layer_norms.1.",
    r"\.norm\.": ".layer_norm.",
}
WEIGHTS = {
    "tfn": SUBNETWORKS
    | {
        r"^head\.1\.": "post_fusion_layer_1.",
        r"^head\.3\.": "post_fusion_layer_2.",
        r"^head\.5\.": "post_fusion_layer_3.",
    },
    "lmf": SUBNETWORKS
    | {
        r"^factors\.vision$": "video_factor",
        r"^factors\.(\w+)$": r"\1_factor",
        r"^fusion\.weight": "fusion_weights",
        r"^fusion\.bias": "fusion_bias",
    },
    "mult": {
        "text": "l",
        "audio": "a",
        "vision": "v",
        r"^convolutions\.(.)\.convolution\.": r"proj_\1.",
        r"^crossmodal\.": "trans_",
        r"^self_attention\.(.)\.": r"trans_\1_mem.",
        r"^residual\.0\.": "proj1.",
        r"^residual\.3\.": "proj2.",
        r"^out\.": "out_layer.",
    }
    | TRANSFORMER,
}
LSTM = {r"\.forwards\.(\w+)": r".\1", r"\.backwards\.(\w+)": r".\1_reverse"}
TEXT = {r"^encoder\.embeddings\.": "bertmodel.model."}
WEIGHTS["misa"] = (
    TEXT
    | {
        r"^frames\.(\w)\w+\.first\.": r"\1rnn1.",
        r"^frames\.(\w)\w+\.second\.": r"\1rnn2.",
        r"^frames\.(\w)\w+\.norm\.": r"\1layer_norm.",
        r"^projections\.(\w)\w+\.0\.": r"project_\1.project_\1.",
        r"^projections\.(\w)\w+\.2\.": r"project_\1.project_\1_layer_norm.",
        r"^private\.audio\.": "private_a.private_a_3.",
        r"^private\.(\w)\w+\.": r"private_\1.private_\1_1.",
        r"^shared\.": "shared.shared_1.",
        r"^reconstructions\.(\w)\w+\.": r"recon_\1.recon_\1_1.",
        r"^transformer\.": "transformer_encoder.layers.0.",
        r"^head\.0\.": "fusion.fusion_layer_1.",
        r"^head\.3\.": "fusion.fusion_layer_3.",
    }
    | LSTM
)
WEIGHTS["mmim"] = (
    TEXT
    | {
        r"^frames\.audio\.": "acoustic_enc.",
        r"^frames\.vision\.": "visual_enc.",
        r"_enc\.end\.": "_enc.rnn.",
        r"_enc\.linear\.": "_enc.linear_1.",
        r"^estimators\.(\w)\w+\.mean\.": r"mi_t\1.mlp_mu.",
        r"^estimators\.(\w)\w+\.log_variance\.": r"mi_t\1.mlp_logvar.",
        r"^entropy\.(\w)\w+\.": r"mi_t\1.entropy_prj.0.",
        r"^predictions\.(\w)\w+\.": r"cpc_z\1.net.",
        r"^fusion\.1\.": "fusion_prj.linear_1.",
        r"^fusion\.3\.": "fusion_prj.linear_2.",
        r"^output\.": "fusion_prj.linear_3.",
    }
    | LSTM
)
BERT = {r"^encoder\.layers\.": "bert.encoder.layer.", r"^encoder\.embeddings\.": "bert.embeddings."}
WEIGHTS["bert_mag"] = BERT | {
    r"^bert\.": "model.bert.",
    r"^text\.injection\.gates\.(\w)\w+\.": r"model.bert.MAG.W_h\1.",
    r"^text\.injection\.shifts\.(\w)\w+\.": r"model.bert.MAG.W_\1.",
    r"^text\.injection\.norm\.": "model.bert.MAG.LayerNorm.",
    r"^pooler\.": "model.bert.pooler.dense.",
    r"^out\.": "model.classifier.",
}
WEIGHTS["cenet"] = BERT | {
    r"^text\.injection\.attention\.": "bert.encoder.CE.",
    r"\.vision\.inner\.": ".visual_transform.0.",
    r"\.vision\.outer\.": ".visual_transform.2.",
    r"\.audio\.inner\.": ".acoustic_transform.0.",
    r"\.audio\.outer\.": ".acoustic_transform.2.",
    r"CE\.([av])\w+\.(query|key|value)\.": r"CE.h\1.\2.",
    r"\.(h[av])\.query\.": r".\1.Wq.",
    r"\.(h[av])\.key\.": r".\1.Wk.",
    r"\.(h[av])\.value\.": r".\1.Wv.",
    r"^text\.injection\.joined\.": "bert.encoder.CE.cat_connect.",
    r"^head\.1\.": "classifier.dense.",
    r"^head\.4\.": "classifier.out_proj.",
}
BLOCKS = {
    r"\.norms\.0\.": ".0.norm_q.",
    r"\.norms\.1\.": ".0.norm_k.",
    r"\.norms\.2\.": ".0.norm_v.",
    r"\.attention\.query\.": ".0.fn.to_q.",
    r"\.attention\.keys\.0\.": ".0.fn.to_k.",
    r"\.attention\.values\.0\.": ".0.fn.to_v.",
    r"\.attention\.out\.": ".0.fn.to_out.0.",
    r"\.feedforward\.0\.": ".1.norm.",
    r"\.feedforward\.1\.": ".1.fn.net.0.",
    r"\.feedforward\.3\.": ".1.fn.net.3.",
}
WEIGHTS["almt"] = (
    TEXT
    | {
        r"^embeddings\.text\.": "embedding_l.",
        r"^embeddings\.(\w)\w+\.": r"embedding_\1.",
        r"^(embedding_.)\.linear\.": r"\1.0.",
        r"^(embedding_.)\.tokens$": r"\1.1.extra_token",
        r"^(embedding_.)\.positions$": r"\1.1.pos_embedding",
        r"^(embedding_.)\.blocks\.": r"\1.1.encoder.layers.",
        r"^language\.": "l_encoder.encoder.layers.",
        r"^language_positions$": "l_encoder.pos_embedding",
        r"^hyper$": "h_hyper",
        r"^hyper_layers\.(\d+)\.": r"h_hyper_layer.layers.\1.",
        r"^(h_hyper_layer.*)\.guide\.": r"\1.0.norm1.",
        r"^(h_hyper_layer.*)\.sources\.0\.": r"\1.0.norm2.",
        r"^(h_hyper_layer.*)\.sources\.1\.": r"\1.0.norm3.",
        r"^(h_hyper_layer.*)\.hyper\.": r"\1.0.norm4.",
        r"^(h_hyper_layer.*)\.attention\.(key|value)s\.0\.": r"\1.0.fn.to_\2_ta.",
        r"^(h_hyper_layer.*)\.attention\.(key|value)s\.1\.": r"\1.0.fn.to_\2_tv.",
        r"\.to_key_": ".to_k_",
        r"\.to_value_": ".to_v_",
        r"^fusion\.": "fusion_layer.CrossTransformerEncoder.layers.",
        r"^token$": "fusion_layer.extra_token",
        r"^source_positions$": "fusion_layer.pos_embedding_s",
        r"^target_positions$": "fusion_layer.pos_embedding_t",
        r"^out\.": "regression_head.",
    }
    | BLOCKS
)
WEIGHTS["tetfn"] = (
    BERT
    | {
        r"^bert\.": "text_model.model.",
        r"^convolutions\.text\.convolution\.": "proj_l.",
        r"^frames\.audio\.": "audio_model.",
        r"^frames\.vision\.": "video_model.",
        r"\.lstm\.forwards\.": ".rnn.",
        r"\.windows\.convolution\.": ".conv.",
        r"^crossmodal\.": "trans_",
        r"^self_attention\.(\w+)\.": r"trans_\1_mem.",
        r"(trans|with)_text": r"\1_l",
        r"(trans|with)_audio": r"\1_a",
        r"(trans|with)_vision": r"\1_v",
        r"\.(lower|upper)\.": r".\1_mha.",
        r"^heads\.(\w+)\.layer": r"post_\1_layer_",
        "post_vision": "post_video",
    }
    | TRANSFORMER
)
# States on the way: the module, whether its input or output is meant, and the axes in the file.
STATES = {
    "mult": {
        "text_with_audio": ("crossmodal.text_with_audio", "output", "tbd"),
        "last": ("residual", "input", "bd"),
    },
    "tetfn": {
        "text": ("convolutions.text", "output", "bdt"),
        "audio": ("frames.audio", "output", "bdt"),
        "vision": ("frames.vision", "output", "bdt"),
        "audio_with_vision": ("crossmodal.audio_with_vision", "output", "tbd"),
        "last": ("heads.fusion", "input", "bd"),
    },
    "bert_mag": {"injected": ("text.injection", "output", "btd")},
    "cenet": {"injected": ("text.injection", "output", "btd")},
    # Not `text`, of which the last block computes no more than is read.
    "almt": {"hyper": ("hyper_layers", "output", "btd"), "feature": ("out", "input", "bd")},
}
# Terms of a loss, and groups of the learning rates: of the reference -> of the project.
TERMS = {
    "diff": "difference",
    "cmd": "similarity",
    "recon": "reconstruction",
    "nce": "contrast",
    "lld": "likelihood",
}
GROUPS = {"text": "encoder"}

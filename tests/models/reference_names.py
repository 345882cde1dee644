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
BERT = {
    r"^encoder\.embeddings\.": "text_model.model.embeddings.",
    r"^encoder\.layers\.": "text_model.model.encoder.layer.",
}
WEIGHTS["tetfn"] = (
    BERT
    | {
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

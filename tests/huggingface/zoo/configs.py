"""A tiny configuration of any model type that transformers offers, and the class that it is a configuration of.

Widths, depths, vocabularies and images are made small by the name of the field, in sub-configurations too; what a
type needs beside that stands in `special.py`. All widths are one and the same, so that parts fit each other.
"""

import contextlib
import dataclasses
import importlib
import inspect
import re

import transformers as hf
from transformers.models.auto import configuration_auto, modeling_auto

from tests.huggingface.zoo.special import SPECIAL

WIDTH, HEADS, HEAD, DEPTH, VOCABULARY, LENGTH = 64, 4, 16, 2, 99, 64
IMAGE, PATCH = 16, 4

_WIDTHS = "hidden_size|hidden_size_global|d_model|n_embd|embed_dim|embedding_size|projection_dim|hidden_dim|d_latents"
_WIDTHS += "|emb_dim|proj_dim|out_hidden_size|condition_dim|adapter_input_size|adapter_in_dim"
_INNER = "intermediate_size|ffn_dim|d_ff|n_inner|mlp_dim|ffn_hidden_size|feedforward_dim|dim_feedforward"
_HEADS = "num_attention_heads|attention_heads|num_heads|n_heads?|self_attention_heads|cross_attention_heads"
_DEPTHS = "num_hidden_layers|num_layers|n_layers?|encoder_layers|decoder_layers|depth|layers"
_LENGTHS = (
    "max_position_embeddings|n_positions|n_ctx|max_seq_len|seq_length|max_target_positions|max_temporal_embeddings"
)
_HEAD = "head_dim|attention_head_size|d_kv|dim_head|attention_head_dim|kv_channels|qk_nope_head_dim|qk_rope_head_dim"
# The first rule whose pattern is the whole name of a field gives its size, unless the type's own is smaller.
RULES = [
    (rf"(.*_)?({_WIDTHS})", WIDTH),
    (rf"(.*_)?({_INNER})", 48),
    (r"(.*_)?(num_key_value_heads|num_kv_heads|n_head_kv)", 2),
    (rf"(.*_)?({_HEADS})", HEADS),
    (rf"(.*_)?({_HEAD}|v_head_dim|linear_key_head_dim|linear_value_head_dim|rotary_dim)", HEAD),
    (rf"(.*_)?({_DEPTHS})", DEPTH),
    (r"vocab_size(_.*)?|.*_vocab_size(_.*)?", VOCABULARY),
    (rf"(.*_)?({_LENGTHS})", LENGTH),
    (r"max_source_positions", 16),
    (r"(.*_)?image_size", IMAGE),
    (r"(.*_)?patch_size", PATCH),
    (r"num_experts|n_routed_experts|num_local_experts|moe_num_experts", 4),
    (r"num_experts_per_tok|moe_topk|num_experts_per_token|moe_k", 2),
    (r"n_group|topk_group", 1),
    (r"kv_lora_rank|q_lora_rank|o_lora_rank", 16),
    (r"linear_num_key_heads|linear_num_value_heads|index_n_heads", 2),
    (r"sliding_window|attention_chunk_size|sliding_window_size|local_attention|attention_window_size", 4),
    (r"upsample_groups", WIDTH),
    (r"num_queries", 5),
]
TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
TAKEN = range(60, VOCABULARY - 1)  # by special tokens; texts are of smaller numbers


def types():
    """All types that transformers has a configuration for."""
    return sorted(configuration_auto.CONFIG_MAPPING_NAMES)


def config(name):
    kind = configuration_auto.CONFIG_MAPPING[name]
    return kind(**small(kind, SPECIAL.get(name, {})))


def small(kind, special):
    special = {**SPECIAL.get(kind.model_type, {}), **special}
    default = kind(**{k: v for k, v in special.items() if k in special.get("needed", ())})
    special.pop("needed", None)
    out, fresh = {}, iter(TAKEN)
    inherited = {field.name for field in dataclasses.fields(hf.PreTrainedConfig)}
    for field in dataclasses.fields(kind):
        name = field.name
        if name in inherited or not field.init:
            continue
        try:
            value = getattr(default, name)
        except Exception:  # computed from other fields
            continue
        if isinstance(special.get(name), dict) and "model_type" in special[name]:  # of another type than by default
            continue
        if isinstance(value, hf.PreTrainedConfig):
            below = special.pop(name, {})
            out[name] = stages(value) | small(type(value), below)
            if value.model_type:
                out[name]["model_type"] = value.model_type
        elif name == "rope_parameters" and isinstance(value, dict):
            out[name] = smaller_rope(value, "mrope_section" in inspect.getsource(modeling(kind)))
        elif (size := smaller(name, value, fresh)) is not None:
            out[name] = size
    return fitted(out, default) | special


def stages(backbone):
    """The stages that a convolutional backbone returns; a small one has as many."""
    by_layers = hasattr(backbone, "num_hidden_layers") and not hasattr(backbone, "depths")
    given = None if by_layers else getattr(backbone, "out_features", None)
    return {"out_features": list(given)} if given else {}


def smaller(name, value, fresh):
    """The size of a field whose value in the type's own configuration is this; None to leave it."""
    if isinstance(value, bool) or value is None:
        return None
    if name == "eos_token_id":
        return 2
    if isinstance(value, int) and re.fullmatch(r".*token_(id|index)", name):
        return TOKENS.get(name, next(fresh) if value >= 0 else value)
    if isinstance(value, (list, tuple)) and value and all(isinstance(x, int) for x in value):
        if name in ("depths", "num_heads", "num_attention_heads"):
            return type(value)([{"depths": 1}.get(name, 2)] * len(value))
        if name in ("image_size", "patch_size") and min(value) > IMAGE / 2:
            return type(value)([IMAGE if name == "image_size" else PATCH] * len(value))
        return None
    if isinstance(value, int):
        for pattern, size in RULES:
            if re.fullmatch(pattern, name):
                return min(size, value)
    return None


def smaller_rope(rope, in_sections):
    if any(isinstance(value, dict) for value in rope.values()):
        return {
            key: smaller_rope(value, in_sections) if isinstance(value, dict) else value for key, value in rope.items()
        }
    turned = int(HEAD * (rope.get("partial_rotary_factor") or 1) // 2)
    sections = {"mrope_section": [turned - 2 * (turned // 4), turned // 4, turned // 4]}
    return rope | (sections if in_sections or rope.get("mrope_section") else {})


def fitted(out, default):
    """Lists with one entry for each layer, as long as there are layers: one of each kind."""
    kinds = getattr(default, "layer_types", None)
    layers = out.get("num_hidden_layers", DEPTH)
    if "layer_types" in {f.name for f in dataclasses.fields(default)} and isinstance(kinds, (list, tuple)):
        different = list(dict.fromkeys(kinds))
        out["layer_types"] = different if len(different) >= layers else (different * layers)[:layers]
        layers = out["num_hidden_layers"] = len(out["layer_types"])
    for name in ("mlp_layer_types", "indexer_types", "layers_block_type", "no_rope_layers"):
        own = getattr(default, name, None)
        if isinstance(own, (list, tuple)) and name in {f.name for f in dataclasses.fields(default)}:
            out[name] = (list(dict.fromkeys(own)) * layers)[:layers]
    shared = False
    with contextlib.suppress(Exception):  # where they are of each layer
        shared = default.num_key_value_heads == default.num_attention_heads
    if shared and "num_key_value_heads" in out:
        out["num_key_value_heads"] = HEADS
    return out


def model_class(name):
    """The class with a head for generation if there is one, otherwise any class of the type."""
    order = ["IMAGE_TEXT_TO_TEXT", "MULTIMODAL_LM", "SPEECH_SEQ_2_SEQ", "TEXT_TO_SPECTROGRAM", "TEXT_TO_WAVEFORM"]
    order += ["SEQ_TO_SEQ_CAUSAL_LM", "CAUSAL_LM", "MASKED_LM"]
    order = [*(f"MODEL_FOR_{which}" for which in order), "MODEL", "MODEL_FOR_BACKBONE"]
    rest = sorted(n.removesuffix("_MAPPING_NAMES") for n in dir(modeling_auto) if n.endswith("_MAPPING_NAMES"))
    for which in [*order, *(r for r in rest if r not in order and r != "CONFIG")]:
        found = getattr(modeling_auto, f"{which}_MAPPING_NAMES").get(name)
        found = found if found is None or isinstance(found, str) else found[0]
        if found and hasattr(hf, found):
            return getattr(hf, found)
    kind = configuration_auto.CONFIG_MAPPING[name]
    for value in vars(modeling(kind)).values():
        model = isinstance(value, type) and issubclass(value, hf.PreTrainedModel) and value.config_class is kind
        if model and not value.__name__.endswith("PreTrainedModel"):
            return value
    return None


def modeling(kind):
    """The file with the models of a configuration; if there is none, the file of the configuration."""
    with contextlib.suppress(ModuleNotFoundError):
        return importlib.import_module(kind.__module__.replace(".configuration_", ".modeling_"))
    return importlib.import_module(kind.__module__)


def asks_somewhere(config):
    """True if a file with models of this configuration, or of one within it, names the interface."""
    below = [getattr(config, key, None) for key in config.sub_configs]
    own = "ALL_ATTENTION_FUNCTIONS" in inspect.getsource(modeling(type(config)))
    return own or any(asks_somewhere(sub) for sub in below if isinstance(sub, hf.PreTrainedConfig))

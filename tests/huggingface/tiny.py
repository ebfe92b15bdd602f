"""Tiny random models of several architectures, from their configurations alone."""

import inspect

import torch
import transformers as hf

from limelight.huggingface import register

register("limelight-dot")  # softmax attention through the operator, equal to eager up to rounding

# The name for keys and values of earlier tokens in this version of transformers.
CACHE = "cache" if "cache" in inspect.signature(hf.LlamaForCausalLM.forward).parameters else "past_key_values"

WIDE = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "vocab_size": 64,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
GROUPED = WIDE | {"num_key_value_heads": 2, "head_dim": 8}
SEQ2SEQ = {"vocab_size": 64, "d_model": 32, "decoder_start_token_id": 0, "eos_token_id": 2, "pad_token_id": 0}

ENCODERS = {
    "bert": (hf.BertForMaskedLM, lambda: hf.BertConfig(**WIDE)),
    "albert": (hf.AlbertForMaskedLM, lambda: hf.AlbertConfig(**WIDE, embedding_size=16)),
}
DECODERS = {
    "gpt2": (
        hf.GPT2LMHeadModel,
        lambda: hf.GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=64, bos_token_id=1, eos_token_id=2),
    ),
    "llama": (hf.LlamaForCausalLM, lambda: hf.LlamaConfig(**GROUPED)),
    "mistral": (hf.MistralForCausalLM, lambda: hf.MistralConfig(**GROUPED, sliding_window=4)),
    # its own scale, 1/√query_pre_attn_scalar, and layers with and without a window
    "gemma3": (
        hf.Gemma3ForCausalLM,
        lambda: hf.Gemma3TextConfig(
            **GROUPED,
            sliding_window=4,
            query_pre_attn_scalar=2,
            layer_types=["sliding_attention", "full_attention"],
        ),
    ),
}
ENCODER_DECODERS = {
    "t5": (
        hf.T5ForConditionalGeneration,
        lambda: hf.T5Config(**SEQ2SEQ, d_kv=8, d_ff=48, num_layers=2, num_heads=4, relative_attention_num_buckets=8),
    ),
    "bart": (
        hf.BartForConditionalGeneration,
        lambda: hf.BartConfig(
            **SEQ2SEQ,
            encoder_layers=2,
            decoder_layers=2,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            encoder_ffn_dim=48,
            decoder_ffn_dim=48,
            max_position_embeddings=64,
            forced_eos_token_id=None,
        ),
    ),
}
MODELS = ENCODERS | DECODERS | ENCODER_DECODERS

IDS = torch.randint(3, 64, (2, 9), generator=torch.Generator().manual_seed(5))
PADDED = {"full": (0, 0), "left": (3, 0), "right": (0, 3)}  # padding at the start of the second sequence


def model(name, attention="eager", **changes):
    """The model, its projections enlarged: at their initial size all attention is nearly uniform."""
    build, config = MODELS[name]
    config = config()
    for key, value in changes.items():
        setattr(config, key, value)
    torch.manual_seed(0)
    made = build(config).eval()
    if name != "t5":  # its initial attention is sharp
        enlarge(made)
    made.set_attn_implementation(attention)
    return made


@torch.no_grad()
def enlarge(made):
    for weight in made.parameters():
        if weight.ndim > 1:
            weight.mul_(4)


def tokens(padded="full"):
    left, right = PADDED[padded]
    real = torch.ones_like(IDS)
    real[1, :left], real[1, IDS.shape[1] - right :] = 0, 0
    return {"input_ids": IDS * real, "attention_mask": real}


@torch.no_grad()
def logits(made, batch):
    """The logits at the real tokens; an encoder-decoder gets its input as its output, too."""
    if made.config.is_encoder_decoder:
        batch = batch | {"decoder_input_ids": batch["input_ids"], "decoder_attention_mask": batch["attention_mask"]}
    return made(**batch).logits[batch["attention_mask"].bool()]


def generated(made, batch, **settings):
    """The prompt and three tokens: one step from it, two through the cache."""
    return made.generate(**batch, max_new_tokens=3, min_new_tokens=3, do_sample=False, pad_token_id=0, **settings)

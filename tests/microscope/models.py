"""Tiny random models for the microscope: those of tests/huggingface/tiny.py, and some with another attention."""

import torch
import transformers as hf

from tests.huggingface import tiny

OTHERS = {
    "gpt_oss": (  # a learned sink for each head
        hf.GptOssForCausalLM,
        lambda: hf.GptOssConfig(
            **tiny.GROUPED, num_local_experts=4, num_experts_per_tok=2, sliding_window=4,
            layer_types=["sliding_attention", "full_attention"],
        ),
    ),
    "gemma2": (  # soft-capped scores
        hf.Gemma2ForCausalLM,
        lambda: hf.Gemma2Config(
            **tiny.GROUPED, sliding_window=4, query_pre_attn_scalar=2, attn_logit_softcapping=1.5,
            layer_types=["sliding_attention", "full_attention"],
        ),
    ),
}  # fmt: skip
TEXT_MODELS = [*tiny.MODELS, *OTHERS]


def model(name, attention="eager"):
    if name in tiny.MODELS:
        return tiny.model(name, attention)
    build, config = OTHERS[name]
    torch.manual_seed(0)
    made = build(config()).eval()
    tiny.enlarge(made)
    for layer in made.model.layers:
        if hasattr(layer.self_attn, "sinks"):
            torch.nn.init.normal_(layer.self_attn.sinks)
    made.set_attn_implementation(attention)
    return made


def vision(attention="eager"):
    torch.manual_seed(0)
    size = {"image_size": 16, "patch_size": 4, "hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 2}
    made = hf.ViTModel(hf.ViTConfig(**size, intermediate_size=48, attn_implementation=attention)).eval()
    tiny.enlarge(made)
    return made


def inputs(made, padded="full"):
    batch = tiny.tokens(padded)
    if made.config.is_encoder_decoder:
        return batch | {"decoder_input_ids": batch["input_ids"], "decoder_attention_mask": batch["attention_mask"]}
    return batch


def weights_of_eager(out):
    """Eager's own weights, in the order in which the layers ran."""
    if "encoder_attentions" not in out:
        return list(out.attentions)
    decoder = zip(out.decoder_attentions, out.cross_attentions, strict=True)
    return [*out.encoder_attentions, *(weights for pair in decoder for weights in pair)]


class Causal(torch.nn.Module):
    """Attention by a direct call of torch's function, in two layers of one class."""

    class Layer(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv = torch.nn.Linear(8, 24)

        def forward(self, x):
            q, k, v = (y.unflatten(-1, (2, 4)).transpose(1, 2) for y in self.qkv(x).chunk(3, -1))
            out = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            return x + out.transpose(1, 2).flatten(2)

    def __init__(self):
        super().__init__()
        self.layers = torch.nn.ModuleList([self.Layer(), self.Layer()])

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x

"""Masks under a registered name equal eager's, number by number, and are not expanded until they are read."""

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
import transformers as hf
from transformers.masking_utils import (
    causal_mask_function,
    eager_mask,
    sliding_window_causal_mask_function,
)

from limelight import InputError
from limelight.huggingface import transplant
from limelight.huggingface.masks import AdditiveMask, additive_mask
from tests.huggingface.tiny import WIDE, enlarge, model, tokens

EXACT = {"atol": 1e-5, "rtol": 0}
REAL = torch.arange(9) >= torch.tensor([0, 3])[:, None]  # the second sequence is padded on the left
HERE = {"device": "cpu", "dtype": torch.float32}
CAUSAL, BIDIRECTIONAL = {"mask_function": causal_mask_function}, {"mask_function": lambda b, h, q, k: q >= 0}
OPEN = BIDIRECTIONAL | {"allow_is_causal_skip": False, "allow_is_bidirectional_skip": True}
WINDOW = {"mask_function": sliding_window_causal_mask_function(4), "local_size": 4}
CASES = {  # the arguments of the mask function, and whether it makes a boolean n × m tensor
    "causal": (CAUSAL | {"q_length": 9, "kv_length": 9}, False),
    "causal, nothing is padded": (CAUSAL | {"q_length": 9, "kv_length": 9, "attention_mask": REAL | True}, False),
    "causal, padded": (CAUSAL | {"q_length": 9, "kv_length": 9, "attention_mask": REAL}, True),
    "more to a cache": (CAUSAL | {"q_length": 3, "kv_length": 9, "q_offset": 6}, True),
    "one more to a cache": (CAUSAL | {"q_length": 1, "kv_length": 9, "q_offset": 8}, False),
    "a cache that has room": (CAUSAL | {"q_length": 6, "kv_length": 9}, False),
    "a window": (WINDOW | {"q_length": 9, "kv_length": 9}, True),
    "a window that holds all": (WINDOW | {"q_length": 3, "kv_length": 3}, False),
    "open": (OPEN | {"q_length": 9, "kv_length": 9}, None),
    "open, padded": (OPEN | {"q_length": 9, "kv_length": 9, "attention_mask": REAL}, True),
    "open, always a mask": (OPEN | {"q_length": 9, "kv_length": 9, "allow_is_bidirectional_skip": False}, True),
}


@pytest.mark.parametrize("case", CASES)
def test_the_numbers_are_those_of_eager(case):
    given, written_out = CASES[case]
    ours, eager = (make(batch_size=2, **given, **HERE) for make in (additive_mask, eager_mask))
    if written_out is None:
        assert ours is eager is None
        return
    assert isinstance(ours, AdditiveMask)
    assert (ours.allowed is not None) == written_out
    assert (ours.shape, ours.dtype) == (eager.shape, eager.dtype)
    assert torch.equal(ours + 0, eager)
    assert torch.equal(ours[:, :, -1:, 1:], eager[:, :, -1:, 1:])
    assert type(ours[..., :5]) is torch.Tensor
    assert torch.equal(torch.where(ours.boolean(), 0.0, torch.finfo(torch.float32).min).expand_as(eager), eager)


def test_a_mask_of_many_tokens_takes_no_memory():
    mask = additive_mask(batch_size=64, q_length=100_000, kv_length=100_000, **CAUSAL, **HERE)
    assert mask.allowed is None
    assert repr(mask) == "AdditiveMask((64, 1, 100000, 100000), causal)"


# --- models whose masks an sdpa mask does not fit ----------------------------------------------


def git():
    """Its text layers do not use the interface and add the mask to their scores; its image layers use it."""
    vision = {"image_size": 8, "patch_size": 4, "hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 1}
    torch.manual_seed(0)
    made = hf.GitForCausalLM(hf.GitConfig(**WIDE, vision_config=vision | {"intermediate_size": 48})).eval()
    enlarge(made)
    return made


@pytest.mark.parametrize("padded", ["full", "right"])
@torch.no_grad()
def test_layers_without_the_interface_get_the_mask_that_they_add(padded):
    made, batch = git(), tokens(padded) | {"pixel_values": torch.randn(2, 3, 8, 8)}
    eager = made(**batch).logits
    made.set_attn_implementation("limelight-dot")
    torch.testing.assert_close(made(**batch).logits, eager, **EXACT)
    made.set_attn_implementation("eager")
    with transplant(made) as layers:
        torch.testing.assert_close(made(**batch).logits, eager, **EXACT)
    assert all("image_encoder" in name for name in layers)


@pytest.mark.parametrize("said", [True, False])
@torch.no_grad()
def test_is_causal_of_a_layer_is_not_asked_where_there_are_masks(said):
    """`is_causal` is wrong in some models and missing in others, and eager does not use it."""
    made, batch = model("llama"), tokens()
    eager = made(**batch).logits
    for layer in made.model.layers:
        layer.self_attn.is_causal = said
    made.set_attn_implementation("limelight-dot")
    torch.testing.assert_close(made(**batch).logits, eager, **EXACT)
    q, k = torch.randn(1, 4, 6, 8), torch.randn(1, 2, 6, 8)
    out, _ = hf.AttentionInterface()["limelight-dot"](made.model.layers[0].self_attn, q, k, k, None)
    torch.testing.assert_close(out.transpose(1, 2), F.scaled_dot_product_attention(q, k, k, enable_gqa=True))


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@torch.no_grad()
def test_a_transplant_reads_no_mask_as_the_models_own_attention_does(attention):
    """Without a mask sdpa uses the layer's is_causal, while eager lets every query see every key."""
    made = model("bert", attention)
    for layer in made.bert.encoder.layer:
        layer.attention.self.is_causal = True
    ids = tokens()["input_ids"]
    own = made(input_ids=ids).logits
    with transplant(made):
        torch.testing.assert_close(made(input_ids=ids).logits, own, **EXACT)


def test_a_mask_taken_for_a_boolean_one_is_refused():
    mask = additive_mask(batch_size=2, q_length=9, kv_length=9, attention_mask=REAL, **CAUSAL, **HERE)
    with pytest.raises(InputError, match=r"takes its mask.*for a boolean one.*set_attn_implementation\('sdpa'\)"):
        mask.logical_not()


@torch.no_grad()
def test_a_boolean_mask_of_the_models_own_hides_what_it_says():
    """Grounding DINO gives its text model one; sdpa hides by it, while eager adds ones and zeros to the scores."""
    made, ids = model("bert"), tokens()["input_ids"]
    allowed = (torch.arange(9) // 3 == torch.arange(9)[:, None] // 3).expand(2, 1, 9, 9)  # phrases of three tokens
    out = {}
    for attention in ("eager", "sdpa", "limelight-dot"):
        made.set_attn_implementation(attention)
        out[attention] = made(input_ids=ids, attention_mask=allowed).logits
    torch.testing.assert_close(out["limelight-dot"], out["sdpa"], **EXACT)
    assert (out["eager"] - out["sdpa"]).abs().max() > 1e-2


@torch.no_grad()
def test_packed_sequences_stay_apart():
    made, ids = model("llama"), tokens()["input_ids"][:1]
    alone = torch.cat([made(input_ids=part).logits for part in (ids[:, :4], ids[:, 4:])], 1)
    made.set_attn_implementation("limelight-dot")
    starts = torch.tensor([[0, 1, 2, 3, 0, 1, 2, 3, 4]])
    torch.testing.assert_close(made(input_ids=ids, position_ids=starts, use_cache=False).logits, alone, **EXACT)


# --- compiled ----------------------------------------------------------------------------------


@pytest.mark.parametrize("real", [None, REAL], ids=["", "padded"])
def test_a_layer_that_adds_its_mask_can_be_compiled(real):
    def make():
        return additive_mask(batch_size=2, q_length=9, kv_length=9, attention_mask=real, **CAUSAL, **HERE)

    def softmax(mask):
        return mask[..., :5].softmax(-1)

    right = softmax(eager_mask(batch_size=2, q_length=9, kv_length=9, attention_mask=real, **CAUSAL, **HERE))
    compiled = {"fullgraph": True, "backend": "eager"}
    assert torch.equal(torch.compile(softmax, **compiled)(make()), right)
    assert torch.equal(torch.compile(lambda: softmax(make()), **compiled)(), right)


COMPILED = """
import torch
from limelight.huggingface import transplant
from limelight import Euclidean
from tests.huggingface.tiny import model, tokens

settings = {"fullgraph": True, "backend": "aot_eager"}
for padded in ("full", "left"):
    made, batch = model("llama", "limelight-dot"), tokens(padded)
    real = batch["attention_mask"].bool()
    with torch.no_grad():
        for settled in (transplant(made, layers=[]), transplant(made, Euclidean(2.0))):
            with settled:
                torch._dynamo.reset()
                right = made(**batch, use_cache=False).logits
                whole = torch.compile(made, **settings)(**batch, use_cache=False).logits
                torch.testing.assert_close(whole[real], right[real], atol=1e-5, rtol=0)
                print(padded)
"""


@pytest.mark.slow
def test_a_model_is_one_graph():
    """In a process of its own: the checks of shapes that the tests switch on cannot be traced."""
    done = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(done.stdout.splitlines()) == 4

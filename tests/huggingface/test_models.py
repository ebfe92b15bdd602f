"""The models of transformers give the same results with Limelight's softmax attention."""

import pytest
import torch
import transformers as hf
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from limelight import Euclidean, InputError, Sinkhorn, Softmax, attend
from limelight.huggingface import register, transplant
from tests.huggingface.tiny import DECODERS, ENCODER_DECODERS, MODELS, generated, logits, model, tokens

EXACT = {"atol": 1e-5, "rtol": 0}


@pytest.mark.parametrize("padded", ["full", "left", "right"])
@pytest.mark.parametrize("name", MODELS)
def test_a_registered_name_agrees_with_eager(name, padded):
    made, batch = model(name), tokens(padded)
    eager = logits(made, batch)
    made.set_attn_implementation("limelight-dot")
    torch.testing.assert_close(logits(made, batch), eager, **EXACT)
    register("limelight-other", Euclidean(0.5))
    made.set_attn_implementation("limelight-other")
    assert (logits(made, batch) - eager).abs().max() > 1e-2  # so the attention does reach the logits


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("padded", ["full", "left", "right"])
@pytest.mark.parametrize("name", MODELS)
def test_a_transplant_agrees_with_eager_whatever_the_model_had(name, padded, attention):
    """Its masks stay those of the model: float under eager; boolean, or none, under sdpa."""
    made, batch = model(name, attention), tokens(padded)
    with transplant(made):
        out = logits(made, batch)
    made.set_attn_implementation("eager")
    torch.testing.assert_close(out, logits(made, batch), **EXACT)


@pytest.mark.parametrize("attention", ["limelight-dot", "sdpa"])
def test_a_vision_transformer_without_any_mask(attention):
    torch.manual_seed(0)
    size = {"image_size": 16, "patch_size": 4, "hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 2}
    made = hf.ViTModel(hf.ViTConfig(**size, intermediate_size=48, attn_implementation="eager")).eval()
    images = torch.randn(2, 3, 16, 16)
    eager = made(images).last_hidden_state
    made.set_attn_implementation(attention)
    if attention == "sdpa":
        with transplant(made):
            out = made(images).last_hidden_state
    else:
        out = made(images).last_hidden_state
    torch.testing.assert_close(out, eager, **EXACT)


@pytest.mark.parametrize("padded", ["full", "left"])
@pytest.mark.parametrize("name", DECODERS | ENCODER_DECODERS)
def test_the_same_tokens_are_generated_with_a_cache(name, padded):
    made, batch = model(name), tokens(padded)
    eager = generated(made, batch)
    with transplant(made):
        assert torch.equal(generated(made, batch), eager)
    made.set_attn_implementation("limelight-dot")
    assert torch.equal(generated(made, batch), eager)
    assert torch.equal(generated(made, batch, use_cache=False), eager)


@pytest.mark.parametrize("name", MODELS)
def test_gradients_agree_with_eager(name):
    made, batch = model(name), tokens("left")
    if name in ENCODER_DECODERS:
        batch = batch | {"decoder_input_ids": batch["input_ids"], "decoder_attention_mask": batch["attention_mask"]}
    gradients = []
    for attention in ("eager", "limelight-dot"):
        made.set_attn_implementation(attention)
        made.zero_grad()
        made(**batch).logits[batch["attention_mask"].bool()].square().mean().backward()
        gradients.append([p.grad for p in made.parameters() if p.grad is not None])
    for eager, ours in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, eager, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama", "t5"])
def test_the_weights_can_be_seen(name):
    made, batch = model(name), tokens()
    if name == "t5":
        batch = batch | {"decoder_input_ids": batch["input_ids"]}
    eager = made(**batch, output_attentions=True)
    assert made(**batch).get("attentions") is None
    made.set_attn_implementation("limelight-dot")
    ours = made(**batch, output_attentions=True)
    kinds = ["encoder_attentions", "decoder_attentions", "cross_attentions"] if name == "t5" else ["attentions"]
    for kind in kinds:
        assert len(eager[kind]) == 2
        for mine, right in zip(ours[kind], eager[kind], strict=True):
            torch.testing.assert_close(mine, right, **EXACT)


def test_the_weights_are_not_built_unasked():
    layer, q = model("bert").bert.encoder.layer[0].attention.self, torch.randn(1, 4, 6, 8)
    function = AttentionInterface()["limelight-dot"]
    assert function(layer, q, q, q, None)[1] is None
    assert function(layer, q, q, q, None, output_attentions=False)[1] is None
    _, weights = function(layer, q, q, q, None, output_attentions=True)
    torch.testing.assert_close(weights, (q @ q.mT / 8**0.5).softmax(-1))


def test_a_decoder_with_is_causal_false_attends_in_both_directions():
    made, batch = model("llama", is_causal=False), tokens()
    eager = logits(made, batch)
    made.set_attn_implementation("limelight-dot")
    torch.testing.assert_close(logits(made, batch), eager, **EXACT)
    assert (logits(model("llama"), batch) - eager).abs().max() > 1e-2


def test_a_window_is_kept_to():
    made, batch = model("mistral", "limelight-dot"), tokens()
    narrow = logits(made, batch)
    made.config.sliding_window = None
    assert (logits(made, batch) - narrow).abs().max() > 1e-2


@pytest.mark.parametrize("name", ["bert", "llama", "t5"])
def test_another_similarity_keeps_its_own_scale(name):
    """Against softmax_j(−|q − k|²/2h² + position bias), written out."""

    def direct(module, query, key, value, mask, position_bias=0.0, **rest):
        groups = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
        scores = -(torch.cdist(query, key) ** 2) / (2 * 3.0**2) + position_bias
        return (scores.masked_fill(~mask, -torch.inf).softmax(-1) @ value).transpose(1, 2).contiguous(), None

    AttentionInterface.register("written-out", direct)
    always = {"allow_is_causal_skip": False, "allow_is_bidirectional_skip": False}
    AttentionMaskInterface.register("written-out", lambda *args, **given: sdpa_mask(*args, **{**given, **always}))
    made, batch = model(name, "written-out"), tokens("right")
    expected = logits(made, batch)
    made.set_attn_implementation("eager")
    with transplant(made, Euclidean(3.0)):
        torch.testing.assert_close(logits(made, batch), expected, atol=1e-4, rtol=0)


def test_a_learned_similarity_is_trained_and_is_the_callers():
    bandwidth = torch.nn.Parameter(torch.tensor(2.0))
    made, batch = model("bert"), tokens()
    names = [name for name, _ in made.named_parameters()]
    with transplant(made, Euclidean(bandwidth)):
        made(**batch).logits.square().sum().backward()
        assert [name for name, _ in made.named_parameters()] == names
    assert bandwidth.grad.abs() > 0


@pytest.mark.parametrize("normalization", [Softmax(alpha=1), Sinkhorn(2)], ids=repr)
@pytest.mark.parametrize("padded", ["left", "right"])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_padding_has_no_effect_if_queries_are_mixed(normalization, padded, attention):
    made, batch = model("bert", attention), tokens(padded)
    real = batch["attention_mask"][1].bool()
    positions = torch.arange(9).expand(2, 9)  # a token's own position, padded or not
    alone = {"input_ids": batch["input_ids"][1:, real], "position_ids": positions[1:, real]}
    plain = made(**alone).logits[0]
    with transplant(made, normalization=normalization):
        expected = made(**alone).logits[0]
        together = made(**batch, position_ids=positions).logits[1, real]
    torch.testing.assert_close(together, expected, **EXACT)
    assert (expected - plain).abs().max() > 1e-3


def test_queries_that_are_not_the_keys_are_all_real():
    layer = model("bert").bert.encoder.layer[0].attention.self
    q, k, allowed = torch.randn(1, 4, 3, 8), torch.randn(1, 4, 6, 8), torch.arange(6) < 4
    register("limelight-mixed", normalization=Sinkhorn(2))
    out, _ = AttentionInterface()["limelight-mixed"](layer, q, k, k, allowed.expand(1, 1, 3, 6))
    expected = attend(q, k[..., :4, :], k[..., :4, :], normalization=Sinkhorn(2))
    torch.testing.assert_close(out.transpose(1, 2), expected)


def test_a_decoder_that_looks_both_ways_may_mix_queries():
    made, batch = model("llama", is_causal=False), tokens("left")
    plain = logits(made, batch)
    with transplant(made, normalization=Sinkhorn()):
        assert (logits(made, batch) - plain).abs().max() > 1e-3


@pytest.mark.parametrize("length", [9, 1])
@pytest.mark.parametrize("name", DECODERS)
def test_normalizations_that_mix_queries_are_refused_in_a_decoder(name, length):
    made = model(name)
    with transplant(made, normalization=Sinkhorn()), pytest.raises(InputError, match="future"):
        made(input_ids=tokens()["input_ids"][:, :length])


@pytest.mark.parametrize("name", ENCODER_DECODERS)
def test_what_mixes_queries_is_refused_in_cross_attention_and_taken_in_the_encoder(name):
    made, batch = model(name), tokens()
    plain = logits(made, batch)
    with transplant(made, normalization=Sinkhorn()) as layers:
        names = list(layers)
        with pytest.raises(InputError, match="future"):
            logits(made, batch)
    cross = [i for i, layer in enumerate(names) if "EncDec" in layer or "encoder_attn" in layer]
    with transplant(made, normalization=Sinkhorn(), layers=cross), pytest.raises(InputError, match="future"):
        logits(made, batch)
    with transplant(made, normalization=Sinkhorn(), layers=[0, 1]):
        assert (logits(made, batch) - plain).abs().max() > 1e-3


def test_attention_dropout_drops_in_training_only():
    made, batch = model("bert", attention_probs_dropout_prob=0.5, hidden_dropout_prob=0.0), tokens()
    made.set_attn_implementation("limelight-dot")
    still = made(**batch).logits
    made.train()
    first, second = (made(**batch).logits for _ in range(2))
    assert (first - second).abs().max() > 1e-3
    assert (first - still).abs().max() > 1e-3
    torch.testing.assert_close(made.eval()(**batch).logits, still)
    layer, q = made.bert.encoder.layer[0].attention.self, torch.randn(1, 4, 6, 8)
    function = AttentionInterface()["limelight-dot"]
    assert torch.equal(function(layer, q, q, q, None, dropout=0.5)[0], function(layer, q, q, q, None)[0])

"""Models whose attention has more than queries, keys, values and a mask: sinks, capped scores, selected keys."""

import pytest
import torch
import transformers as hf

from limelight import Boolean, Dot, Euclidean, InputError, Sinkhorn, Softmax, Sparsemax, causal
from limelight.heads_operator import heads_operator, read_masks
from limelight.huggingface import register, transplant
from limelight.huggingface.arguments import selected_keys
from limelight.similarity import ALiBi
from tests.huggingface.tiny import GROUPED, SEQ2SEQ, enlarge, generated, logits, tokens

EXACT = {"atol": 1e-5, "rtol": 0}
HEADS = {"encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48}
SMALL = SEQ2SEQ | HEADS | {"encoder_layers": 2, "decoder_layers": 2, "max_position_embeddings": 64, "init_std": 0.1}
ROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}
EXPERTS = {"num_local_experts": 2, "num_experts_per_tok": 1}
LATENT = {"kv_lora_rank": 8, "q_lora_rank": 8, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8}
SPARSE = {"index_n_heads": 2, "index_head_dim": 16, "index_topk": 3, "n_group": 1, "topk_group": 1}
MODELS = {
    # a learned logit for each head takes weight and has no value
    "gpt-oss": lambda: hf.GptOssForCausalLM(hf.GptOssConfig(**GROUPED, **EXPERTS, **ROPE, sliding_window=4)),
    # scores are capped
    "gemma2": lambda: hf.Gemma2ForCausalLM(
        hf.Gemma2Config(**GROUPED, sliding_window=4, attn_logit_softcapping=2.0, query_pre_attn_scalar=8)
    ),
    # no sdpa; the decoder's layers say that they are not causal
    "nllb-moe": lambda: hf.NllbMoeForConditionalGeneration(
        hf.NllbMoeConfig(**SMALL, num_experts=2, expert_capacity=32, encoder_layerdrop=0, decoder_layerdrop=0)
    ),
    # a layer selects three keys for each query, and passes them as an argument
    "deepseek-v3.2": lambda: hf.DeepseekV32ForCausalLM(
        hf.DeepseekV32Config(
            **GROUPED | {"num_key_value_heads": 4},
            **LATENT,
            **SPARSE,
            n_routed_experts=2,
            num_experts_per_tok=1,
            mlp_layer_types=["dense", "dense"],
        )
    ),
    "pegasus": lambda: hf.PegasusForConditionalGeneration(hf.PegasusConfig(**SMALL)),
}


@pytest.fixture(scope="module")
def models():
    made = {}

    def get(name):
        if name not in made:
            torch.manual_seed(0)
            made[name] = MODELS[name]().eval()
            enlarge(made[name])
        made[name].set_attn_implementation("eager")
        return made[name]

    return get


@pytest.mark.parametrize("padded", ["full", "left"])
@pytest.mark.parametrize("name", MODELS)
def test_it_is_the_same_model(models, name, padded):
    made, batch = models(name), tokens(padded)
    eager, new = logits(made, batch), generated(made, batch)
    with transplant(made):
        torch.testing.assert_close(logits(made, batch), eager, **EXACT)
    made.set_attn_implementation("limelight-dot")
    torch.testing.assert_close(logits(made, batch), eager, **EXACT)
    assert torch.equal(generated(made, batch), new)
    with transplant(made, Euclidean(2.0)):
        assert (logits(made, batch) - eager).abs().max() > 1e-2  # so the attention does reach the logits


@pytest.mark.parametrize("name", ["gpt-oss", "gemma2"])
def test_the_weights_and_the_gradients_too(models, name):
    made, batch = models(name), tokens("left")
    allowed, found = {}, {}
    for attention in ("eager", "limelight-dot"):
        made.set_attn_implementation(attention)
        made.zero_grad()
        out = made(**batch, output_attentions=True)
        out.logits[batch["attention_mask"].bool()].square().mean().backward()
        allowed[attention] = [weights[0] for weights in out.attentions]  # the sequence without padding
        found[attention] = {key: p.grad for key, p in made.named_parameters() if p.grad is not None}
    torch.testing.assert_close(allowed["limelight-dot"], allowed["eager"], **EXACT)
    torch.testing.assert_close(found["limelight-dot"], found["eager"], atol=1e-5, rtol=1e-4)
    assert any(key.endswith("sinks") for key in found["eager"]) == (name == "gpt-oss")


def test_weights_are_returned_without_multiplying_an_identity(models, monkeypatch):
    made, batch = models("gemma2"), tokens()
    made.set_attn_implementation("limelight-dot")
    monkeypatch.setattr(torch, "eye", None)
    assert made(**batch, output_attentions=True).attentions[0].shape == (2, 4, 9, 9)


# --- the operator ------------------------------------------------------------------------------

torch.manual_seed(1)
Q, K, V = (torch.randn(2, heads, n, 4, dtype=torch.float64) for heads, n in ((4, 5), (2, 6), (2, 6)))
SEEN = torch.rand(2, 1, 5, 6) > 0.4
SEEN[..., 0], SEEN[0, 0, 2] = True, False  # one query that sees nothing
BIAS = torch.randn(1, 4, 5, 6, dtype=torch.float64)
SINKS = torch.tensor([-1.0, 0.5, 2.0, 30.0], dtype=torch.float64)


def written_out(scores, sinks=None):
    """softmax with one more key, whose logit is the sink and whose value is zero."""
    scores = scores.masked_fill(~SEEN, -torch.inf)
    sinks = torch.full((4,), -torch.inf) if sinks is None else sinks
    scores = torch.cat([scores, sinks[:, None, None].expand(2, 4, 5, 1)], -1)
    return scores.softmax(-1).nan_to_num()[..., :-1]


def dot_products():
    return Q @ K.repeat_interleave(2, 1).mT


def distances():
    return -(torch.cdist(Q, K.repeat_interleave(2, 1)) ** 2) / 2


@pytest.mark.parametrize("bias", [None, BIAS], ids=["", "bias"])
@pytest.mark.parametrize("softcap", [None, 0.7], ids=["", "cap"])
@pytest.mark.parametrize(
    "sinks", [None, SINKS, SINKS[:, None, None].expand(2, 4, 5, 1)], ids=["", "sinks", "per query"]
)
@pytest.mark.parametrize(
    ("similarity", "scale", "scores"),
    [(Dot(), 0.3, lambda: 0.3 * dot_products()), (Euclidean(1.0), None, distances)],
    ids=["dot", "euclidean"],
)
def test_bias_cap_and_sinks_are_of_the_scores(similarity, scale, scores, sinks, softcap, bias):
    P = heads_operator(
        Q,
        K,
        similarity,
        Softmax(),
        Boolean(SEEN),
        biases=[] if bias is None else [bias],
        scale=scale,
        softcap=softcap,
        sinks=sinks,
    )
    right = scores()
    right = right if softcap is None else softcap * (right / softcap).tanh()
    weights = written_out(right if bias is None else right + bias, None if sinks is None else SINKS)
    torch.testing.assert_close(P.dense(), weights)
    torch.testing.assert_close(P.apply(V), weights @ V.repeat_interleave(2, 1))


def test_a_float_mask_is_taken_apart_into_what_it_hides_and_what_it_adds():
    least = torch.finfo(torch.float64).min
    q, k = torch.zeros(2, 4, 5, 3), torch.zeros(2, 4, 6, 3)
    numbers = torch.zeros(2, 1, 5, 6, dtype=torch.float64).masked_fill(~SEEN, least)
    allowed, added = read_masks(q, k, numbers)
    assert added == []  # so that the fused kernel can be taken
    assert torch.equal(allowed.allowed, SEEN)
    allowed, added = read_masks(q, k, numbers + BIAS, None, BIAS)
    torch.testing.assert_close(sum(added), (2 * BIAS).where(SEEN, BIAS))
    assert read_masks(q, k, 0 * numbers[:1, :, 1:2]) == (None, [])
    allowed, added = read_masks(q, k, causal, BIAS)
    assert allowed is causal
    assert len(added) == 1


def test_picked_keys_are_the_ones_that_are_seen():
    module = torch.nn.Module()
    indices = torch.tensor([[[0, 3], [5, -1], [9, 2]]])  # two of six keys for each query; −1 and 9 select none
    keys = selected_keys(module, indices, None, 4, 6)
    assert [row.nonzero().flatten().tolist() for row in keys[0, 0]] == [[0, 3], [5], [2]]
    module.indexer = torch.nn.Module()
    module.indexer.block_size = 4
    blocks = selected_keys(module, None, torch.tensor([[[[0], [1]], [[-1], [0]]]]), 4, 6)  # for each group of two heads
    picked = [[row.nonzero().flatten().tolist() for row in head] for head in blocks[0]]
    assert picked == 2 * [[[0, 1, 2, 3], [4, 5]]] + 2 * [[[], [0, 1, 2, 3]]]
    with pytest.raises(InputError, match=r"blocks of keys, and Linear has no indexer\.block_size"):
        selected_keys(torch.nn.Linear(1, 1), None, indices, 4, 6)


@pytest.mark.parametrize("temperature", [2.0, torch.tensor([0.5, 1.0, 2.0, 4.0], dtype=torch.float64)[:, None, None]])
def test_a_temperature_divides_the_sinks_too(temperature):
    P = heads_operator(Q, K, Dot(), Softmax(temperature=temperature), Boolean(SEEN), sinks=SINKS)
    sinks = SINKS / (temperature if isinstance(temperature, float) else temperature.flatten())
    torch.testing.assert_close(P.dense(), written_out(dot_products() / 2 / temperature, sinks))


def test_a_query_that_sees_nothing_has_no_gradient_and_no_weight():
    q, sinks = Q.clone().requires_grad_(), SINKS.clone().requires_grad_()
    out = heads_operator(q, K, Dot(), Softmax(), Boolean(SEEN), sinks=sinks).apply(V)
    out.square().sum().backward()
    assert out[0, :, 2].abs().max() == 0
    assert q.grad[0, :, 2].abs().max() == 0
    assert torch.isfinite(q.grad).all()
    assert torch.isfinite(sinks.grad).all()


def test_half_precision_takes_the_sinks_in_float32():
    half = [x.half() for x in (Q, K, V)]
    P = heads_operator(half[0], half[1], Dot(), Softmax(), Boolean(SEEN), sinks=SINKS.half())
    assert P.apply(half[2]).dtype == torch.float16
    right = written_out(dot_products() / 2, SINKS) @ V.repeat_interleave(2, 1)
    torch.testing.assert_close(P.apply(half[2]).double(), right, atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("normalization", [Sparsemax(), Softmax(alpha=0.5), Sinkhorn()], ids=repr)
def test_sinks_are_refused_by_what_is_no_row_softmax(normalization):
    with pytest.raises(InputError, match=r"attention sink needs a softmax over keys.*use Softmax\(\)"):
        heads_operator(Q, K, Dot(), normalization, None, sinks=SINKS)


def test_sinks_of_another_shape_are_refused():
    with pytest.raises(InputError, match=r"must have the shape \(4,\) or \(2, 4, 5, 1\), got \(3,\)"):
        heads_operator(Q, K, Dot(), Softmax(), None, sinks=SINKS[:3])


def test_a_model_with_sinks_says_which_normalization_it_takes(models):
    made = models("gpt-oss")
    with transplant(made, normalization=Sparsemax()), pytest.raises(InputError, match="which Sparsemax"):
        made(**tokens())


def test_grouped_heads_are_repeated_only_where_each_has_its_own():
    assert heads_operator(Q, K, Dot(), Softmax(), None).groups
    assert not heads_operator(Q, K, Dot(), Softmax(), None, biases=[BIAS]).groups
    assert not heads_operator(Q, K, Dot() + ALiBi(heads=4), Softmax(), None).groups


def test_a_cap_with_another_similarity_in_a_whole_model(models):
    """A cap far above all scores changes nothing; a low one does."""
    made, batch = models("gemma2"), tokens()
    register("limelight-capped", Euclidean(2.0))
    made.set_attn_implementation("limelight-capped")
    out = {}
    for cap in (2.0, 1e6, None):
        for layer in made.model.layers:
            layer.self_attn.attn_logit_softcapping = cap
        out[cap] = logits(made, batch)
    for layer in made.model.layers:
        layer.self_attn.attn_logit_softcapping = 2.0
    torch.testing.assert_close(out[1e6], out[None], atol=1e-4, rtol=0)
    assert (out[2.0] - out[None]).abs().max() > 1e-2

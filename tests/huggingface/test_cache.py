"""Generation with an `AttentionCache` gives what generation with transformers' own cache gives."""

import copy
import gc
import weakref

import pytest
import torch
from transformers import DynamicCache, EncoderDecoderCache
from transformers.cache_utils import DynamicSlidingWindowLayer

from limelight import ALiBi, Cosine, Dot, Euclidean, InputError, Laplacian, Metric, Sparsemax, StudentT
from limelight.huggingface import AttentionCache, register, transplant
from limelight.huggingface.cache import GrowingLayer, cache_layer_of
from limelight.kept_keys import KeptKeys
from tests.huggingface.tiny import CACHE, DECODERS, ENCODER_DECODERS, model, tokens

SIMILARITIES = {
    "dot": Dot(),
    "cosine": Cosine(),
    "euclidean": Euclidean(2.0),
    "euclidean by head": Euclidean(torch.tensor([1.0, 2.0, 3.0, 4.0])),
    "student": StudentT(2.0),
    "laplacian": Laplacian(4.0),  # nothing of it can be kept
}
STEPS = 70  # so that the memory for 64 tokens is doubled


def ours(made):
    if made.config.is_encoder_decoder:
        return EncoderDecoderCache(AttentionCache(made.config), AttentionCache(made.config))
    return AttentionCache(made.config)


def generated(made, cache=None, padded="full", steps=12, batch=None, **settings):
    """(tokens, logits of each step)"""
    given = {} if cache is None else {CACHE: cache}
    out = made.generate(
        **(batch or tokens(padded)), **given, max_new_tokens=steps, min_new_tokens=steps, do_sample=False,
        pad_token_id=0, return_dict_in_generate=True, output_logits=True, **settings,
    )  # fmt: skip
    return out.sequences, torch.stack(out.logits)


def require_same(made, dtype=torch.float32, cache=None, **settings):
    (theirs, expected), (own, logits) = (generated(made, kind, **settings) for kind in (None, cache or ours(made)))
    assert torch.equal(own, theirs)
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5 if dtype == torch.float32 else 1e-12)


@pytest.fixture
def scores_kept(monkeypatch):
    """For each call of a layer in which kept scores were asked for: True if there were some."""
    seen, scores = [], KeptKeys.scores

    def watched(*given):
        out = scores(*given)
        seen.append(out is not None)
        return out

    monkeypatch.setattr(KeptKeys, "scores", watched)
    return seen


@pytest.mark.parametrize("padded", ["full", "left"])
@pytest.mark.parametrize("name", DECODERS | ENCODER_DECODERS)
@pytest.mark.parametrize("kind", SIMILARITIES)
def test_the_same_tokens_and_logits(kind, name, padded):
    made = model(name)
    with transplant(made, SIMILARITIES[kind]):
        require_same(made, padded=padded)


@pytest.mark.parametrize("name", ["llama", "gpt2", "t5"])
@pytest.mark.parametrize("kind", ["dot", "euclidean", "student"])
def test_beams_are_reordered(kind, name):
    made = model(name)
    with transplant(made, SIMILARITIES[kind]):
        require_same(made, padded="left", num_beams=3, num_return_sequences=2)


@pytest.mark.parametrize("name", ["llama", "gpt2", "bart"])
@pytest.mark.parametrize("kind", ["dot", "cosine", "euclidean", "student"])
def test_in_float64_to_the_last_digits(kind, name):
    made = model(name).double()
    with transplant(made, SIMILARITIES[kind]):
        require_same(made, torch.float64, padded="left")


@pytest.mark.parametrize("attention", ["eager", "sdpa", "limelight-dot", "limelight-cached"])
def test_a_model_with_any_attention_may_have_it(attention):
    register("limelight-cached", Euclidean(2.0))
    for name in ("llama", "gpt2"):
        require_same(model(name, attention), steps=5)


@pytest.mark.parametrize("kind", ["euclidean", "student"])
def test_past_the_first_memory(kind, scores_kept):
    made = model("llama", max_position_embeddings=128)
    with transplant(made, SIMILARITIES[kind]):
        require_same(made, steps=STEPS)
    assert scores_kept == [True] * 2 * (STEPS - 1)  # two layers; the prompt has too many queries


@pytest.mark.parametrize("name", ["llama", "gpt2", "t5"])
def test_what_depends_on_the_keys_is_computed_once(name, scores_kept):
    rows = []
    phi = torch.nn.Linear(8, 3)
    made = model(name)
    with transplant(made, Metric(lambda x: rows.append(x.shape[-2]) or phi(x))):
        generated(made, ours(made))
        within = rows.copy()
        rows.clear()
        generated(made)
    assert all(scores_kept)
    assert sum(within) < sum(rows) / 2


def test_a_learned_similarity_is_computed_again_when_it_has_changed():
    made, metric = model("llama"), Metric(torch.nn.Linear(8, 3))
    ids = tokens()["input_ids"]
    with transplant(made, metric), torch.no_grad():
        logits = {}
        for cache in (DynamicCache(config=made.config), AttentionCache(made.config)):
            made(ids, **{CACHE: cache})
            for change in (0.0, 0.3):
                metric.phi.weight.add_(change)
                logits[type(cache), change] = made(ids[:, :1], **{CACHE: cache}).logits
            metric.phi.weight.sub_(0.3)
    for change in (0.0, 0.3):
        torch.testing.assert_close(logits[AttentionCache, change], logits[DynamicCache, change], rtol=0, atol=1e-5)
    assert (logits[AttentionCache, 0.3] - logits[AttentionCache, 0.0]).abs().max() > 1e-3


def test_another_similarity_takes_the_place_of_one():
    made = model("llama")
    ids = tokens()["input_ids"]
    caches = DynamicCache(config=made.config), AttentionCache(made.config)
    for similarity, part in zip((Euclidean(2.0), Cosine(), Euclidean(0.5), Dot()), ids.split(2, 1), strict=False):
        with transplant(made, similarity), torch.no_grad():
            theirs, own = (
                torch.cat([made(token, **{CACHE: cache}).logits for token in part.split(1, 1)], 1) for cache in caches
            )
        torch.testing.assert_close(own, theirs, rtol=0, atol=1e-5)


# --- positions ---------------------------------------------------------------------------------


@pytest.mark.parametrize("padded", ["full", "left"])
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_positions_are_known(name, padded, scores_kept):
    made = model(name)
    with transplant(made, Euclidean(2.0) + ALiBi(heads=4)):
        alone, expected = generated(made, padded=padded, use_cache=False)
        own, logits = generated(made, ours(made), padded=padded)
    assert torch.equal(own, alone)
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)
    assert scores_kept
    assert all(scores_kept)


@pytest.mark.parametrize("grad", [False, True])
def test_positions_of_a_prompt_in_pieces(grad):
    made, ids, cache, pieces = model("llama"), tokens()["input_ids"], None, []
    with transplant(made, Dot() + ALiBi(heads=4)), torch.set_grad_enabled(grad):
        whole = made(ids, use_cache=False).logits
        cache = AttentionCache(made.config)
        for start, stop in ((0, 3), (3, 4), (4, 9)):
            pieces.append(made(ids[:, start:stop], **{CACHE: cache}).logits)
    torch.testing.assert_close(torch.cat(pieces, 1), whole, rtol=0, atol=1e-5)


def test_positions_in_cross_attention_and_under_a_window_are_refused():
    for name in ("bart", "mistral"):
        made = model(name)
        with transplant(made, Dot() + ALiBi(heads=4)), pytest.raises(InputError, match="AttentionCache or with use_ca"):
            generated(made, ours(made))


# --- what generation does to a cache -----------------------------------------------------------


@pytest.mark.parametrize("kind", ["dot", "euclidean", "student"])
def test_rejected_tokens_are_removed(kind):
    for assisted in ({"prompt_lookup_num_tokens": 3}, {"assistant_model": model("llama", num_hidden_layers=1)}):
        made, batch = model("llama"), {name: x[:1] for name, x in tokens().items()}
        with transplant(made, SIMILARITIES[kind]):
            plain, _ = generated(made, batch=batch)
            assert torch.equal(generated(made, AttentionCache(made.config), batch=batch, **assisted)[0], plain)


@pytest.mark.parametrize("kind", ["dot", "euclidean"])
def test_a_prompt_in_chunks(kind):
    made = model("llama")
    with transplant(made, SIMILARITIES[kind]):
        plain, expected = generated(made, padded="left")
        own, logits = generated(made, AttentionCache(made.config), padded="left", prefill_chunk_size=4)
    assert torch.equal(own, plain)
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("change", ["crop", "select", "select some", "repeat", "reorder", "assign", "reset"])
@torch.no_grad()
def test_changes_of_a_cache(change):
    """After a change of both caches, the next tokens get the same logits."""
    made, ids = model("llama"), tokens()["input_ids"]
    logits = []
    with transplant(made, Euclidean(2.0)):
        for cache in (DynamicCache(config=made.config), AttentionCache(made.config)):
            for part in (ids[:, :7], ids[:, 7:8], ids[:, 8:9]):
                made(part, **{CACHE: cache})
            following = ids[:, :2]
            if change == "crop":
                cache.crop(-3)
                assert cache.get_seq_length() == 6
            elif change == "select":
                cache.batch_select_indices(torch.tensor([1]))
                following = ids[1:, :2]
            elif change == "select some":
                cache.batch_select_indices(torch.tensor([False, True]))
                following = ids[1:, :2]
            elif change == "repeat":
                cache.batch_repeat_interleave(2)
                following = ids[:, :2].repeat_interleave(2, 0)
            elif change == "reorder":
                cache.reorder_cache(torch.tensor([1, 0]))
            elif change == "assign":
                for layer in cache.layers:
                    layer.keys, layer.values = 2 * layer.keys, layer.values.flip(0)
            else:
                cache.reset()
                assert cache.get_seq_length() == 0
            logits.append(torch.cat([made(t, **{CACHE: cache}).logits for t in following.split(1, 1)], 1))
    torch.testing.assert_close(logits[1], logits[0], rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_cropped_cache_forgets_what_it_kept():
    """As many tokens as were cropped come instead of them: the number of keys alone does not show the change."""
    made, ids = model("llama"), tokens()["input_ids"]
    logits = []
    with transplant(made, StudentT()):
        for cache in (DynamicCache(config=made.config), AttentionCache(made.config)):
            made(ids[:, :8], **{CACHE: cache})
            made(ids[:, 8:], **{CACHE: cache})
            cache.crop(-1)
            logits.append(made(ids[:, 3:4], **{CACHE: cache}).logits)
    torch.testing.assert_close(logits[1], logits[0], rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_copy_is_independent():
    made, ids = model("llama"), tokens()["input_ids"]
    cache = AttentionCache(made.config)
    with transplant(made, Euclidean(2.0)):
        for part in ids.split(3, 1):
            made(part, **{CACHE: cache})
        other = copy.deepcopy(cache)
        first = made(ids[:, :1], **{CACHE: cache}).logits
        made(ids[:, 1:2], **{CACHE: cache})
        torch.testing.assert_close(made(ids[:, :1], **{CACHE: other}).logits, first, rtol=0, atol=1e-6)
    assert (cache.get_seq_length(), other.get_seq_length()) == (11, 10)


@torch.no_grad()
def test_rows_written_by_other_code_are_noticed():
    made, ids = model("llama"), tokens()["input_ids"]
    logits = []
    with transplant(made, Euclidean(2.0)):
        for cache in (DynamicCache(config=made.config), AttentionCache(made.config)):
            for part in (ids[:, :7], ids[:, 7:8]):
                made(part, **{CACHE: cache})
            for layer in cache.layers:
                layer.keys.mul_(0.3)
            logits.append(made(ids[:, :1], **{CACHE: cache}).logits)
    torch.testing.assert_close(logits[1], logits[0], rtol=0, atol=1e-5)


def test_gradients_flow_through_it():
    made, ids = model("llama"), tokens()["input_ids"]
    gradients = []
    with transplant(made, Euclidean(2.0)):
        for cache in (DynamicCache(config=made.config), AttentionCache(made.config)):
            made.zero_grad()
            with torch.no_grad():
                made(ids[:, :4], **{CACHE: cache})
            logits = [made(part, **{CACHE: cache}).logits for part in (ids[:, 4:7], ids[:, 7:8], ids[:, 8:])]
            torch.cat(logits, 1).square().mean().backward()
            gradients.append([p.grad.clone() for p in made.parameters()])
            with torch.no_grad():
                gradients[-1].append(made(ids[:, :1], **{CACHE: cache}).logits)
    for own, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(own, theirs, rtol=1e-4, atol=1e-6)


def test_keys_without_a_gradient_are_kept_for_that_of_the_queries():
    """Only the queries' projection learns, so that keys have no gradient, and a later row must not spoil theirs."""
    made, ids = model("llama", num_hidden_layers=1), tokens()["input_ids"]
    made.requires_grad_(False)
    learned = made.model.layers[0].self_attn.q_proj.weight.requires_grad_()
    gradients = []
    with transplant(made, Euclidean(2.0)):
        for cache in (DynamicCache(config=made.config), AttentionCache(made.config)):
            logits = [made(part, **{CACHE: cache}).logits for part in ids.split(3, 1)]
            gradients += torch.autograd.grad(torch.cat(logits, 1).square().mean(), learned)
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


def test_a_prompt_read_in_inference_mode():
    made, ids = model("llama"), tokens()["input_ids"]
    cache = AttentionCache(made.config)
    with transplant(made, Euclidean(2.0)):
        with torch.inference_mode():
            for part in (ids[:, :7], ids[:, 7:8]):
                made(part, **{CACHE: cache})
        with torch.no_grad():
            last = made(ids[:, 8:], **{CACHE: cache}).logits
            whole = made(ids, use_cache=False).logits[:, -1:]
    torch.testing.assert_close(last, whole, rtol=0, atol=1e-5)


# --- the layer ---------------------------------------------------------------------------------


@torch.no_grad()
def test_memory_is_taken_when_it_is_full():
    layer, places, rows = GrowingLayer(), set(), []
    for _ in range(300):
        key, value = torch.randn(2, 3, 1, 4), torch.randn(2, 3, 1, 5)
        keys, values = layer.update(key, value)
        rows.append((key, value))
        places.add(keys.data_ptr())
    assert len(places) == 4  # for 64, 128, 256 and 512 rows
    for own, given in zip((keys, values), zip(*rows, strict=True), strict=True):
        assert torch.equal(own, torch.cat(given, -2))


@torch.no_grad()
def test_only_views_of_the_present_keys_are_recognized():
    layer = GrowingLayer()
    first, _ = layer.update(torch.randn(1, 2, 5, 4), torch.randn(1, 2, 5, 4))
    assert cache_layer_of(first) == (layer, 5)
    assert cache_layer_of(layer.keys) == (layer, None)
    assert cache_layer_of(first.clone()) is None
    assert cache_layer_of(first[:, :1]) is None
    later, _ = layer.update(torch.randn(1, 2, 1, 4), torch.randn(1, 2, 1, 4))
    assert cache_layer_of(first) is None
    assert cache_layer_of(later) == (layer, 1)
    layer.crop(-1)
    assert cache_layer_of(later) is None
    layer.reset()
    assert layer.keys is None
    assert cache_layer_of(first) is None


@torch.no_grad()
def test_a_view_does_not_keep_the_layer():
    layer = GrowingLayer()
    view, _ = layer.update(torch.randn(1, 2, 5, 4), torch.randn(1, 2, 5, 4))
    gone = weakref.ref(layer)
    gc.disable()
    try:
        del layer
        assert gone() is None
    finally:
        gc.enable()
    assert cache_layer_of(view) is None


@torch.no_grad()
def test_a_key_that_is_not_finite_is_refused_as_without_the_cache():
    made, ids = model("llama"), tokens()["input_ids"]
    with transplant(made, Euclidean(2.0)):
        for cache in (DynamicCache(config=made.config), AttentionCache(made.config)):
            made(ids, **{CACHE: cache})
            cache.layers[1].keys[1, :, 5] = torch.inf
            with pytest.raises(InputError, match="k has 16 NaN or infinite"):
                made(ids[:, :1], **{CACHE: cache})


@pytest.mark.parametrize("sign", [-1, 1])
@torch.no_grad()
def test_keys_that_are_not_finite_have_no_kept_scores(sign):
    """A key with an infinity far from the query has the score −∞, by which it would be hidden without a word."""
    keys = torch.randn(1, 1, 5, 4)
    keys[0, 0, 2, 0] = sign * torch.inf
    kept = KeptKeys(Euclidean())
    kept.update(keys)
    assert kept.scores(torch.ones(1, 1, 1, 4), keys, 0, 1, None) is None


def test_other_normalizations_and_weights_are_computed_in_the_ordinary_way(scores_kept):
    made = model("llama")
    with transplant(made, Euclidean(2.0), Sparsemax()):
        require_same(made)
    with transplant(made, Euclidean(2.0)):
        batch = tokens()
        _, cached = (
            made.generate(
                **batch, max_new_tokens=3, return_dict_in_generate=True, output_attentions=True, pad_token_id=0, **given
            ).attentions
            for given in ({}, {CACHE: AttentionCache(made.config)})
        )
    assert cached[-1][0].shape == (2, 4, 1, 11)
    assert scores_kept == []


def test_half_precision():
    made = model("llama").to(torch.bfloat16)
    with transplant(made, Euclidean(2.0)):
        require_same(made)


def test_layers_with_a_window_have_transformers_own():
    kinds = [type(layer) for layer in AttentionCache(model("gemma3").config).layers]
    assert kinds == [DynamicSlidingWindowLayer, GrowingLayer]
    assert type(AttentionCache().layer_class_to_replicate()) is GrowingLayer


def test_invalid_calls_are_refused():
    made = model("llama")
    with pytest.raises(InputError, match="expects a model's config, got LlamaForCausalLM; write model"):
        AttentionCache(made)
    layer = GrowingLayer()
    with torch.no_grad():
        layer.update(torch.randn(1, 2, 5, 4), torch.randn(1, 2, 5, 4))
        with pytest.raises(InputError, match=r"key expects \(1, 2, 't', 4\)"):
            layer.update(torch.randn(2, 2, 1, 4), torch.randn(2, 2, 1, 4))

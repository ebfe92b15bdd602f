"""The claims on two trained models: what they change and measure, on heads and models that are known."""

import pytest
import torch

from limelight import causal
from limelight.claims import drift_to_doubly_stochastic as drift
from limelight.claims import pseudo_metric_far_from_metric as metric
from limelight.claims import sinks_by_key_norms as sinks
from limelight.claims import tokens_cluster_with_depth as depth
from limelight.microscope import HeadInputs, WatchedAttention
from limelight.models import readers
from limelight.models.fresh import fresh
from limelight.models.image_classifiers import SmallViT
from tests.claims.brief import cut_short, tiny_reader

M = 6


def head(sink_length=0.1):
    """Two heads of six tokens, of which the first has a key of its own length."""
    q, k, v = torch.randn(3, 2, M, 4, generator=torch.Generator().manual_seed(0))
    k[:, 0] *= sink_length / k[:, 0].norm(dim=-1, keepdim=True)
    return HeadInputs(q=q, k=k, v=v, scale=0.5, mask=causal)


def norms(inputs):
    return inputs.k.norm(dim=-1)


def unit(inputs):
    return torch.nn.functional.normalize(inputs.k, dim=-1)


@pytest.mark.parametrize("sink", [0, 3])
def test_each_change_changes_what_it_describes_and_nothing_else(sink):
    before, drawn = head(), sinks.drawn(sink, M, seed=1)
    rest = [j for j in range(M) if j != sink]
    assert drawn.other in rest
    assert drawn.order[sink] == sink

    after = sinks.SinkLength(drawn).change(before)
    torch.testing.assert_close(norms(after)[:, sink], norms(before)[:, rest].mean(-1))
    torch.testing.assert_close(unit(after), unit(before))
    assert torch.equal(after.k[:, rest], before.k[:, rest])

    after = sinks.SinkDirection(drawn).change(before)
    torch.testing.assert_close(norms(after), norms(before))
    torch.testing.assert_close(unit(after)[:, sink], unit(before)[:, drawn.other])
    assert torch.equal(after.k[:, rest], before.k[:, rest])

    after = sinks.OthersPermuted(drawn).change(before)
    torch.testing.assert_close(unit(after), unit(before))
    torch.testing.assert_close(norms(after).sort(-1).values, norms(before).sort(-1).values)
    torch.testing.assert_close(norms(after)[:, sink], norms(before)[:, sink])
    assert not torch.allclose(norms(after)[:, rest], norms(before)[:, rest])

    after = sinks.OtherScaled(drawn).change(before)
    by = norms(before)[:, rest].mean(-1) / norms(before)[:, sink]
    torch.testing.assert_close(norms(after)[:, drawn.other], norms(before)[:, drawn.other] * by)
    assert torch.equal(after.k[:, sink], before.k[:, sink])

    P = sinks.WithoutSink(drawn).change(before).attention().dense()
    assert (P[:, 1:, sink] == 0).all()
    torch.testing.assert_close(P.sum(-1), torch.ones(2, M))


def test_a_sink_by_its_length_alone_is_distinguished_from_one_by_its_direction():
    """All queries point along e₁. A long key of ordinary direction, and a short key along e₁, are both sinks."""
    q = 4 * torch.eye(4)[0].expand(M, 4)
    k = torch.tensor([[0.5, 3.0**0.5 / 2, 0, 0]]).repeat(M, 1)  # the same small angle for all
    drawn = sinks.drawn(0, M, seed=0)

    def kept(keys, change):
        P = sinks.changed(WatchedAttention(q[None], keys[None], scale=4.0), change)
        return float(sinks.rates_of(P)[0, 0])

    long, turned = k.clone(), k.clone()
    long[0] *= 3
    turned[0] = torch.tensor([0.9, 0, 0, 0])
    for keys in (long, turned):
        assert kept(keys, None) > 0.9
    assert kept(long, sinks.SinkLength(drawn)) == pytest.approx(1 / M)
    assert kept(turned, sinks.SinkLength(drawn)) > 0.9
    assert kept(long, sinks.SinkDirection(drawn)) > 0.9
    assert kept(turned, sinks.SinkDirection(drawn)) < 0.2


def test_the_unchanged_heads_are_those_of_the_model(monkeypatch):
    pytest.importorskip("transformers")
    cut_short("sinks_by_key_norms", monkeypatch)
    for name in sinks.MODELS:
        own = sinks.studied(name, 3)
        right = torch.stack([P.dense() for P in own.scope])
        found = sinks.sink_rates(list(own.scope), own)
        torch.testing.assert_close(found, right[..., own.drawn.sink].sum(-1) / own.scope[0].seen_by()[own.drawn.sink])
        # a change that changes nothing does no damage, and gives the same heads
        same = sinks.OthersPermuted(sinks.Drawn(own.drawn.sink, own.drawn.other, torch.arange(right.shape[-1])))
        assert sinks.damage(name, own, same) == pytest.approx(0, abs=1e-5)
        again = [sinks.changed(P, same) for P in own.scope]
        torch.testing.assert_close(sinks.sink_rates(again, own), found)


@pytest.mark.parametrize("name", [readers.LANGUAGE, readers.ENCODER])
def test_states_are_those_of_the_model_and_twins_have_its_shape(name):
    pytest.importorskip("transformers")
    own = tiny_reader(name)
    inputs = own.tokens("the cats sat on a mat again")
    found = readers.states(own.model, inputs)
    right = own.model(**inputs, output_hidden_states=True).hidden_states
    torch.testing.assert_close(found[:-1], torch.cat(right[:-1]))  # after the last block a Llama's have a norm more
    assert len(readers.blocks(own.model)) == len(found) - 1
    for make in (readers.untrained, readers.scrambled):
        twin, again, other = make(own.model, 1), make(own.model, 1), make(own.model, 2)
        assert [p.shape for p in twin.parameters()] == [p.shape for p in own.model.parameters()]
        assert torch.equal(readers.states(twin, inputs), readers.states(again, inputs))
        assert not torch.allclose(readers.states(twin, inputs), readers.states(other, inputs))
    assert torch.equal(readers.states(own.model, inputs), found)  # the model itself stays as it was


def test_a_scrambled_model_keeps_its_embeddings_and_the_size_of_its_matrices():
    pytest.importorskip("transformers")
    own = tiny_reader(readers.LANGUAGE).model
    twin = readers.scrambled(own, 0)
    assert torch.equal(twin.model.embed_tokens.weight, own.model.embed_tokens.weight)
    for before, after in zip(readers.blocks(own), readers.blocks(twin), strict=True):
        query, key = readers.projections(before)[0].weight, readers.projections(after)[0].weight
        assert not torch.allclose(query, key)
        assert key.std().item() == pytest.approx(query.std().item(), rel=0.1)


@pytest.mark.parametrize("width", [9, 5])  # wider than both maps together, and narrower
def test_shares_are_those_of_the_whole_form(width):
    queries, keys = torch.randn(2, 3, 4, width, generator=torch.Generator().manual_seed(0))
    keys = keys + 0.7 * queries
    M = queries.mT @ keys
    half = (M + M.mT) / 2
    symmetric = half.square().sum((-1, -2)) / M.square().sum((-1, -2))
    torch.testing.assert_close(metric.symmetric_share(queries, keys), symmetric)
    values = torch.linalg.eigvalsh(half.double())
    positive = values.clamp(min=0).sum(-1) / values.abs().sum(-1)
    torch.testing.assert_close(metric.positive_share(queries, keys).double(), positive, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", metric.MODELS)
def test_the_maps_make_the_heads_of_the_model(name, monkeypatch):
    """Without positions and biases the scores are those that the model's own projections give."""
    pytest.importorskip("transformers")
    cut_short("pseudo_metric_far_from_metric", monkeypatch)
    own = metric.reader(name)
    heads = own.model.config.num_attention_heads
    for block, layer, x in zip(
        readers.blocks(own.model), metric.maps(metric.TRAINED, name, 0), metric.entering(name, 5), strict=True
    ):
        right = [p(x) - p(torch.zeros_like(x)) for p in readers.projections(block)]
        q, k = layer.of(x)
        torch.testing.assert_close(q.transpose(0, 1).flatten(1), right[0], atol=1e-5, rtol=1e-4)
        of_keys = right[1].unflatten(-1, (-1, k.shape[-1]))
        for head in range(heads):
            shared = head // (heads // of_keys.shape[1])
            torch.testing.assert_close(k[head], of_keys[:, shared], atol=1e-5, rtol=1e-4)
    one = metric.maps(metric.METRIC, name, 0)
    torch.testing.assert_close(torch.stack([layer.symmetric for layer in one]), torch.ones(2, heads))
    torch.testing.assert_close(torch.stack([layer.positive for layer in one]), torch.ones(2, heads))


def test_measures_of_tokens_that_are_known():
    apart = torch.eye(6, 8, dtype=torch.float64)
    two = torch.cat([apart[:1].repeat(4, 1), apart[1:2].repeat(3, 1)]) * torch.arange(1.0, 8)[:, None]  # of any length
    assert depth.mean_cosine(apart).item() == pytest.approx(0)
    assert depth.mean_cosine(two).item() == pytest.approx((4 * 3 + 3 * 2) / (7 * 6))
    assert depth.effective_rank(apart).item() == pytest.approx(5)
    assert depth.effective_rank(two).item() == pytest.approx(1)
    assert depth.clusters(apart).item() == pytest.approx(6, abs=1e-3)
    assert depth.clusters(two).item() == pytest.approx(2, abs=1e-3)


def test_the_rest_is_without_the_first_token_and_the_largest_coordinates():
    path = torch.randn(2, 5, 200, generator=torch.Generator().manual_seed(0))
    path[0, 1:, 7] += 50
    path[0, 1:, 90] -= 50
    path[1, 1:, 3] += 50
    path[:, 0, 11] = 1000  # only in the first token
    rest = depth.without_extremes(path)
    assert rest.shape == (2, 4, 198)
    assert rest.abs().max() < 10
    kept = [j for j in range(200) if j not in (7, 90)]
    torch.testing.assert_close(rest[0].sort(-1).values, path[0, 1:, kept].sort(-1).values)


def test_shuffled_states_have_the_same_numbers_and_no_common_direction():
    path = torch.randn(3, 6, 100, generator=torch.Generator().manual_seed(0)) + 5 * torch.randn(100)
    found = depth.shuffled(path, 0)
    torch.testing.assert_close(found.sort(-1).values, path.sort(-1).values)
    assert depth.mean_cosine(path[1]) > 0.8
    assert depth.mean_cosine(found[1] - found[1].mean(-1, keepdim=True)).abs() < 0.2


def test_column_sums_of_a_vision_transformer_are_those_of_its_weights():
    model, images = fresh(lambda: SmallViT(8, 2, 10), 0), torch.rand(3, 8, 8)
    drift.prepare(model, 4.0, is_frozen=False)
    found = drift.of_images(model, images)
    assert found.shape == (2, 3, 4, 16)
    torch.testing.assert_close(found.sum(-1), torch.full((2, 3, 4), 16.0))
    h = []
    model.blocks[1].norms[0].register_forward_hook(lambda own, args, out: h.append(out))
    model(images)
    q, k, _ = model.blocks[1].qkv(h[0]).chunk(3, -1)
    for head in range(4):
        own = slice(8 * head, 8 * head + 8)
        P = (q[..., own] @ k[..., own].mT / 8**0.5).softmax(-1)
        torch.testing.assert_close(found[1, :, head], P.sum(1))


def test_frozen_queries_and_keys_stay_and_the_rest_learns():
    model = fresh(lambda: SmallViT(8, 2, 10), 0)
    first = fresh(lambda: SmallViT(8, 2, 10), 0)
    drift.prepare(model, 4.0, is_frozen=True)
    images, labels = torch.rand(20, 8, 8), torch.randint(10, (20,))
    learning = drift.descend(
        model, drift.batch_loss(model, images, labels, 8, torch.Generator().manual_seed(0)), 9, 0.1
    )
    drift.steps_of(learning, 4)
    assert len([*learning]) == 5  # the other steps are still to be done
    for block, before in zip(model.blocks, first.blocks, strict=True):
        assert torch.equal(block.qkv.weight[:64], 4 * before.qkv.weight[:64])
        assert torch.equal(block.qkv.bias[:64], 4 * before.qkv.bias[:64])
        assert not torch.allclose(block.qkv.weight[64:], before.qkv.weight[64:])
        assert not torch.allclose(block.proj.weight, before.proj.weight)


def test_column_sums_of_the_encoder_and_its_twins_are_of_three_models(monkeypatch):
    pytest.importorskip("transformers")
    cut_short("drift_to_doubly_stochastic", monkeypatch)
    found = [drift.of_encoder(kind, 7) for kind in (drift.BERT, drift.BERT_SIZE, "")]
    for sums in found:
        n = sums.shape[-1]
        torch.testing.assert_close(sums.sum(-1), torch.full(sums.shape[:-1], float(n)), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(found[0], found[2])
    assert not torch.allclose(found[1], found[2])

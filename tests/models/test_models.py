"""Models do what their equations say, and can represent what the claims ask of them."""

import pytest
import torch

from limelight import Cosine, DivergenceError, Dot
from limelight.data.argmax_retrieval import argmax_retrieval
from limelight.data.digits import FRAME
from limelight.data.key_value_tables import WIDTH, tables
from limelight.data.slope_bands import CENTERS, SLOPES
from limelight.data.slope_points import slopes
from limelight.models.attention_pooling import AttentionPooling
from limelight.models.image_classifiers import Convolutional, SmallViT, fully_connected
from limelight.models.key_value_retrieval import KeyValueRetrieval
from limelight.models.mixture_of_linear_experts import MixtureOfLinearExperts
from limelight.models.mlp import mlp
from limelight.models.propagation_network import DotBlock, MetricBlock, PropagationNetwork, TanhResidual, UniformBlock
from limelight.models.training import batch_loss, descend


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def test_a_gate_with_sharp_keys_is_five_lines():
    """Softmax over affine functions of y realizes intervals of y , so the data can be had exactly."""
    gate, sharpness = MixtureOfLinearExperts(inputs=2, experts=5), 200.0
    assert parameters(gate) == 30
    with torch.no_grad():
        gate.keys.copy_(torch.tensor([[0.0, sharpness * c, -sharpness * c * c / 2] for c in CENTERS]))
        gate.experts.copy_(torch.tensor([[a, 0.0, 0.0] for a in SLOPES]))
    points, z = slopes(500, torch.Generator().manual_seed(0), x=(0.0, 50.0))
    torch.testing.assert_close(gate(points), z, rtol=1e-4, atol=1e-4)


def test_a_gate_is_its_equation():
    gate, x = MixtureOfLinearExperts(2, 3, temperature=0.5), torch.randn(7, 2)
    with_one = torch.cat([x, torch.ones(7, 1)], 1)
    weights = (with_one @ gate.keys.T / 0.5).softmax(-1)
    torch.testing.assert_close(gate(x), (weights * (with_one @ gate.experts.T)).sum(-1))


def test_stacked_gates_are_each_what_one_gate_is_alone():
    gates, x = MixtureOfLinearExperts(2, 3, temperature=0.5, networks=4), torch.randn(4, 7, 2)
    for which in range(4):
        alone = MixtureOfLinearExperts(2, 3, temperature=0.5)
        with torch.no_grad():
            alone.keys.copy_(gates.keys[which])
            alone.experts.copy_(gates.experts[which])
        torch.testing.assert_close(gates(x)[which], alone(x[which]))
        torch.testing.assert_close(gates(x[0])[which], alone(x[0]))


def test_one_sharp_query_picks_the_highest_priority():
    tokens, target, _ = argmax_retrieval(200, torch.Generator().manual_seed(0))
    model = AttentionPooling(inputs=2, width=1, heads=1)
    with torch.no_grad():
        model.queries.fill_(1.0)
        model.key.weight.copy_(torch.tensor([[1e4, 0.0]]))
        model.value.weight.copy_(torch.tensor([[0.0, 1.0]]))
        model.value.bias.zero_()
    close = (model(tokens) - target).abs() < 1e-2
    assert close.float().mean() > 0.99  # but for priorities that are nearly equal
    assert AttentionPooling(2, 8, heads=2, content_based=False).attention(tokens).dense().std() < 1e-6


@pytest.mark.parametrize("similarity", [Dot(), Cosine()], ids=str)
def test_a_sharp_lookup_fetches_keys_never_seen(similarity):
    model, asked = KeyValueRetrieval(WIDTH, similarity), tables(200, torch.Generator().manual_seed(0))
    with torch.no_grad():
        for projection in (model.query, model.key):
            projection.weight.copy_(torch.eye(WIDTH))
        model.log_scale.fill_(5.0)
        fetched = model(asked.query, asked.keys, asked.values)
    assert ((fetched * asked.target) > 0).all(-1).float().mean() > 0.95


@pytest.mark.parametrize("block", [lambda: DotBlock(6), lambda: MetricBlock(TanhResidual(6)), UniformBlock])
def test_unknown_points_get_no_weight(block):
    model = PropagationNetwork(inputs=3, width=6, classes=2, blocks=2, block=block)
    points, known = torch.randn(10, 3), torch.arange(10) < 7
    before = model(points, known)
    moved = points.clone()
    moved[8] += 5
    after = model(moved, known)
    others = torch.arange(10) != 8
    torch.testing.assert_close(after[others], before[others])
    assert before.shape == (10, 2)


def test_what_each_image_network_assumes():
    images = torch.zeros(1, FRAME, FRAME)
    images[0, 2:6, 2:6] = torch.rand(4, 4)
    moved = images.roll((2, 2), (1, 2))
    full, conv, patches = fully_connected(FRAME, 10), Convolutional(10, 16), SmallViT(FRAME, 4, 10, blocks=1)
    assert [parameters(model) for model in (full, conv, patches)] == [9930, 5130, 9706]
    wide = torch.nn.functional.pad(images, (8, 8, 8, 8))  # far from the edges, and by one step of the pooling
    torch.testing.assert_close(conv(wide.roll((2, 2), (1, 2))), conv(wide), rtol=1e-4, atol=1e-4)
    for model in (full, patches):
        assert (model(moved) - model(images)).abs().max() > 1e-3
        assert model(images).shape == (1, 10)


def test_descent_descends_and_divergence_is_named():
    model, x = mlp(2, 8, 1), torch.randn(50, 2)
    losses = list(descend(model, lambda: (model(x)[:, 0] - x[:, 0]).square().mean(), steps=200, lr=0.01))
    assert len(losses) == 200
    assert losses[-1] < 0.1 * losses[0]
    with pytest.raises(DivergenceError, match="the loss became inf at step 0"):
        next(descend(model, lambda: model(x).sum() / 0.0, steps=1, lr=0.01))


def test_a_batch_is_drawn_anew_at_each_call_and_its_loss_is_the_mean_cross_entropy():
    model, inputs, labels = torch.nn.Linear(3, 4), torch.randn(5, 3), torch.tensor([0, 1, 2, 3, 1])
    loss, again = (batch_loss(model, inputs, labels, 8, torch.Generator().manual_seed(1)) for _ in range(2))
    generator, found = torch.Generator().manual_seed(1), []
    for _ in range(2):
        batch = torch.randint(5, (8,), generator=generator)
        right = -model(inputs[batch]).log_softmax(-1)[torch.arange(8), labels[batch]].mean()
        found.append(loss().item())
        assert found[-1] == pytest.approx(right.item())
        assert found[-1] == again().item()
    assert found[0] != found[1]

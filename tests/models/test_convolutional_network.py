"""Class maps and attention say which places the scores are made of."""

import pytest
import torch

from limelight.data import digits, fashion_mnist
from limelight.models.convolutional_network import AttentionPooledNetwork, ClassActivationNetwork, ConvolutionalTrunk
from limelight.models.training import batch_loss, descend


@pytest.fixture
def images():
    return torch.rand(3, 18, 18, generator=torch.Generator().manual_seed(0))


def test_the_mean_of_a_class_map_is_the_score_of_its_class(images):
    model, classes = ClassActivationNetwork(10).eval(), torch.tensor([0, 4, 9])
    scores = model(images)[torch.arange(3), classes] - model.last.bias[classes]
    torch.testing.assert_close(model.activation_map(images, classes).mean((1, 2)), scores)


def test_attention_is_even_before_it_is_trained_and_sums_to_one(images):
    torch.manual_seed(0)
    model = AttentionPooledNetwork(10).eval()
    torch.testing.assert_close(model.attention_map(images), torch.full((3, 9, 9), 1 / 81))
    torch.nn.init.normal_(model.query, std=20.0)
    weights = model.attention_map(images)
    assert float(weights.detach().std()) > 1e-3
    torch.testing.assert_close(weights.sum((1, 2)), torch.ones(3))


def test_what_attention_passes_on_is_the_weighted_mean_of_the_places(images):
    model = AttentionPooledNetwork(10).eval()
    torch.nn.init.normal_(model.query, std=5.0)
    seen = torch.einsum("nhw,nchw->nc", model.attention_map(images), model.trunk(images))
    torch.testing.assert_close(model(images), model.last(seen))


def test_a_place_sees_twelve_pixels_each_way():
    trunk, image = ConvolutionalTrunk(4).eval(), torch.rand(1, 32, 32).requires_grad_()
    (gradient,) = torch.autograd.grad(trunk(image)[0, :, 8, 8].sum(), image)
    rows, cols = gradient[0].nonzero(as_tuple=True)
    assert int(rows.max() - rows.min()) + 1 <= 12
    assert 10 <= int(cols.max() - cols.min()) + 1 <= 12


def share_named(train, test, channels, steps, generator):
    """The share of unseen images whose class the network names after these numbers of batches at two rates."""
    (images, labels), (unseen, truth) = train, test
    model = ClassActivationNetwork(10, channels)
    loss = batch_loss(model, images, labels, 64, generator)
    for rate, count in zip((0.01, 0.001), steps, strict=True):
        for _ in descend(model, loss, count, rate):
            pass
    with torch.no_grad():
        named = torch.cat([model.eval()(some).argmax(-1) for some in unseen.split(500)])
    return float((named == truth).float().mean())


@pytest.mark.slow
def test_it_names_98_percent_of_unseen_digits():
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    (images, labels), (unseen, truth) = digits.split(1297, 500, generator)
    framed, tested = (torch.nn.functional.pad(shown, (2, 2, 2, 2)) for shown in (images, unseen))
    assert share_named((framed, labels), (tested, truth), 24, (300, 300), generator) >= 0.98


@pytest.mark.slow
@pytest.mark.skipif(bool(fashion_mnist.missing()), reason="Fashion-MNIST is not here")
def test_it_names_90_percent_of_unseen_clothes():
    torch.manual_seed(0)
    train, test = fashion_mnist.fashion_mnist()
    assert share_named(train, test, 32, (3000, 500), torch.Generator().manual_seed(0)) >= 0.9

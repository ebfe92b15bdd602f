"""What a place of each layer sees is what `FIELDS` and `STRIDES` say, and a first layer that is fixed stays so."""

import pytest
import torch

from limelight import InputError
from limelight.models.convolutional_hierarchy import ConvolutionalHierarchy
from limelight.models.training import batch_loss, descend


@pytest.fixture
def model():
    torch.manual_seed(0)
    return ConvolutionalHierarchy(classes=3, channels=(4, 6, 8)).double()


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_a_place_sees_the_pixels_that_are_said(model, layer):
    """Other pixels do not move it; with a linear unit of positive weights, each of these does."""
    for convolution in model.convolutions:
        convolution.weight.data.abs_()
    for row, column in ((0, 0), (1, 0), (0, 2)):
        pixels = torch.rand(1, 32, 32, dtype=torch.float64).requires_grad_()
        seen = model.layers(pixels)[layer]
        total = torch.zeros(32, 32, dtype=torch.bool)
        for _ in range(60):  # a maximum passes on the gradient of one pixel of four
            pixels = torch.rand(1, 32, 32, dtype=torch.float64).requires_grad_()
            seen = model.layers(pixels)[layer]
            total |= torch.autograd.grad(seen[0, :, row, column].sum(), pixels)[0][0] != 0
        where = total.nonzero()
        first = [model.STRIDES[layer] * at for at in (row, column)]
        assert where.amin(0).tolist() == first
        assert where.amax(0).tolist() == [at + model.FIELDS[layer] - 1 for at in first]


def test_an_empty_image_excites_nothing_before_training(model):
    assert all((each == 0).all() for each in model.layers(torch.zeros(1, 32, 32, dtype=torch.float64)))


def test_scores_are_the_largest_activations_weighed(model):
    images = torch.rand(5, 32, 32, dtype=torch.float64)
    largest = model.layers(images)[2].flatten(2).max(2).values
    torch.testing.assert_close(model(images), largest @ model.last.weight.T + model.last.bias)


def test_a_fixed_first_layer_is_not_trained(model):
    filters = torch.randn(4, 5, 5, dtype=torch.float64)
    model.fix_first_layer(filters)
    second = model.convolutions[1].weight.detach().clone()
    images, labels = torch.rand(20, 32, 32, dtype=torch.float64), torch.randint(3, (20,))
    list(descend(model, batch_loss(model, images, labels, 10, torch.Generator().manual_seed(0)), 3, 0.01))
    torch.testing.assert_close(model.convolutions[0].weight[:, 0], filters)
    assert (model.convolutions[0].bias == 0).all()
    assert not torch.equal(model.convolutions[1].weight, second)
    with pytest.raises(InputError, match=r"filters \(4, 5, 5\), got \(3, 5, 5\)"):
        model.fix_first_layer(filters[:3])


def test_images_that_are_too_small_are_refused(model):
    with pytest.raises(InputError, match="at least 24 pixels"):
        model.layers(torch.rand(1, 32, 20, dtype=torch.float64))
    with pytest.raises(InputError, match="expects images"):
        model.layers(torch.rand(32, 32, dtype=torch.float64))
    assert model.layers(torch.rand(1, 24, 40, dtype=torch.float64))[2].shape == (1, 8, 1, 5)

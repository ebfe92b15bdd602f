"""Saliency against finite differences, and received attention against the dense matrix."""

import pytest
import torch

from limelight import InputError
from limelight.data.digits import FRAME
from limelight.interpret.saliency import received_attention, saliency
from limelight.models.image_classifiers import Convolutional, SmallViT, fully_connected


@pytest.fixture
def images():
    return torch.rand(3, FRAME, FRAME, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "build",
    [lambda: fully_connected(FRAME, 10), lambda: Convolutional(10, 4), lambda: SmallViT(FRAME, 4, 10, blocks=1)],
    ids=["fully connected", "convolution", "self-attention"],
)
def test_saliency_is_the_slope_of_the_winning_logit(build, images):
    torch.manual_seed(0)
    model, images = build().double(), images.double()
    found, step = saliency(model, images), 1e-6
    assert found.shape == images.shape
    with torch.no_grad():
        winner = model(images).argmax(-1)
        for row, column in ((0, 0), (4, 7), (11, 11)):
            up, down = images.clone(), images.clone()
            up[:, row, column] += step
            down[:, row, column] -= step
            slope = (model(up) - model(down)).gather(1, winner[:, None])[:, 0] / (2 * step)
            torch.testing.assert_close(found[:, row, column], slope.abs(), rtol=1e-4, atol=1e-7)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_saliency_of_one_image_does_not_depend_on_the_others(images):
    model = fully_connected(FRAME, 10)
    torch.testing.assert_close(saliency(model, images)[1:2], saliency(model, images[1:2]))


@pytest.mark.parametrize("block", [0, 1])
def test_the_attention_received_is_the_column_sums_of_the_softmax(block, images):
    torch.manual_seed(0)
    model = SmallViT(FRAME, 4, 10, blocks=2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)  # far from uniform
        patches = images.reshape(3, 3, 4, 3, 4).permute(0, 1, 3, 2, 4).reshape(3, 9, 16)
        h = model.embed(patches) + model.pos_embed
        for earlier in model.blocks[:block]:
            h = earlier(h)
        own = model.blocks[block]
        asked = own.qkv(own.norms[0](h)).reshape(3, 9, 3, model.heads, 8)
        scores = torch.einsum("nihd,njhd->nhij", asked[:, :, 0], asked[:, :, 1]) / 8**0.5
        expected = scores.softmax(-1).mean((1, 2)).reshape(3, 3, 3)
    found = received_attention(model, images, block)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(found.sum((1, 2)), torch.ones(3))
    assert found.std() > 0.01
    assert not model.blocks[block].qkv._forward_hooks  # all hooks are removed


def test_invalid_inputs_of_saliency_and_attention_are_refused(images):
    model = SmallViT(FRAME, 4, 10, blocks=1)
    with pytest.raises(InputError, match="images of shape"):
        saliency(model, images[0])
    with pytest.raises(InputError, match="logits"):
        saliency(lambda x: x, images)
    with pytest.raises(InputError, match="images of shape"):
        received_attention(model, images[0])
    with pytest.raises(InputError, match="1 blocks, got block=1"):
        received_attention(model, images, 1)

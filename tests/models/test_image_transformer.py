"""A vision transformer in parts: tokens of patches and of convolutions, and a bias for each offset on a grid."""

import pytest
import torch
from torch import nn

from limelight import Attention, Bias, Dot
from limelight.errors import InputError
from limelight.models.image_classifiers import SmallViT
from limelight.models.image_transformer import ConvolutionalStem, GridBias, ImageTransformer, Patches
from limelight.models.positions import LearnedPositions
from limelight.models.transformer import EncoderLayer


def test_a_patch_is_mapped_by_itself():
    stem, images = Patches(4, 5), torch.randn(2, 8, 12)
    tokens = stem(images)
    assert tokens.shape == (2, 6, 5)
    torch.testing.assert_close(tokens[1, 5], stem.embed(images[1, 4:, 8:].flatten()))


def test_a_stem_sees_the_same_stroke_alike_in_every_patch_and_beyond_its_edge():
    stem = ConvolutionalStem(3, 5)
    image = torch.zeros(1, 24, 24)
    image[0, 9:11, 10:13] = torch.rand(2, 3)
    tokens, moved = (stem(each).view(6, 6, 5) for each in (image, image.roll((4, 8), (1, 2))))
    torch.testing.assert_close(moved[1:, 2:], tokens[:-1, :-2])
    pixels = torch.zeros(1, 12, 12, requires_grad=True)
    with torch.no_grad():
        for parameter in stem.parameters():
            parameter.abs_()  # so that no unit is off
    stem(pixels)[0, 4].sum().backward()  # the token in the middle, of the pixels 4 … 7
    rows = pixels.grad[0].abs().sum(1).nonzero().flatten().tolist()
    assert (min(rows), max(rows)) == (1, 7)


@pytest.mark.parametrize("shape", [(12, 12), (1, 10, 12), (1, 12, 0), (1, 1, 12, 12)])
@pytest.mark.parametrize("stem", [Patches(4, 2), ConvolutionalStem(2, 2)])
def test_images_that_tokens_do_not_fill_are_refused(stem, shape):
    with pytest.raises(InputError, match="whole multiples of 4 pixels"):
        stem(torch.zeros(shape))


@pytest.mark.parametrize(("rows", "columns"), [(3, 3), (2, 4), (1, 5)])
@pytest.mark.parametrize("kernel", ["reference", "chunked"])
def test_a_grid_bias_is_a_table_by_offsets_of_rows_and_columns(rows, columns, kernel):
    torch.manual_seed(0)
    bias, n = GridBias(rows, columns, heads=2).double(), rows * columns
    nn.init.normal_(bias.table)
    places = [divmod(place, columns) for place in range(n)]
    table = torch.stack(
        [bias.table[:, r - row + rows - 1, c - column + columns - 1] for row, column in places for r, c in places], -1
    ).view(2, n, n)
    q, k, v = (torch.randn(3, 2, n, 4, dtype=torch.float64, requires_grad=True) for _ in range(3))
    out = Attention(q, k, Dot() + bias, kernel=kernel) @ v
    expected = Attention(q, k, Dot() + Bias(table), kernel="reference") @ v
    torch.testing.assert_close(out, expected)
    found, wanted = (torch.autograd.grad(each.square().sum(), (q, k, v, bias.table)) for each in (out, expected))
    torch.testing.assert_close(found, wanted)


def test_a_grid_bias_of_another_size_is_refused():
    x = torch.randn(1, 2, 8, 4)
    with pytest.raises(InputError, match="3×3 places expects as many queries and keys, got 8 and 8"):
        Attention(x, x, Dot() + GridBias(3, 3, heads=2)).dense()
    with pytest.raises(InputError, match="heads expects a whole number"):
        GridBias(3, 3, heads=0)


def test_of_patches_and_places_it_is_the_small_vision_transformer():
    """The same equation, so that equal weights give equal logits."""
    torch.manual_seed(0)
    whole = SmallViT(12, 4, 10, blocks=1)
    parts = ImageTransformer(Patches(4, 32), LearnedPositions(9, 32), [EncoderLayer(32, 4, 64)], 32, 10)
    block, layer = whole.blocks[0], parts.layers[0]
    pairs = [
        (whole.embed, parts.stem.embed), (whole.last, parts.classifier),
        (block.norms[0], layer.self_attention.norm), (block.norms[1], layer.feed_forward.norm),
        (block.proj, layer.self_attention.attention.out_proj), (block.mlp, layer.feed_forward.network),
    ]  # fmt: skip
    for module, other in pairs:
        other.load_state_dict(module.state_dict())
    with torch.no_grad():
        parts.positions.table.copy_(whole.pos_embed)
        layer.self_attention.attention.in_proj_weight.copy_(block.qkv.weight)
        layer.self_attention.attention.in_proj_bias.copy_(block.qkv.bias)
    images = torch.rand(5, 12, 12)
    torch.testing.assert_close(parts(images), whole(images))

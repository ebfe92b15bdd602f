"""A class token gathers what all places saw, by the attention that the network reports."""

import pytest
import torch

from limelight import Attention, InputError
from limelight.models.class_token_network import Block, ClassTokenNetwork


@pytest.fixture
def images():
    return torch.rand(3, 18, 18, generator=torch.Generator().manual_seed(0))


def test_a_block_is_attention_and_a_network_with_residuals():
    torch.manual_seed(0)
    block, h = Block(8, 2), torch.randn(2, 5, 8)
    x = block.norms[0](h)
    q, k, v = (x @ w.T + b for w, b in zip(block.qkv.weight.chunk(3), block.qkv.bias.chunk(3), strict=True))
    heads = [(q[..., own] @ k[..., own].mT / 2).softmax(-1) @ v[..., own] for own in (slice(0, 4), slice(4, 8))]
    mixed = h + block.proj(torch.cat(heads, -1))
    torch.testing.assert_close(block(h), mixed + block.mlp(block.norms[1](mixed)))


def test_what_is_reported_is_what_the_class_token_reads(images):
    """In the first block, where nothing has been mixed yet, the class token's output follows from the reported q, k."""
    torch.manual_seed(0)
    model = ClassTokenNetwork(18, 10).eval()
    found = model.asked(images)
    assert [(a.q.shape, a.k.shape) for a in found] == 2 * [((3, 4, 1, 8), (3, 4, 82, 8))]
    seen = []
    model.blocks[0].proj.register_forward_pre_hook(lambda own, given: seen.append(given[0]))
    inputs = []
    model.blocks[0].norms[0].register_forward_hook(lambda own, given, out: inputs.append(out))
    model(images)
    v = model.blocks[0].qkv(inputs[0])[..., 64:].unflatten(-1, (4, 8)).transpose(1, 2)
    read = (Attention(found[0].q, found[0].k) @ v)[:, :, 0].flatten(1)
    torch.testing.assert_close(read, seen[0][:, 0])


def test_only_the_class_token_is_classified(images):
    torch.manual_seed(0)
    model = ClassTokenNetwork(18, 10, blocks=1).eval()
    with torch.no_grad():
        model.blocks[0].proj.weight.zero_()  # nothing is read from the places
        model.blocks[0].proj.bias.zero_()
    scores = model(images)
    torch.testing.assert_close(scores, scores[:1].expand_as(scores))


def test_images_of_another_size_are_refused():
    with pytest.raises(InputError, match=r"ClassTokenNetwork expects images \(n, 18, 18\)"):
        ClassTokenNetwork(18, 10)(torch.rand(2, 20, 20))

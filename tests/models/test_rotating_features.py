"""Bindings are their equations, with gradients, and do what is said of aligned and opposite inputs."""

import pytest
import torch
from torch import nn

from limelight import InputError
from limelight.models.rotating_features import (
    RotatingAutoencoder,
    RotatingLinear,
    alignments,
    chi_binding,
    cosine_binding,
    direction,
    length,
    matrix_of,
    no_binding,
)

BINDINGS = [chi_binding, cosine_binding, no_binding]
LAYERS = {
    "linear": (lambda: nn.Linear(6, 4, bias=False), (6,)),
    "convolution": (lambda: nn.Conv2d(2, 3, 3, stride=2, padding=1, bias=False), (2, 4, 5)),
    "transposed": (lambda: nn.ConvTranspose2d(2, 1, 3, stride=2, padding=1, bias=False), (2, 3, 3)),
}


def layer_and_inputs(name, n=3):
    make, shape = LAYERS[name]
    return make().double(), torch.randn(n, 5, *shape, dtype=torch.float64)


@pytest.mark.parametrize("name", LAYERS)
def test_each_output_is_its_sum_over_inputs(name):
    layer, z = layer_and_inputs(name)
    matrix = matrix_of(layer, z.shape[2:], torch.float64)
    flat = z.flatten(2)
    torch.testing.assert_close(flat @ matrix.mT, torch.stack([layer(x).flatten(1) for x in z]))
    for output in range(len(matrix)):
        w = matrix[output]
        psi = (w * flat).sum(-1)
        cosines = (psi[..., None] * flat).sum(0) / (psi.norm(dim=0)[:, None] * flat.norm(dim=0))
        a = (1 + cosines) / 2
        torch.testing.assert_close(alignments(matrix, flat)[:, output], a)
        chi = (w * a * flat.norm(dim=0)).sum(-1)
        vector = (w * a * flat).sum(-1)
        torch.testing.assert_close(chi_binding(layer, z)[1].flatten(1)[:, output], chi)
        torch.testing.assert_close(chi_binding(layer, z)[0].flatten(2)[..., output], psi)
        torch.testing.assert_close(cosine_binding(layer, z)[0].flatten(2)[..., output], vector)
        torch.testing.assert_close(cosine_binding(layer, z)[1].flatten(1)[:, output], vector.norm(dim=0))
        torch.testing.assert_close(no_binding(layer, z)[1].flatten(1)[:, output], psi.norm(dim=0))


@pytest.mark.parametrize("binding", BINDINGS)
def test_turning_all_inputs_turns_the_vectors_and_keeps_the_lengths(binding):
    layer, z = layer_and_inputs("linear", n=4)
    turn = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64)).Q
    (vectors, lengths), (turned, kept) = binding(layer, z), binding(layer, torch.einsum("mn,nbi->mbi", turn, z))
    torch.testing.assert_close(turned, torch.einsum("mn,nbi->mbi", turn, vectors))
    torch.testing.assert_close(kept, lengths)


@pytest.mark.parametrize("factor", [1e-3, 1.0, 1e4])
@pytest.mark.parametrize("binding", BINDINGS)
def test_a_larger_input_gives_a_larger_output(binding, factor):
    layer, z = layer_and_inputs("linear")
    for scaled, own in zip(binding(layer, factor * z), binding(layer, z), strict=True):
        torch.testing.assert_close(scaled, factor * own)


def test_aligned_inputs_add_in_every_binding_and_opposite_ones_only_without():
    weights = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        weights.weight.fill_(1.0)
    up = torch.tensor([[0.0], [1.0], [0.0]])
    aligned, opposite = (up[..., None] * torch.tensor([3.0, sign * 1.0]) for sign in (1, -1))
    assert [float(binding(weights, aligned)[1].detach()) for binding in BINDINGS] == [4, 4, 4]
    assert [float(binding(weights, opposite)[1].detach()) for binding in BINDINGS] == [3, 3, 2]


@pytest.mark.parametrize("binding", BINDINGS)
def test_gradients_are_right_and_finite_at_zero(binding):
    layer, z = layer_and_inputs("linear", n=2)
    assert torch.autograd.gradcheck(lambda x: binding(layer, x), z.requires_grad_())
    zeros = torch.zeros(2, 3, 6, requires_grad=True)
    vectors, lengths = binding(nn.Linear(6, 4, bias=False), zeros)
    assert (vectors == 0).all()
    assert (lengths < 1e-12).all()
    lengths.sum().backward()
    assert zeros.grad.isfinite().all()


def test_lengths_and_directions():
    z = torch.tensor([[3.0, 0.0, 1e-9, 1e12], [4.0, 0.0, 0.0, 0.0]])
    torch.testing.assert_close(length(z), torch.tensor([5.0, 0.0, 1e-9, 1e12]), atol=1e-12, rtol=1e-6)
    found = direction(z)
    torch.testing.assert_close(found[:, [0, 3]], torch.tensor([[0.6, 1.0], [0.8, 0.0]]))
    assert (found[:, 1:3].abs() < 1e-2).all()  # too short to have one


def test_a_layer_rescales_the_direction_of_its_binding():
    layer, z = RotatingLinear(6, 4, 3, chi_binding).eval(), torch.randn(3, 5, 6)
    out = layer(z)
    vectors, lengths = chi_binding(layer.weights, z)
    torch.testing.assert_close(length(out), torch.relu(layer.norm(lengths)), atol=1e-6, rtol=1e-5)
    on = length(out) > 1e-3
    torch.testing.assert_close(direction(out)[:, on], direction(vectors + layer.bias)[:, on])


def test_an_autoencoder_starts_with_one_direction_and_reads_lengths_only():
    model = RotatingAutoencoder(6, (8, 3, 8), 3, cosine_binding).eval()
    given = []
    model.layers.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    images = torch.rand(5, 6, 6)
    features, logits = model(images)
    torch.testing.assert_close(given[0][0], images.flatten(1))
    assert (given[0][1:] == 0).all()
    torch.testing.assert_close(logits, model.gain * length(features) + model.offset)
    assert features.shape == (3, 5, 6, 6)
    with pytest.raises(InputError, match="at least 2 dimensions to rotate in, got 1"):
        RotatingAutoencoder(6, (8,), 1, chi_binding)

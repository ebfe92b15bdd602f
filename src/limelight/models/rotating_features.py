"""Rotating features: each is a vector, whose length says how present it is and whose direction to what it belongs.

Löwe et al. (2306.00600) replace every number of an autoencoder by a vector of n numbers. Features of one object should
point in one direction, so that objects can be told apart. A layer applies the same real weights w to each of the n
coordinates, which gives ψ_i = Σ_j w_ij z_j, and a *binding* decides how long the output is: it should count the inputs
that point as ψ_i does, and leave out those that point the other way. The bindings here add up

    none     ‖ψ_i‖
    χ        ½‖ψ_i‖ + ½ Σ_j w_ij ‖z_j‖  =  Σ_j w_ij a_ij ‖z_j‖,   a_ij = ½(1 + cos(z_j, ψ_i))
    cosine   ‖Σ_j w_ij a_ij z_j‖

The second form of χ-binding holds because ‖ψ_i‖ = ⟨ψ_i, ψ_i⟩/‖ψ_i‖ = Σ_j w_ij ‖z_j‖ cos(z_j, ψ_i). Both are attention:
ψ_i is a query, the inputs z_j are keys, a_ij is how well they are aligned, and the values are the lengths of the inputs
for χ, and the inputs themselves for cosine binding. Unlike those of a softmax, the weights w_ij a_ij may be negative,
and they do not sum to one.

Neither has to store an alignment for each pair. a_ij = ½⟨(1, ψ_i/‖ψ_i‖), (1, z_j/‖z_j‖)⟩ is an inner product, so this
is linear attention: the sum over j is taken first, and the query comes last. The first form of χ does that. For cosine
binding Σ_j w_ij a_ij z_j = ½ψ_i + ½M_i ψ_i/‖ψ_i‖, where M_i = Σ_j w_ij z_j z_jᵀ/‖z_j‖ is a symmetric n×n matrix, whose
½n(n+1) entries come from as many passes through the layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from limelight.errors import InputError

LEAST = 1e-6  # the length that a shorter vector counts as having where a direction is needed

# A binding takes the weights, a linear map of (batch, …), and the inputs z (n, batch, …). It returns the vectors whose
# direction the outputs take, and the lengths of the outputs before normalization.
Weights: TypeAlias = Callable[[Tensor], Tensor]
Binding: TypeAlias = Callable[[Weights, Tensor], tuple[Tensor, Tensor]]


def length(z: Float[Tensor, "n batch *inputs"]) -> Tensor:
    """‖z‖ of each feature, (batch, *inputs), with the gradient 0 where it is 0.

    The smallest positive number is added before the root, whose derivative would be infinite at 0.
    `torch.linalg.vector_norm` does the same, but takes ten times as long along the first dimension.
    """
    return (z.square().sum(0) + torch.finfo(z.dtype).tiny).sqrt()


def direction(z: Float[Tensor, "n batch *inputs"]) -> Float[Tensor, "n batch *inputs"]:
    """z/‖z‖ of each feature; a vector of zeros stays as it is.

    >>> import torch
    >>> from limelight.models.rotating_features import direction
    >>> direction(torch.tensor([[3.0, 0.0], [4.0, 0.0]]))
    tensor([[0.6000, 0.0000],
            [0.8000, 0.0000]])
    """
    return z / length(z).clamp(min=LEAST)


def no_binding(weights: Weights, z: Float[Tensor, "n batch *inputs"]) -> tuple[Tensor, Tensor]:
    """(ψ, ‖ψ‖) with ψ = f_w(z): inputs of other directions are added as they are."""
    psi = _through(weights, z)
    return psi, length(psi)


def chi_binding(weights: Weights, z: Float[Tensor, "n batch *inputs"]) -> tuple[Tensor, Tensor]:
    """(ψ, ½‖ψ‖ + ½ f_w(‖z‖)): inputs that point as ψ does count in full, and those that point the other way do not.

    >>> import torch
    >>> from limelight.models.rotating_features import chi_binding
    >>> z = torch.tensor([[[2.0, -1.0]], [[0.0, 0.0]]])  # two features that point in opposite directions
    >>> chi_binding(lambda x: x.sum(-1, keepdim=True), z)[1]
    tensor([[2.]])
    """
    *psi, chi = _through(weights, torch.cat([z, length(z)[None]]))
    vectors = torch.stack(psi)
    return vectors, (length(vectors) + chi) / 2


def cosine_binding(weights: Weights, z: Float[Tensor, "n batch *inputs"]) -> tuple[Tensor, Tensor]:
    """(u, ‖u‖) with u_i = Σ_j w_ij ½(1 + cos(z_j, ψ_i)) z_j and ψ = f_w(z), without storing any alignment.

    >>> import torch
    >>> from limelight.models.rotating_features import cosine_binding
    >>> z = torch.tensor([[[2.0, -1.0]], [[0.0, 0.0]]])
    >>> cosine_binding(lambda x: x.sum(-1, keepdim=True), z)[1]
    tensor([[2.]])
    """
    n = len(z)
    rows, columns = torch.triu_indices(n, n)
    summed = _through(weights, torch.cat([z, z[rows] * direction(z)[columns]]))
    psi, entries = summed[:n], summed[n:]
    which = torch.empty(n, n, dtype=torch.long)  # which entry stands in each place of the symmetric matrix
    which[rows, columns] = which[columns, rows] = torch.arange(len(rows))
    vectors = (psi + (entries[which] * direction(psi)).sum(1)) / 2
    return vectors, length(vectors)


def _through(weights: Weights, z: Tensor) -> Tensor:
    """The weights applied to each of the coordinates, in one call."""
    return weights(z.flatten(0, 1)).unflatten(0, z.shape[:2])


def matrix_of(weights: Weights, shape: Sequence[int], dtype: torch.dtype) -> Float[Tensor, "outputs inputs"]:
    """The matrix of a linear map of (batch, *shape), such as a convolution: what it makes of each unit vector.

    >>> import torch
    >>> from limelight.models.rotating_features import matrix_of
    >>> matrix_of(torch.nn.Flatten(), (1, 2), torch.float32)
    tensor([[1., 0.],
            [0., 1.]])
    """
    units = torch.eye(math.prod(shape), dtype=dtype)
    return weights(units.unflatten(1, tuple(shape))).flatten(1).mT


def alignments(matrix: Float[Tensor, "outputs inputs"], z: Float[Tensor, "n batch inputs"]) -> Tensor:
    """a_ij = ½(1 + cos(z_j, ψ_i)) with ψ = z wᵀ, as (batch, outputs, inputs): the array that no binding has to store.

    >>> import torch
    >>> from limelight.models.rotating_features import alignments
    >>> z = torch.tensor([[[2.0, -1.0]], [[0.0, 0.0]]])  # the first points as their sum does, the second against it
    >>> alignments(torch.ones(1, 2), z)
    tensor([[[1., 0.]]])
    """
    return (1 + torch.einsum("nbi,nbj->bij", direction(z @ matrix.mT), direction(z))) / 2


class RotatingLinear(nn.Module):
    """z ↦ d/‖d‖ · ReLU(BatchNorm(m)), where (u, m) is the binding of w and z, and d = u + bias.

    z (n, batch, inputs), result (n, batch, outputs). The n coordinates share their weights. The bias is a vector for
    each output, and lets a feature prefer a direction. Lengths are normalized and rectified as numbers are elsewhere.
    """

    def __init__(self, inputs: int, outputs: int, dimensions: int, binding: Binding) -> None:
        super().__init__()
        self.weights, self.binding = nn.Linear(inputs, outputs, bias=False), binding
        self.norm = nn.BatchNorm1d(outputs)
        self.bias = nn.Parameter(torch.empty(dimensions, 1, outputs))
        nn.init.uniform_(self.bias, -1 / math.sqrt(inputs), 1 / math.sqrt(inputs))

    def forward(self, z: Float[Tensor, "n batch inputs"]) -> Float[Tensor, "n batch outputs"]:
        vectors, lengths = self.binding(self.weights, z)
        return direction(vectors + self.bias) * F.relu(self.norm(lengths))


class RotatingAutoencoder(nn.Module):
    """Rotating layers of these widths from an image's pixels back to its pixels.

    images (batch, h, w) with values in [0, 1] ↦ features (n, batch, h, w), one vector for each pixel, and logits
    (batch, h, w), a learned multiple of their lengths plus a learned number, whose sigmoid is the reconstruction. All
    pixels enter with the same direction, so that directions can only come from what the network does.

    Raises `InputError` for fewer than two dimensions, which have no directions to rotate to.

    >>> import torch
    >>> from limelight.models.rotating_features import RotatingAutoencoder, chi_binding
    >>> features, logits = RotatingAutoencoder(12, (64, 16, 64), 2, chi_binding)(torch.rand(5, 12, 12))
    >>> features.shape, logits.shape
    (torch.Size([2, 5, 12, 12]), torch.Size([5, 12, 12]))
    """

    def __init__(self, side: int, widths: tuple[int, ...], dimensions: int, binding: Binding) -> None:
        super().__init__()
        if dimensions < 2:
            raise InputError(f"RotatingAutoencoder expects at least 2 dimensions to rotate in, got {dimensions}")
        self.dimensions = dimensions
        sizes = (side**2, *widths, side**2)
        self.layers = nn.Sequential(*(RotatingLinear(a, b, dimensions, binding) for a, b in pairwise(sizes)))
        self.gain, self.offset = nn.Parameter(torch.ones(())), nn.Parameter(torch.zeros(()))

    def forward(self, images: Float[Tensor, "batch h w"]) -> tuple[Tensor, Tensor]:
        upright = F.pad(images.flatten(1)[None], (0, 0, 0, 0, 0, self.dimensions - 1))
        features = self.layers(upright).unflatten(-1, images.shape[1:])
        return features, self.gain * length(features) + self.offset

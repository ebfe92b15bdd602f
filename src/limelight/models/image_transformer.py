"""A small vision transformer in parts that can be exchanged: how an image becomes tokens, and how tokens are placed.

Two parts bring a convolution's assumptions into attention. A convolutional stem makes each token from overlapping
neighborhoods, in place of one linear map of a patch. A bias for each offset of two places of the grid tells attention
how two tokens lie to each other, in place of a vector that tells where each one is.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from limelight.errors import InputError
from limelight.models.positions import require_size
from limelight.similarity import Similarity
from limelight.similarity.forms import Parts
from limelight.similarity.tensors import upcast


class Patches(nn.Module):
    """token_p = W x_p + b: one linear map of each patch×patch square of the image, (n, h, w) ↦ (n, tokens, width).

    Nothing is known of what lies next to what, within a patch or beyond its edge. Raises `InputError` for sizes below
    1, and for an image that the patches do not fill. Source: Dosovitskiy et al. 2021 (2010.11929).

    >>> import torch
    >>> from limelight.models.image_transformer import Patches
    >>> Patches(patch=4, width=32)(torch.rand(2, 12, 12)).shape
    torch.Size([2, 9, 32])
    """

    def __init__(self, patch: int, width: int) -> None:
        super().__init__()
        require_size("patch", patch)
        require_size("width", width)
        self.patch, self.embed = patch, nn.Linear(patch * patch, width)

    def forward(self, images: Float[Tensor, "n h w"]) -> Float[Tensor, "n tokens width"]:
        _require_tiled(images, self.patch)
        patches = images.unfold(1, self.patch, self.patch).unfold(2, self.patch, self.patch)
        return self.embed(patches.flatten(3).flatten(1, 2))


class ConvolutionalStem(nn.Module):
    """token_p = W relu(K₂ ∗ relu(K₁ ∗ x))_p + b: two 3×3 convolutions of stride 2, (n, h, w) ↦ (n, h/4 · w/4, width).

    The same kernels look at every place, so that a stroke gives the same features wherever in a patch it is, and
    neighboring tokens overlap. Raises `InputError` for sizes below 1, and for images whose sides are not multiples of
    4. Source: Xiao et al. 2021 (2106.14881).

    >>> import torch
    >>> from limelight.models.image_transformer import ConvolutionalStem
    >>> ConvolutionalStem(channels=8, width=32)(torch.rand(2, 12, 12)).shape
    torch.Size([2, 9, 32])
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        require_size("channels", channels)
        require_size("width", width)
        self.first = nn.Conv2d(1, channels, 3, stride=2, padding=1)
        self.second = nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1)
        self.embed = nn.Linear(2 * channels, width)

    def forward(self, images: Float[Tensor, "n h w"]) -> Float[Tensor, "n tokens width"]:
        _require_tiled(images, 4)
        seen = torch.relu(self.second(torch.relu(self.first(images[:, None]))))
        return self.embed(seen.flatten(2).mT)


class GridBias(Similarity):
    """β_ij = b[h, row_j − row_i, column_j − column_i], learned, scale 1, for tokens that are a grid read row by row.

    Only offsets occur, so that what is learned about two places holds for every two that lie alike. Add it to a
    similarity of contents, `Dot() + GridBias(3, 3, heads=4)`. `table` is (heads, 2·rows − 1, 2·columns − 1), zero at
    first. Raises `InputError` for sizes below 1, and for other numbers of queries and keys than rows · columns.

    Source: Liu et al. 2021 (2103.14030), equation 4.

    >>> import torch
    >>> from limelight import Attention, Dot
    >>> from limelight.models.image_transformer import GridBias
    >>> q = k = torch.randn(2, 4, 9, 8)  # 4 heads, a grid of 3×3
    >>> Attention(q, k, Dot() + GridBias(3, 3, heads=4)).shape
    (2, 4, 9, 9)
    """

    same_width = False

    def __init__(self, rows: int, columns: int, heads: int) -> None:
        super().__init__()
        for name, size in (("rows", rows), ("columns", columns), ("heads", heads)):
            require_size(name, size)
        self.rows, self.columns = rows, columns
        self.table = nn.Parameter(torch.zeros(heads, 2 * rows - 1, 2 * columns - 1))

    @property
    def batch_shape(self) -> tuple[int, ...]:
        return (len(self.table),)

    def dense(self, q: Float[Tensor, "*#batch n d"], k: Float[Tensor, "*#batch m e"]) -> Float[Tensor, "heads n m"]:
        places = torch.arange(self.rows * self.columns, device=q.device)
        return self.block(self.parts(q, k), places, places)

    def parts(
        self,
        q: Float[Tensor, "*#batch n d"],
        k: Float[Tensor, "*#batch m e"],
        real: Bool[Tensor, "*#batch m"] | None = None,
    ) -> Parts:
        if not q.shape[-2] == k.shape[-2] == self.rows * self.columns:
            raise InputError(
                f"a GridBias of {self.rows}×{self.columns} places expects as many queries and keys, got "
                f"{q.shape[-2]} and {k.shape[-2]}"
            )
        return Parts(shared=(self.table.to(q.device, upcast(q).dtype),))

    def block(self, parts: Parts, i: Int[Tensor, " r"], j: Int[Tensor, " c"]) -> Float[Tensor, "heads r c"]:
        (table,) = parts.shared
        down = j // self.columns - i[:, None] // self.columns
        across = j % self.columns - i[:, None] % self.columns
        return table[..., down + self.rows - 1, across + self.columns - 1]

    def extra_repr(self) -> str:
        return f"{self.rows}, {self.columns}, heads={len(self.table)}"


class ImageTransformer(nn.Module):
    """logits = W · mean_t layers(positions(stem(x)))_t + b, for images (n, h, w).

    The stem makes tokens (n, t, width) of an image; positions and layers map tokens to others of the same shape.
    Raises `InputError` for sizes below 1.

    >>> import torch
    >>> from torch import nn
    >>> from limelight.models.image_transformer import ImageTransformer, Patches
    >>> model = ImageTransformer(Patches(4, 32), nn.Identity(), [nn.Identity()], width=32, classes=10)
    >>> model(torch.rand(2, 12, 12)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self, stem: nn.Module, positions: nn.Module, layers: Iterable[nn.Module], width: int, classes: int
    ) -> None:
        super().__init__()
        require_size("width", width)
        require_size("classes", classes)
        self.stem, self.positions, self.layers = stem, positions, nn.Sequential(*layers)
        self.classifier = nn.Linear(width, classes)

    def forward(self, images: Float[Tensor, "n h w"]) -> Float[Tensor, "n classes"]:
        return self.classifier(self.layers(self.positions(self.stem(images))).mean(1))


def _require_tiled(images: Tensor, patch: int) -> None:
    """Raise `InputError` unless the images are (n, h, w) and squares of this size fill them."""
    if images.ndim != 3 or 0 in images.shape[1:] or images.shape[1] % patch or images.shape[2] % patch:
        raise InputError(
            f"expected images (n, h, w) with sides of whole multiples of {patch} pixels, got {tuple(images.shape)}"
        )

"""Scenes of two handwritten digits and their descriptions in three words: "three left of seven".

A scene is (first, second, layout): two different digits, and 0 if the first stands left of the second or 1 if it stands
above it. Each scene has two descriptions, since "three left of seven" is "seven right of three". The digits are real
(`limelight.data.digits`); which stand together is drawn.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from limelight.errors import InputError

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
WORDS = (*DIGITS, "left of", "above", "right of", "below")  # a word's number is its place here
SIDE = 16  # pixels of a scene, each way
_LEFT_OF, _TURNED = 10, 2  # the first relation; a relation plus 2 is the one seen from the other digit
_CORNERS = torch.tensor([[[4, 0], [4, 8]], [[0, 4], [8, 4]]])  # layout, digit → row and column of its first pixel


def all_scenes() -> Int[Tensor, "180 3"]:
    """Each scene once: 45 pairs of different digits, each in two orders and two layouts."""
    digit = torch.arange(len(DIGITS))
    found = torch.cartesian_prod(digit, digit, torch.arange(2))
    return found[found[:, 0] != found[:, 1]]


def split_scenes(held_out: int, generator: torch.Generator) -> tuple[Int[Tensor, "seen 3"], Int[Tensor, "unseen 3"]]:
    """All scenes but those of `held_out` pairs of digits, and those: no order and no layout of such a pair is seen.

    Raises `InputError` unless `held_out` is from 1 to 44.

    >>> import torch
    >>> from limelight.data.described_digits import split_scenes
    >>> seen, unseen = split_scenes(9, torch.Generator().manual_seed(0))
    >>> len(seen), len(unseen)
    (144, 36)
    """
    scenes = all_scenes()
    pair = scenes[:, :2].amin(1) * len(DIGITS) + scenes[:, :2].amax(1)
    pairs = pair.unique()
    if not 1 <= held_out < len(pairs):
        raise InputError(f"split_scenes expects to hold out 1 to {len(pairs) - 1} pairs of digits, got {held_out}")
    chosen = pairs[torch.randperm(len(pairs), generator=generator)[:held_out]]
    unseen = torch.isin(pair, chosen)
    return scenes[~unseen], scenes[unseen]


def draw_scenes(
    scenes: Int[Tensor, "n 3"], images: Float[Tensor, "m 8 8"], labels: Int[Tensor, " m"], generator: torch.Generator
) -> Float[Tensor, "n 16 16"]:
    """A picture of each scene, in which each digit is one of its images, all equally likely.

    Raises `InputError` if a digit of a scene has no image.
    """
    canvas = torch.zeros(len(scenes), SIDE, SIDE)
    for place in range(2):
        corner = _CORNERS[scenes[:, 2], place]
        rows = corner[:, 0, None, None] + torch.arange(8)[:, None]
        columns = corner[:, 1, None, None] + torch.arange(8)
        at = torch.arange(len(scenes))[:, None, None], rows, columns
        canvas[at] = images[_one_of_each(scenes[:, place], labels, generator)]
    return canvas


def describe(scenes: Int[Tensor, "n 3"], generator: torch.Generator) -> Int[Tensor, "n words"]:
    """One of the two descriptions of each scene, equally likely, as numbers of `WORDS`."""
    first, second, layout = scenes.T
    turned = torch.rand(len(scenes), generator=generator) < 0.5
    subject, object_ = torch.where(turned, second, first), torch.where(turned, first, second)
    return torch.stack([subject, _LEFT_OF + layout + _TURNED * turned, object_], 1)


def sentence(words: Int[Tensor, " words"]) -> str:
    """The description in words.

    >>> import torch
    >>> from limelight.data.described_digits import sentence
    >>> sentence(torch.tensor([7, 12, 3]))
    'seven right of three'
    """
    return " ".join(WORDS[int(word)] for word in words)


def _one_of_each(digits: Int[Tensor, " n"], labels: Int[Tensor, " m"], generator: torch.Generator) -> Tensor:
    """For each digit the index of one image of it."""
    order, counts = labels.argsort(stable=True), labels.bincount(minlength=len(DIGITS))
    missing = digits[counts[digits] == 0]
    if len(missing):
        raise InputError(f"draw_scenes expects at least one image of each digit of a scene, got none of {missing[0]}")
    part = torch.rand(len(digits), generator=generator, dtype=torch.float64)
    return order[(counts.cumsum(0) - counts)[digits] + (part * counts[digits]).long()]

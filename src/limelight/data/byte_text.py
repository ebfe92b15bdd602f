"""Text as the bytes of its UTF-8, for models that ship no tokenizer: any text in any language has 256 tokens."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

BEGIN = 256  # the token before a text
TOKENS = 257


def encoded(text: str) -> Int[Tensor, " n"]:
    """`BEGIN`, and then the bytes of the text. Raises `UnicodeEncodeError` for halves of surrogate pairs.

    >>> from limelight.data.byte_text import encoded
    >>> encoded("aé").tolist()
    [256, 97, 195, 169]
    """
    return torch.tensor([BEGIN, *text.encode()])


class ByteTokenizer:
    """The part of a tokenizer's interface that shows tokens to people.

    >>> from limelight.data.byte_text import ByteTokenizer, encoded
    >>> ByteTokenizer().decode(encoded("aé").tolist())
    '⟨begin⟩aé'
    """

    unk_token_id = None

    def decode(self, ids: Sequence[int], **options: object) -> str:
        """The text of these tokens; bytes that are no whole character are U+FFFD."""
        begin = "⟨begin⟩" if BEGIN in ids[:1] else ""
        return begin + bytes(i for i in ids if i != BEGIN).decode("utf-8", "replace")

    def convert_ids_to_tokens(self, token: int) -> str:
        return self.decode([token])

    def convert_tokens_to_ids(self, token: str) -> None:
        """None: a token of its own for a piece of a word, as other tokenizers have, does not exist."""


@cache
def following() -> Float[Tensor, "257 257"]:
    """log p(next byte | byte) in the reference documentation of Python's language, which every Python brings along.

    One is added to each count, so that no byte is impossible; what begins a text follows `BEGIN`.

    >>> from limelight.data.byte_text import following
    >>> chr(following()[ord("q")].argmax())
    'u'
    """
    from pydoc_data.topics import topics

    text = torch.cat([encoded(topics[name]) for name in sorted(topics)])
    counts = torch.bincount(text[:-1] * TOKENS + text[1:], minlength=TOKENS * TOKENS).view(TOKENS, TOKENS) + 1.0
    counts[:, BEGIN] = 1e-3  # no byte is followed by another beginning
    return (counts / counts.sum(-1, keepdim=True)).log()

"""What an attention over several ranks sends, holds and computes."""

import torch
from benchmarks.scale import bytes_sent

from limelight import Euclidean, Softmax, causal, distributed
from limelight.distributed import passes
from tests.dispatch import Largest


def measured(n, alpha, is_causal):
    """(bytes sent forward, backward, the largest tensor, visible pairs in the blocks of each step) of this rank."""
    sent, pairs, blocks = bytes_sent(), [], passes.Plan._blocks

    def seen(plan, *given):
        pairs.append(0)
        for block in blocks(plan, *given):
            n, m = (side.stop - side.start for side in (block.rows, block.cols))
            whole = block.mask is None
            pairs[-1] += n * m if whole else int(block.mask.block(slice(0, n), slice(0, m), torch.device("cpu")).sum())
            yield block

    passes.Plan._blocks = seen
    q, k, v = (distributed.shard(torch.randn(2, n, 64)).requires_grad_() for _ in range(3))
    largest = Largest()
    with largest:
        out = distributed.attend(
            q, k, v, causal if is_causal else None, similarity=Euclidean(8.0), normalization=Softmax(alpha),
            order="zigzag",
        )  # fmt: skip
        forward, pairs_forward = sent[0], [*pairs]
        out.sum().backward()
    own = k.nbytes + v.nbytes
    return [forward / own, (sent[0] - forward) / own, largest.entries / k.numel(), pairs_forward]


def both():
    return {"causal": measured(1024, 0.0, True), "alpha": measured(1024, 0.5, False)}

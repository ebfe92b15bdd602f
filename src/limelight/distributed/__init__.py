"""Attention over sequences whose rows are on several processes, on `torch.distributed`.

Everything is made of pairs (out, log-sum-exp), which merge exactly: keys and values travel round a ring of ranks, and
each rank keeps a running pair for its own queries. Nothing n × n is stored, and no rank gathers keys.
"""

from limelight.distributed.order import gather, shard
from limelight.distributed.sharded import ShardedAttention, attend

__all__ = ["ShardedAttention", "attend", "gather", "shard"]

"""Which operations of torch a call makes, and how large the tensors are."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class Counting(TorchDispatchMode):
    """Within the block, `count` says how many of the given operations were made, or of any if none are given."""

    def __init__(self, operations=None):
        super().__init__()
        self.operations, self.count = operations, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += self.operations is None or function in self.operations
        return function(*args, **(kwargs or {}))


class Largest(TorchDispatchMode):
    """Within the block, `entries` is the number of entries of the largest tensor that was made, as it is stored."""

    entries = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for x in made if isinstance(made, (tuple, list)) else [made]:
            if isinstance(x, torch.Tensor):
                self.entries = max(self.entries, x.untyped_storage().nbytes() // x.itemsize)
        return made

"""Training that goes on where an interrupted run left it.

A trial may take hours, and the process may be killed before it ends. Every minute `resumable_steps` saves what the loop
has changed: weights, the optimizer's moments, the losses so far, and the states of the random number generators. The
same trial, started again, reads them and goes on from there, and its result is the same to the last bit as if nothing
had happened.

Where a loop is saved is not its own concern: whoever runs a trial says it with `saving_to`
(`limelight.experiment.unfinished` does, with files). A loop that nobody saves is a plain one.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from limelight.errors import InputError
from limelight.models.training import adam, gradient_step

INTERVAL = 60.0  # seconds between two saves


class Stateful(Protocol):
    """A module, an optimizer, a schedule of rates, or another object whose state is a dictionary."""

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state_dict: dict[str, Any]) -> Any: ...


State = Stateful | torch.Generator | list[float]


class Storage(Protocol):
    """Where the loops of one trial are saved. They are numbered in the order in which they begin."""

    def next_loop(self) -> int: ...
    def load(self, loop: int) -> tuple[list[Tensor], str] | None: ...
    def save(self, loop: int, tensors: Sequence[Tensor], text: str) -> None: ...


_storage: ContextVar[Storage | None] = ContextVar("storage", default=None)


@contextlib.contextmanager
def saving_to(storage: Storage | None) -> Iterator[None]:
    """Save the loops that begin within this block in this storage; with None they are not saved."""
    token = _storage.set(storage)
    try:
        yield
    finally:
        _storage.reset(token)


def resumable_steps(steps: int, *state: State) -> Iterator[int]:
    """The numbers 0, 1, …, steps − 1, or what is left of them if an interrupted run of the same trial got further.

    `state` is all that the body of the loop changes: modules, optimizers, schedules, generators, and lists of numbers,
    for example the losses. Every minute it is saved, together with torch's and NumPy's own generators. Before the first
    number is returned, it is set to what was saved. Whatever else the body changes would start anew, so a loop that
    changes something else must not be resumed. A loop shorter than a minute is not saved.

    Raises `InputError` for other kinds of state, for a state that holds something else than tensors, numbers and text,
    and for fewer than zero steps.

    >>> import torch
    >>> from limelight.models.resumable import resumable_steps
    >>> model = torch.nn.Linear(2, 1)
    >>> optimizer, losses = torch.optim.SGD(model.parameters(), lr=0.1), []
    >>> for step in resumable_steps(3, model, optimizer, losses):
    ...     loss = model(torch.ones(1, 2)).square().mean()
    ...     loss.backward()
    ...     optimizer.step()
    ...     losses.append(loss.item())
    >>> len(losses)
    3
    """
    if steps < 0:
        raise InputError(f"steps expects a whole number ≥ 0, got {steps}")
    for part in state:
        if not isinstance(part, (torch.Generator, list)) and not hasattr(part, "load_state_dict"):
            raise InputError(
                "state expects modules, optimizers, schedules, generators and lists of numbers, got "
                f"{type(part).__name__}"
            )
        _packed(_state_of(part), [])  # raises for what cannot be saved now, not after a minute
    storage = _storage.get()
    return iter(range(steps)) if storage is None else _saved_steps(storage, steps, state)


def descend_resumably(
    model: nn.Module,
    loss: Callable[[], Tensor],
    steps: int,
    lr: float,
    weight_decay: float = 0.0,
    generators: Sequence[torch.Generator] = (),
) -> list[float]:
    """The losses before each step of Adam on `loss()`, as from `descend`, by a loop that can be resumed.

    `generators` are those from which `loss` draws. It must not change anything else but the model. Raises
    `DivergenceError` when the loss is NaN or infinite.
    """
    optimizer, losses = adam(model, lr, weight_decay), list[float]()
    for step in resumable_steps(steps, model, optimizer, losses, *generators):
        losses.append(gradient_step(optimizer, loss, step))
    return losses


def _saved_steps(storage: Storage, steps: int, state: Sequence[State]) -> Iterator[int]:
    loop, saved = storage.next_loop(), time.monotonic()
    first = _resume(storage, loop, state)
    for step in range(first, steps):
        yield step
        if time.monotonic() - saved >= INTERVAL:
            _save(storage, loop, step + 1, state)
            saved = time.monotonic()


def _resume(storage: Storage, loop: int, state: Sequence[State]) -> int:
    """Set the state to what was saved, and return the number of steps that were done; 0 if nothing was saved."""
    found = storage.load(loop)
    if found is None:
        return 0
    tensors, text = found
    parts = _unpacked(json.loads(text), tensors)
    for part, content in zip(state, parts["state"], strict=True):
        _set(part, content)
    _set_own_generators(parts["torch"], parts["gpus"], parts["numpy"])
    return int(parts["steps"])


def _save(storage: Storage, loop: int, steps: int, state: Sequence[State]) -> None:
    tensors: list[Tensor] = []
    text = json.dumps(
        _packed({"steps": steps, "state": [_state_of(part) for part in state], **_own_generators()}, tensors)
    )
    storage.save(loop, tensors, text)


def _state_of(part: State) -> Any:
    if isinstance(part, torch.Generator):
        return part.get_state()
    return part if isinstance(part, list) else part.state_dict()


def _set(part: State, content: Any) -> None:
    if isinstance(part, torch.Generator):
        part.set_state(content)
    elif isinstance(part, list):
        part[:] = content
    else:
        part.load_state_dict(content)


def _own_generators() -> dict[str, Any]:
    """The states of torch's and NumPy's own generators, which belong to the process."""
    of_numpy: Any = np.random.get_state(legacy=False)  # noqa: NPY002 (libraries draw from it)
    key = torch.from_numpy(of_numpy["state"]["key"].astype(np.int64))
    gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return {
        "torch": torch.get_rng_state(),
        "gpus": gpus,
        "numpy": of_numpy | {"state": of_numpy["state"] | {"key": key}},
    }


def _set_own_generators(of_torch: Tensor, of_gpus: list[Tensor], of_numpy: dict[str, Any]) -> None:
    torch.set_rng_state(of_torch)
    if of_gpus:
        torch.cuda.set_rng_state_all(of_gpus)
    key = of_numpy["state"]["key"].numpy().astype(np.uint32)
    np.random.set_state(of_numpy | {"state": of_numpy["state"] | {"key": key}})  # noqa: NPY002


def _packed(value: Any, tensors: list[Tensor]) -> Any:
    """A nested value as JSON knows it. Tensors are appended to the list, and replaced by their place in it."""
    if isinstance(value, Tensor):
        tensors.append(value.detach())
        return {"tensor": len(tensors) - 1}
    if isinstance(
        value, Mapping
    ):  # as pairs, since JSON would make text of the numbers that name an optimizer's states
        return {"pairs": [[key, _packed(part, tensors)] for key, part in value.items()]}
    if isinstance(value, (list, tuple)):
        return [_packed(part, tensors) for part in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise InputError(f"state expects tensors, numbers and text in what is saved, got {type(value).__name__}")


def _unpacked(value: Any, tensors: Sequence[Tensor]) -> Any:
    if isinstance(value, list):
        return [_unpacked(part, tensors) for part in value]
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        return tensors[value["tensor"]]
    return {key: _unpacked(part, tensors) for key, part in value["pairs"]}

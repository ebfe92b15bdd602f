"""`measuring`: the measures of every head while a model runs, of which nothing else is kept."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import nn

from limelight.errors import InputError
from limelight.microscope.attach import Compared, require_model, separators_of
from limelight.microscope.call import Call
from limelight.microscope.head_measures import MEASURES, Measure
from limelight.microscope.head_table import Table, tabulate
from limelight.microscope.output_maps import value_then_output
from limelight.microscope.recorder import Observation, Recorder
from limelight.microscope.watched_attention import WatchedAttention, watched


class Measuring:
    """What has been measured so far: `table()`. `difference` is that of the model's outputs, as in a `Scope`."""

    def __init__(self, recorder: _Measuring) -> None:
        self._recorder = recorder
        self.difference: float | None = None

    def table(self) -> Table:
        """One row for each layer, head, text and step; as `Scope.table`. Raises `InputError` where nothing ran yet."""
        tables = self._recorder.tables[: len(self._recorder.calls)]
        if not tables:
            raise InputError("nothing ran yet: call the model within the `with measuring(model) as measured:` block")
        return Table({name: [x for table in tables for x in table[name]] for name in tables[0]})


@contextmanager
def measuring(
    model: nn.Module, measures: Sequence[Measure] = MEASURES, *, separators: Iterable[int] | None = None
) -> Iterator[Measuring]:
    """Measure every head of a model while it runs, and keep no queries and keys.

    The numbers are those of `attach` and `Scope.table`, and what is said there of the model's output, of errors and of
    `separators` holds here, too. But each layer is measured when it has run, and then let go, so that many layers and
    long texts take little more memory than the model itself. There is no `scope` afterwards: no single head can be
    looked at, no map be drawn, and no head be changed.

    >>> import torch
    >>> from limelight import microscope
    >>> model = torch.nn.TransformerEncoderLayer(8, 2, batch_first=True).eval()
    >>> with torch.no_grad(), microscope.measuring(model) as measured:
    ...     out = model(torch.randn(1, 6, 8))
    >>> measured.difference, len(measured.table()["entropy"])
    (0.0, 2)
    """
    require_model(model)
    tabulate((), measures)  # raises for what are no measures, before the model runs
    ends = separators_of(model) if separators is None else frozenset(separators)
    numbers: dict[tuple[str, int], int] = {}

    def heads_of(call: Call) -> Iterator[WatchedAttention]:
        layer = numbers.setdefault(call.name, len(numbers))
        maps = functools.cache(functools.partial(value_then_output, model, call.layer, call.heads))
        return (watched(call, layer, text, None, ends, maps) for text in range(len(call.texts)))

    recorder = _Measuring(lambda call: tabulate(heads_of(call), measures))
    found = Measuring(recorder)
    with Compared(model, recorder, found):
        yield found


class _Measuring(Recorder):
    """A recorder that measures each call, and keeps of it only what the next step of a generation has to know."""

    def __init__(self, measure: Callable[[Call], Table]) -> None:
        super().__init__()
        self.measure = measure
        self.tables: list[Table] = []  # one for each call; those of a pass that was not finished are overwritten

    @torch.no_grad()
    def record(self, seen: Observation) -> Call:
        call = super().record(seen)
        with self.telling():  # measures call attention, too
            table = self.measure(call)
        del self.tables[len(self.calls) - 1 :]
        self.tables.append(table)
        no_query = call.query.new_empty(*call.query.shape[:-1], 0)
        light = replace(call, query=no_query, keys=call.keys.last(call.m), biases=(), normalizers={})
        self.calls[-1] = self._latest[call.name] = light
        return call

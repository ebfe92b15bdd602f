"""The control of a field on a page: a label with a slider, radio buttons, a checkbox, a list, or a field for a text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from dash import dcc, html
from dash.development.base_component import Component

from limelight.lab.address import Choice, Field, Listed, Moved, Number, Switch, Text, Value, Values, read, to_query

_NOTCHES = 200  # positions of a logarithmic slider


def control(field: Field, value: Value) -> Component:
    """The label and the control of a field. The control shows the given value."""
    key = {"field": field.name}
    if isinstance(field, Number):
        low, high, step = (field.low, field.high, field.step) if not field.log else (0, _NOTCHES, 1)
        return html.Label(
            [
                html.Span(field.label),
                html.Span(_shown(value), id={"said": field.name}, className="value"),
                dcc.Input(id=key, type="range", min=low, max=high, step=step, value=to_control(field, value)),
            ],
            className="number",
        )
    if isinstance(field, Choice):
        options = [{"label": label, "value": name} for name, label in field.options.items()]
        return html.Fieldset([html.Legend(field.label), dcc.RadioItems(options, value, id=key, className="choice")])
    if isinstance(field, Moved):
        return html.Div(dcc.Input(id=key, type="hidden", value=value), hidden=True)
    if isinstance(field, Text):
        area = dcc.Textarea(id=key, value=value, rows=field.rows, className="text")
        return html.Div([html.Label([html.Span(field.label), area], className="written"), *_faults(field)])
    if isinstance(field, Listed):
        return html.Div([_list(field, str(value)), dcc.Input(id=key, type="hidden", value=value), *_faults(field)])
    options = [{"label": field.label, "value": "on"}]
    return html.Div(dcc.Checklist(options, ["on"] if value else [], id=key, className="switch"))


def _list(field: Listed, value: str) -> Component:
    """A list with one name, until the simulation has sent the others. The name chosen is held by a hidden input."""
    options = [html.Option(value, value=value)]
    return html.Label(
        [html.Span(field.label), html.Select(options, id={"list": field.name}, className="list")], className="written"
    )


def _faults(field: Field) -> list[Component]:
    """Places for the sentences on a value that cannot be used: of the server, and of the simulation."""
    return [html.P(id={kind: field.name}, className="fault", role="status") for kind in ("fault", "refused")]


def to_control(field: Field, value: Value) -> Any:
    """A field's value as its control holds it: a position of a logarithmic slider, a list for a checkbox."""
    if isinstance(field, Number):
        if not field.log:
            return float(value)
        share = math.log(float(value) / field.low) / math.log(field.high / field.low)
        return round(_NOTCHES * share)
    return (["on"] if value else []) if isinstance(field, Switch) else value


def from_control(field: Field, held: Any, before: Value | None = None) -> Any:
    """The value of the field for a value that its control holds, not yet validated by `address.read`.

        If the control stands where the value `before` puts it, `before` is returned: a logarithmic slider has only 200
    positions, and the nearest one would change the value.
    """
    if before is not None and held == to_control(field, before):
        return before
    if isinstance(field, Number) and field.log:
        try:
            share = float(held) / _NOTCHES
            return float(f"{field.low * (field.high / field.low) ** share:.2g}")
        except (TypeError, ValueError, OverflowError):
            return held
    if isinstance(field, Switch) and isinstance(held, list):
        return held == ["on"]
    return held


def held(fields: Sequence[Field], controls: Mapping[str, Any], before: Values) -> tuple[Values, list[str]]:
    """The values of the controls, validated by `address.read`. A field without a control has its value in `before`.

    So does a text field whose text cannot be used, so that the page goes on showing what it showed.
    """
    known = {field.name: field for field in fields}
    came = {name: from_control(known[name], value, before[name]) for name, value in controls.items() if name in known}
    values, wrong = read(fields, {**before, **came})
    kept = {
        name: before[name] for name, field in known.items() if isinstance(field, Text) and _sentences_on(field, wrong)
    }
    return {**values, **kept}, wrong


def _sentences_on(field: Field, wrong: Sequence[str]) -> list[str]:
    """The sentences on this field, all of which begin with its label."""
    return [sentence for sentence in wrong if sentence.startswith(f"{field.label}: ")]


def settings(fields: Sequence[Field], values: Values, wrong: Sequence[str]) -> dict[str, Any]:
    """What a page shows of its values: the numbers beside sliders, the address, and sentences on invalid values.

    `faults` are the sentences that are shown at their fields, `wrong` all others.
    """
    numbers = {field.name: _shown(values[field.name]) for field in fields if isinstance(field, Number)}
    faults = {field.name: " ".join(_sentences_on(field, wrong)) for field in fields if isinstance(field, Text | Listed)}
    others = " ".join(sentence for sentence in wrong if sentence not in faults.values())
    return {
        "values": values, "said": numbers, "query": to_query(fields, values), "wrong": others, "faults": faults
    }  # fmt: skip


def _shown(value: Value) -> str:
    return f"{value:g}".replace("-", "−")


def panel(fields: Sequence[Field], groups: Sequence[tuple[str, Sequence[str]]], values: Values) -> list[Component]:
    """All controls, each group under its heading. The groups after the first are collapsed at first."""
    known: Mapping[str, Field] = {field.name: field for field in fields}
    listed = groups or [("", list(known))]
    shown = []
    for i, (heading, names) in enumerate(listed):
        controls = [control(known[name], values[name]) for name in names]
        shown.append(
            html.Div(controls) if not heading else html.Details([html.Summary(heading), *controls], open=i == 0)
        )
    return shown

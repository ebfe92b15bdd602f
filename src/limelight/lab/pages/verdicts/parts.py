"""A verdict as words, numbers and bars, which look as in the report."""

from __future__ import annotations

from collections.abc import Sequence

from dash import html
from dash.development.base_component import Component

from limelight.experiment.verdict import Part, Verdict
from limelight.report.effect_text import (
    HEADING,
    MARKS,
    alt_text,
    describe_control,
    doubt_text,
    estimate_text,
    expectation,
    interval_text,
)
from limelight.report.forest_plot import bar_layout


def badge(outcome: str) -> Component:
    """The verdict in one word."""
    return html.Span(outcome, className=f"verdict {outcome}")


def bar(part: Part, outcome: str | None = None) -> Component:
    """The interval as a line with its estimate as a dot; the side of the threshold that was expected is shaded."""
    at = bar_layout(part)
    dot = [] if at.estimate is None else [html.Span(className="dot", style={"left": f"{at.estimate:.1%}"})]
    return html.Div(
        [
            html.Span(className="range", style=_span(*at.expected)),
            html.Span(className="threshold", style={"left": f"{at.threshold:.1%}"}),
            html.Span(className="line", style=_span(at.low, at.high)),
            *dot,
        ],
        className=f"effect-bar {outcome or part.outcome}",
        role="img",
        **{"aria-label": alt_text(part)},
    )


def _span(start: float, end: float) -> dict[str, str]:
    return {"left": f"{start:.1%}", "width": f"{end - start:.1%}"}


def figures(part: Part) -> list[Component | str]:
    """The effect, its interval and its unit."""
    unit = "" if part.effect.summary == "share" else f" {part.unit}"
    doubt = doubt_text(part)
    reason = [html.Br(), html.Span(doubt, className="interval")] if doubt else []
    return [f"{estimate_text(part)} ", html.Span(interval_text(part), className="interval"), unit, *reason]


def effect(part: Part, described: bool = False) -> Component:
    """A part in a small space: its effect and its bar, below its description if `described`."""
    words = [html.Div(part.description, className="says")] if described else []
    return html.Div([*words, html.Div([bar(part), html.Span(figures(part))], className="effect")])


def ruling(verdict: Verdict, finding: str) -> Component:
    """The verdict in one word, and what was found in one sentence."""
    return html.P([badge(verdict.outcome), " ", finding], className="ruling")


def parts(verdict: Verdict, seeds: int) -> Component:
    """A table of the parts of a verdict, with its control in the last row."""
    headings = ("Part", HEADING.capitalize(), "Expected", html.Span("As a bar", className="hidden"))
    caption = f"Each part of the claim: the effect in {seeds} seed{'' if seeds == 1 else 's'}, beside what was expected"
    return html.Table(
        [
            html.Caption(caption),
            html.Thead(html.Tr([html.Th(heading, scope="col") for heading in headings])),
            html.Tbody([*(_line(part, _mark(part)) for part in verdict.parts), _control(verdict.control)]),
        ],
        className="parts",
    )


def _mark(part: Part) -> Sequence[Component | str]:
    mark = html.Span(
        [MARKS[part.outcome], html.Span(f" {part.outcome}: ", className="hidden")], className=f"mark {part.outcome}"
    )
    return [mark, " ", part.description]


def _control(part: Part) -> Component:
    return _line(part, [html.Span("control", className="mark control"), " ", describe_control(part)], "control")


def _line(part: Part, words: Sequence[Component | str], kind: str = "") -> Component:
    return html.Tr(
        [
            html.Td(list(words)),
            html.Td(figures(part), className="figure"),
            html.Td(expectation(part), className="figure"),
            html.Td(bar(part, kind or None)),
        ],
        className=kind,
    )

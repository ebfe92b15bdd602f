"""The pictures of the site in docs/images, drawn by the library: `python -m docs.pictures`. Needs Debian's Chromium.

Results that are missing are computed first.
"""

from __future__ import annotations

import base64
import json
import math
import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import torch
from benchmarks import use_report
from playwright.sync_api import Browser, sync_playwright
from plotly.graph_objects import Figure
from plotly.offline import get_plotlyjs

from limelight import Attention, Dot, Euclidean, Softmax, Sparsemax, causal, figures, window
from limelight.claims.drift_diffusion import drift_fields
from limelight.classical import KernelRegressor
from limelight.experiment import catalog, runner
from limelight.experiment.store import Store
from limelight.propagation import heat
from limelight.report.comparison import comparison

IMAGES = Path(__file__).parent / "images"
RESULTS = Path(__file__).parent.parent / "results"
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
SWITCHES = ["--no-sandbox", "--disable-background-networking", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
INK = {"light": "#333", "dark": "#ccc"}


def mechanisms() -> dict[str, Figure]:
    """Four mechanisms on the same 24 points around a ring, of which every sixth is twice as far out."""
    angle = torch.arange(24, dtype=torch.float64) * (math.tau / 24)
    length = 1 + (torch.arange(24) % 6 == 0).double()
    x = length[:, None] * torch.stack([angle.cos(), angle.sin()], -1)
    operators = {
        "dot": ("Dot(), Softmax()", Attention(x, x, Dot(), scale=3.0)),
        "euclidean": ("Euclidean(), Softmax()", Attention(x, x, Euclidean(), scale=3.0)),
        "doubly": ("Dot(), Softmax(alpha=1)", Attention(x, x, Dot(), Softmax(alpha=1.0), scale=3.0)),
        "sparsemax": ("Dot(), Sparsemax(), causal", Attention(x, x, Dot(), Sparsemax(), causal, scale=1.0)),
    }
    return {
        name: figures.matrices({title: A.dense().numpy()}, "key", "query", "weight")[0]
        for name, (title, A) in operators.items()
    }


def temperature() -> dict[str, Figure]:
    """One query and six keys at rising temperature: the weights, and the free energy that they minimize."""
    energy = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0], dtype=torch.float64)
    tau = np.linspace(0.05, 4, 80)
    q, k = torch.ones(1, 1, dtype=torch.float64), -energy[:, None]
    operators = [Attention(q, k, Dot(), scale=1 / float(t)) for t in tau]
    free = np.array([float(A.free_energy()) for A in operators])
    chaos = tau * np.array([float(A.entropy()) for A in operators])
    series = {"mean energy E": free + chaos, "τH": chaos, "free energy F = E − τH": free}
    return {
        "temperature": figures.stacked_area(
            tau, np.stack([A.dense()[0].numpy() for A in operators]), "key", "temperature τ", "weight"
        ),
        "energies": lines(series, tau, "temperature τ", "energy", gray=False),
    }


def spreading_heat() -> dict[str, Figure]:
    """exp(t (P − 1)) h on a ring, from one point."""
    n = 200
    angle = torch.arange(n, dtype=torch.float64) * (math.tau / n)
    x = torch.stack([angle.cos(), angle.sin()], -1)
    A = Attention(x, x, Euclidean(0.08))
    h = torch.zeros(n, 1, dtype=torch.float64)
    h[n // 2] = 1
    series = {f"t = {t}": heat(A, h, float(t))[:, 0].numpy() for t in (2, 8, 32)}
    return {"heat": lines(series, np.arange(n), "point", "heat", gray=False)}


def drifts() -> dict[str, Figure]:
    """How one step moves the points of a torus, minus the part that is diffusion."""
    softmax, _, doubly, _ = drift_fields()
    return {
        "drift-softmax": softmax.update_layout(title_text="Softmax, α = 0"),
        "drift-doubly": doubly.update_layout(title_text="Doubly normalized, α = 1"),
    }


def tails() -> dict[str, Figure]:
    """The weight of a key against its distance, divided by the weight at distance zero."""
    far = np.linspace(-6, 6, 121)
    return {"tails": lines({"Cauchy": 1 / (1 + far**2), "Gaussian": np.exp(-(far**2) / 2)}, far, "q − k", "weight")}


def entropies() -> dict[str, Figure]:
    """The entropy of each query under a causal mask and under a window."""
    n = 1000
    x = torch.randn(n, 16, generator=torch.Generator().manual_seed(0))
    at = np.arange(1, n + 1)
    series = {
        "causal": Attention(x, x, Euclidean(2.0), mask=causal).entropy().numpy(),
        "causal, window of 64": Attention(x, x, Euclidean(2.0), mask=causal & window(64, 0)).entropy().numpy(),
        "log(i + 1)": np.log(at),
    }
    some = slice(None, None, 4)
    return {
        "entropy": lines(
            {name: values[some] for name, values in series.items()},
            at[some],
            "position i of the query",
            "entropy, nats",
        )
    }


def regression() -> dict[str, Figure]:
    """Kernel regression with three bandwidths, and the true function."""
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 6, (300, 1))
    y = np.sin(2 * x[:, 0]) + rng.normal(0, 0.3, 300)
    grid = np.linspace(0.2, 5.8, 200)[:, None]
    series = {f"h = {h:g}": KernelRegressor(bandwidth=h).fit(x, y).predict(grid) for h in (0.03, 0.15, 1.0)}
    return {"regression": lines(series | {"truth": np.sin(2 * grid[:, 0])}, grid[:, 0], "x", "y")}


def search() -> dict[str, Figure]:
    """What became of the claim about similarity search: ten seeds, which are run where they are missing."""
    claim, store = catalog.claim("similarity_search"), Store(RESULTS)
    runner.run(runner.missing(runner.trials([claim], runner.QUICK), store), store)
    (figure,) = comparison(store.results(claim, runner.QUICK), ["new"])
    return {"search": figure}


def lines(series: Mapping[str, np.ndarray], at: np.ndarray, x: str, y: str, gray: bool = True) -> Figure:
    """One line for each name. With `gray` the last line is gray, as a reference."""
    rows = {name: values[None] for name, values in series.items()}
    return figures.curves(rows if gray else {**rows, "": np.empty((0, 0))}, at.tolist(), x, y)


def in_use() -> dict[str, Figure]:
    """The times of ordinary uses, from the run that is stored in docs/speed.json."""
    results = json.loads((Path(__file__).with_name("speed.json")).read_text(encoding="utf-8"))
    return {"use": use_report.figure(results)}


# The functions that make pictures, and the width and height of each picture.
PICTURES: tuple[tuple[Callable[[], dict[str, Figure]], int, int], ...] = (
    (mechanisms, 340, 300),
    (temperature, 440, 330),
    (spreading_heat, 540, 320),
    (drifts, 440, 380),
    (tails, 540, 320),
    (entropies, 540, 320),
    (regression, 540, 320),
    (search, 540, 340),
    (in_use, 640, 1150),
)


def draw(browser: Browser, name: str, figure: Figure, width: int, height: int, folder: Path) -> None:
    """Draw a figure for a light and for a dark page, without background: as SVG, or as PNG if it is a heat map."""
    kind, scale = ("png", 1.5) if any(trace.type == "heatmap" for trace in figure.data) else ("svg", 1)
    page = browser.new_page()
    page.set_content("<body></body>")
    page.add_script_tag(content=get_plotlyjs())
    for scheme, ink in INK.items():
        inked = Figure(figure).update_layout(font_color=ink)
        url = page.evaluate(
            "([figure, size]) => Plotly.toImage(JSON.parse(figure), size)",
            [inked.to_json(), {"format": kind, "width": width, "height": height, "scale": scale}],
        )
        head, _, content = url.partition(",")
        written = base64.b64decode(content) if head.endswith("base64") else steady(unquote(content)).encode()
        (folder / f"{name}-{scheme}.{kind}").write_bytes(written)
    page.close()


def steady(svg: str) -> str:
    """The SVG with Plotly's random identifiers replaced by numbers, so that a figure always gives the same file."""
    found = dict.fromkeys(re.findall(r"(?:clip|defs-|topdefs-|legend)([0-9a-f]{6})", svg))
    for i, random in enumerate(found):
        svg = svg.replace(random, f"{i:06d}")
    return re.sub(r"(\d\.\d{2})\d+", r"\1", svg)


def site(browser: Browser, folder: Path = IMAGES) -> None:
    """All pictures of the site."""
    for make, width, height in PICTURES:
        for name, figure in make().items():
            draw(browser, name, figure, width, height, folder)


if __name__ == "__main__":
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
        site(browser)
        browser.close()

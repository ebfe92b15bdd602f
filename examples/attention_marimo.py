import marimo

app = marimo.App(width="medium")


@app.cell
def _():
    import math

    import marimo as mo
    import numpy as np
    import torch

    from limelight import Attention, Dot, Entmax, Euclidean, Sinkhorn, Softmax, Sparsemax, StudentT, causal, figures

    return (
        Attention,
        Dot,
        Entmax,
        Euclidean,
        Sinkhorn,
        Softmax,
        Sparsemax,
        StudentT,
        causal,
        figures,
        math,
        mo,
        np,
        torch,
    )


@app.cell
def _(mo):
    mo.md("""
    # An attention to play with

    Twenty-four tokens on a ring; every sixth is further out. Choose a similarity, a normalization and a mask, and see
    the weights of the operator. Needs `pip install -e '.[claims]' marimo` in a clone of Limelight.
    """)
    return


@app.cell
def _(Dot, Entmax, Euclidean, Sinkhorn, Softmax, Sparsemax, StudentT):
    similarities = {"dot": Dot(), "Euclidean": Euclidean(), "Student's t": StudentT()}
    normalizations = {
        "softmax": Softmax(),
        "doubly normalized": Softmax(alpha=1.0),
        "Sinkhorn": Sinkhorn(steps=50),
        "sparsemax": Sparsemax(),
        "entmax": Entmax(1.5),
    }
    return normalizations, similarities


@app.cell
def _(mo, normalizations, similarities):
    similarity = mo.ui.dropdown(list(similarities), value="dot", label="similarity")
    normalization = mo.ui.dropdown(list(normalizations), value="softmax", label="normalization")
    earlier = mo.ui.checkbox(label="causal")
    out = mo.ui.slider(1.0, 3.0, step=0.25, value=2.0, label="how far out")
    temperature = mo.ui.slider(0.05, 2.0, step=0.05, value=0.35, label="temperature")
    mo.vstack([mo.hstack([similarity, normalization, earlier], justify="start"), mo.hstack([out, temperature])])
    return earlier, normalization, out, similarity, temperature


@app.cell
def _(math, out, torch):
    angle = torch.arange(24, dtype=torch.float64) * (math.tau / 24)
    length = torch.where(torch.arange(24) % 6 == 0, out.value, 1.0).double()
    x = length[:, None] * torch.stack([angle.cos(), angle.sin()], -1)
    return (x,)


@app.cell
def _(Attention, causal, earlier, mo, normalization, normalizations, similarities, similarity, temperature, x):
    mixes = normalizations[normalization.value].uses_column_sums
    mo.stop(
        earlier.value and mixes, mo.md("This normalization divides by sums over all queries: it would leak the future.")
    )
    A = Attention(
        x,
        x,
        similarities[similarity.value],
        normalizations[normalization.value],
        causal if earlier.value else None,
        scale=1 / temperature.value,
    )
    return (A,)


@app.cell
def _(A, figures):
    figures.matrices({"weights": A.dense().numpy()}, "key", "query", "weight")[0]
    return


@app.cell
def _(A, figures, np):
    series = {"keys mixed": A.entropy().exp(), "mass of the key": A.column_mass(), "even": np.ones(24)}
    figures.curves({name: np.asarray(row)[None] for name, row in series.items()}, 1, "token", "")
    return


if __name__ == "__main__":
    app.run()

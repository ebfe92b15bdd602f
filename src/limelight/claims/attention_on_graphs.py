"""Attention on graphs: nodes take a mean of their neighbors, weighted by a similarity that is learned.

Ruan & Zhang (2412.18288) say of their metric-attention that it outperforms self-attention in training efficiency,
accuracy and robustness, and that on graphs it is the same with neighbors in place of all points. They have no numbers on
graphs. The usual task is to name the class of each node of a graph when the classes of 20 nodes each are known, and the
usual attention there is GAT's, whose score is a sum of one number for each of the two nodes.

The graph is generated: five communities of unequal size, nodes with few or many neighbors, of which 40 % are of another
class, and features so noisy that a network which sees them alone names a third of the nodes wrongly. It stands in for
Cora, which would have to be downloaded. All arms are the same network of two layers (GAT's form, one head, dropout 0.5),
in which only the weights of the neighbors differ. Distances and dot products have the same scale 1/√width, so that no
arm begins with sharper weights than another. Each node is one of its own neighbors.

With the files of Cora, a file of one's own runs the same trials on it, with `limelight run ./attention_on_cora.py`:

    from limelight.claims.attention_on_graphs import AttentionOnGraphs
    from limelight.data.labeled_graphs import cora

    class AttentionOnCora(AttentionOnGraphs):
        name = "attention_on_cora"
        title = "The same on Cora"

        def graph(self, generator):
            return cora("folder/of/cora")
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limelight import figures
from limelight.attention import Attention
from limelight.data.labeled_graphs import LabeledGraph, community_graph, with_loops
from limelight.experiment.claim import Picture
from limelight.experiment.measure import Measure, Measurement
from limelight.experiment.results import Results
from limelight.experiment.search import TunedClaim
from limelight.experiment.verdict import Part, Verdict
from limelight.mask import Graph
from limelight.models.graph_network import DotProductNeighbors, GraphNetwork, SimilarityNeighbors, UniformNeighbors
from limelight.models.propagation_network import TanhResidual, linear_map
from limelight.models.training import descend
from limelight.report.comparison import comparison
from limelight.similarity import GAT, Metric, Scaled

NODES, CLASSES, TOLD = 600, 5, 20  # nodes of the generated graph, its classes, and nodes of each whose class is known
WIDTH, STEPS, WEIGHT_DECAY = 16, 200, 5e-4
EVERY = 4  # steps between two points of a curve
GOAL = 0.5  # a share of the loss of a guess; the steps to reach this level are counted
ONE_RATE = (
    0.01  # the steps are counted with an arm's own learning rate, and with this one, as the paper has one for all
)
NOISE = (0.0, 0.25, 0.5, 0.75, 1.0)  # added to the features when they are tested, in their standard deviations
ROUNDS = 30  # of label propagation
METRIC, EUCLIDEAN, DOT, ADDITIVE = "metric", "euclidean", "dot", "GAT"
MEAN, EDGES, FEATURES = "mean", "edges alone", "features alone"
OTHERS = (ADDITIVE, EUCLIDEAN, DOT)  # metric attention is claimed to be better than each


def distance(phi: nn.Module, width: int) -> SimilarityNeighbors:
    """Scores −½|φ(z_i) − φ(z_j)|²/√width: at the scale of dot products."""
    return SimilarityNeighbors(Scaled(Metric(phi), 1 / math.sqrt(width)))


WEIGHTS: dict[str, Callable[[int], nn.Module]] = {
    METRIC: lambda width: distance(TanhResidual(width), width),
    EUCLIDEAN: lambda width: distance(linear_map(width), width),
    DOT: DotProductNeighbors,
    ADDITIVE: lambda width: SimilarityNeighbors(GAT(width)),
    MEAN: lambda width: UniformNeighbors(),
    FEATURES: lambda width: UniformNeighbors(),
}


class AttentionOnGraphs(TunedClaim):
    """The claim that a learned metric is better than other attention where nodes of a graph attend to neighbors."""

    name = "attention_on_graphs"
    title = "On a graph a learned metric learns faster, more accurately and more robustly than GAT, L2 and dot products"
    question = (
        "The nodes of a graph have noisy features, and the classes of 20 nodes of each class are known. Each node takes a "
        "mean of its neighbors, of which many are of another class. Which similarity gives the weights that serve best: a "
        "learned metric, a Euclidean distance after a linear map, a dot product, GAT's sum? Is any better than equal "
        "weights? Judged by accuracy on the other nodes, steps to learn, spread over runs, and accuracy lost to noise."
    )
    source = (
        "Ruan & Zhang 2024, Towards understanding how attention mechanism works in deep learning, 2412.18288; GAT is "
        "Veličković et al. 2018, 1710.10903"
    )
    arms = {
        METRIC: "exp −|φ(z_i) − φ(z_j)|²/2√width, φ a tanh layer with a residual",
        EUCLIDEAN: "the same with φ linear, a learned metric WᵀW (L2 attention)",
        DOT: "exp ⟨W_q z_i, W_k z_j⟩/√width",
        ADDITIVE: "exp LeakyReLU(⟨a₁, z_i⟩ + ⟨a₂, z_j⟩)",
        MEAN: "equal weights for all neighbors: no attention, nearly a graph convolution (GCN)",
        EDGES: "known classes spread along the edges (label propagation): no features",
        FEATURES: "every node is its only neighbor: a fully connected network, no edges: the control",
    }
    control = FEATURES
    rates = (0.003, 0.01, 0.03)
    score = "accuracy"
    chosen = {METRIC: 0.003, EUCLIDEAN: 0.01, DOT: 0.01, ADDITIVE: 0.01, MEAN: 0.01, EDGES: 0.003, FEATURES: 0.01}
    measures = {
        "accuracy": Measure("accuracy on nodes of unknown class", "share", "higher", failed=0.0, summary="median"),
        "steps": Measure(
            f"steps to {GOAL:.0%} of a guess's loss", f"steps, at most {STEPS}", "lower", failed=float(STEPS),
            summary="median",
        ),
        "steps at one rate": Measure(
            f"steps to {GOAL:.0%} of a guess's loss where every arm has the rate {ONE_RATE}", f"steps, at most {STEPS}",
            "lower", failed=float(STEPS), summary="median",
        ),
        "lost": Measure(
            "accuracy lost where noise of the features' standard deviation is added to them after training", "share",
            "lower", failed=1.0, summary="median",
        ),
        "own class": Measure(
            "weight that a node gives to nodes of its own class, itself included, the mean over both layers", "share",
            "neither", failed=0.0, summary="median",
        ),
    }  # fmt: skip

    def graph(self, generator: torch.Generator) -> LabeledGraph:
        """The graph of a trial."""
        return community_graph(NODES, CLASSES, generator)

    def measure(self, arm: str, seed: int) -> Measurement:
        found = self.measure_at(arm, self.chosen[arm], seed)
        same = found if self.chosen[arm] == ONE_RATE else self.measure_at(arm, ONE_RATE, seed)
        return Measurement({**found.values, "steps at one rate": same.values["steps"]}, found.arrays)

    def measure_at(self, arm: str, rate: float, seed: int) -> Measurement:
        generator = torch.Generator().manual_seed(seed)
        graph = self.graph(generator)
        told = graph.few_of_each_class(TOLD, generator)
        return spread_labels(graph, told) if arm == EDGES else trained(arm, graph, told, rate, generator)

    def judge(self, results: Results) -> Verdict:
        accuracy = [
            Part(
                f"{better} attention is at least one point more accurate than {worse}",
                results.difference(better, worse, "accuracy"), "at least", 0.01, "share",
            )
            for better, worse in (*((METRIC, other) for other in OTHERS), (EUCLIDEAN, DOT))
        ]  # fmt: skip
        speed = [
            Part(
                f"metric attention reaches {GOAL:.0%} of a guess's loss in fewer steps than {other}, {rates}",
                results.ratio(METRIC, other, steps), "at most", 1.0, "times",
            )
            for steps, rates in (("steps", "each at its best rate"), ("steps at one rate", "all at one rate"))
            for other in OTHERS
        ]  # fmt: skip
        steadiness = [
            Part(
                f"metric attention's accuracy varies less between runs than that of {other}",
                results.spread_ratio(METRIC, other, "accuracy"), "at most", 1.0, "times",
            )
            for other in (ADDITIVE, DOT)
        ]  # fmt: skip
        noise = [
            Part(
                f"metric attention loses no more accuracy to noise than {other}",
                results.difference(METRIC, other, "lost"), "at most", 0.0, "share",
            )
            for other in (ADDITIVE, DOT)
        ]  # fmt: skip
        return Verdict.of(
            [
                *accuracy,
                Part(
                    "metric attention is at least one point more accurate than the plain mean over neighbors",
                    results.difference(METRIC, MEAN, "accuracy"), "at least", 0.01, "share",
                ),
                *speed, *steadiness, *noise,
                Part(
                    "edges alone do not suffice: with features the mean over neighbors is five points more accurate",
                    results.difference(MEAN, EDGES, "accuracy"), "at least", 0.05, "share",
                ),
            ],
            control=Part(
                "features alone are at most five points less accurate than the mean over neighbors",
                results.difference(FEATURES, MEAN, "accuracy"), "at least", -0.05, "share",
            ),
        )  # fmt: skip

    def finding(self, results: Results) -> str:
        def listed(measure: str, arms: Sequence[str], form: str = ".1%") -> str:
            return ", ".join(f"{arm} {results.summary(arm, measure).estimate:{form}}" for arm in arms)

        attending = (METRIC, *OTHERS)
        return (
            "On graphs of noisy communities, where 20 nodes of each class are known, the other nodes are classified by "
            f"attention to neighbors ({listed('accuracy', attending)}), by the plain mean over neighbors "
            f"({results.summary(MEAN, 'accuracy').estimate:.1%}), by edges alone "
            f"({results.summary(EDGES, 'accuracy').estimate:.1%}) and by features alone "
            f"({results.summary(FEATURES, 'accuracy').estimate:.1%}); half of a guess's loss takes "
            f"{listed('steps', attending, '.0f')} of at most {STEPS} steps at each one's best rate and "
            f"{listed('steps at one rate', attending, '.0f')} at one rate for all, and noise costs {listed('lost', (*attending, MEAN))} of the nodes "
            "(medians over runs)."
        )

    def figures(self, results: Results) -> Sequence[Picture]:
        seen = [arm for arm in self.arms if arm != EDGES]
        seed = results.seeds()[0]
        mixing = {arm: results.array(arm, "class to class", seed) for arm in (MEAN, ADDITIVE, DOT, EUCLIDEAN, METRIC)}
        return [
            Picture(
                "A dot for each seed, and the median with its interval.",
                *comparison(results, ["accuracy", "own class"]),
            ),
            Picture(
                "At the left training loss by step, at the right accuracy with more and more noise added to the features after "
                "training: the median over seeds, and the middle half of them.",
                figures.curves(
                    {arm: results.stack(arm, "loss") for arm in seen}, EVERY, "step", "training loss / loss of a guess"
                ),
                figures.curves(
                    {arm: results.stack(arm, "accuracy by noise") for arm in self.arms}, NOISE,
                    "noise added / standard deviation of the features", "accuracy",
                ),
            ),
            Picture(
                f"Where the nodes of each class look, in the first layer on the graph of seed {seed}: the mean weight of the "
                "classes of their neighbors, each row a class. Attention that helps gives more weight to the diagonal than the mean does.",
                *figures.matrices(mixing, "class of the neighbor", "class of the node", "weight"),
            ),
            Picture(
                "Steps to half of a guess's loss, and accuracy lost to noise, a dot for each seed.",
                *comparison(results, ["steps", "steps at one rate", "lost"]),
            ),
        ]  # fmt: skip


def trained(arm: str, graph: LabeledGraph, told: Tensor, rate: float, generator: torch.Generator) -> Measurement:
    """What an arm's network finds on a graph after it was told the classes of some nodes."""
    x = (graph.features - graph.features.mean(0)) / graph.features.std()
    loops = with_loops(graph.edges[:, :0] if arm == FEATURES else graph.edges, graph.nodes)
    mask = Graph(loops, graph.nodes)
    model = GraphNetwork(x.shape[1], WIDTH, graph.classes, WEIGHTS[arm])
    loss = lambda: F.cross_entropy(model(x, mask)[told], graph.labels[told])  # noqa: E731
    losses = np.array(list(descend(model, loss, STEPS, rate, WEIGHT_DECAY))) / math.log(graph.classes)
    reached = np.flatnonzero(losses <= GOAL)
    noise = torch.randn(x.shape, generator=generator)
    with torch.no_grad():
        model.eval()
        accuracies = [right(model(x + level * noise, mask).argmax(-1), graph, told) for level in NOISE]
        mixing = [class_to_class(P, graph) for P in model.attentions(x, mask)]
    return Measurement(
        {
            "accuracy": accuracies[0],
            "steps": float(reached[0]) if len(reached) else float(STEPS),
            "lost": accuracies[0] - accuracies[-1],
            "own class": float(np.mean([own_class(P, graph) for P in mixing])),
        },
        {"loss": losses[::EVERY], "accuracy by noise": np.array(accuracies), "class to class": mixing[0].numpy()},
    )


def class_to_class(P: Attention, graph: LabeledGraph) -> Tensor:
    """The mean weight that nodes of a class (rows) give to all nodes of a class (columns)."""
    of = F.one_hot(graph.labels, graph.classes).float()
    return of.T @ (P @ of) / of.sum(0)[:, None]


def own_class(mixing: Tensor, graph: LabeledGraph) -> float:
    """The mean over nodes of the weight that goes to their own class."""
    return float(mixing.diagonal() @ graph.labels.bincount().float() / graph.nodes)


@torch.no_grad()
def spread_labels(graph: LabeledGraph, told: Tensor) -> Measurement:
    """What label propagation finds: each node takes the mean of its neighbors' labels, and known ones are put back."""
    zeros = torch.zeros(graph.nodes, 1)
    P = Attention(zeros, zeros, mask=Graph(graph.edges, graph.nodes))
    of = F.one_hot(graph.labels, graph.classes).float()
    spread = of * told[:, None]
    for _ in range(ROUNDS):
        spread = torch.where(told[:, None], of, P @ spread)
    accuracy = right(spread.argmax(-1), graph, told)
    return Measurement(
        {
            "accuracy": accuracy,
            "steps": float(STEPS),
            "lost": 0.0,
            "own class": own_class(class_to_class(P, graph), graph),
        },
        {"accuracy by noise": np.full(len(NOISE), accuracy)},
    )


def right(predicted: Tensor, graph: LabeledGraph, told: Tensor) -> float:
    """The share of nodes of unknown class that are classified correctly."""
    return float((predicted == graph.labels)[~told].float().mean())

"""Measures of a head: one number that says what its attention does on a text.

Each is a `Measure`: a name, a function from a `WatchedAttention` P (heads, n, m) to one number for each head, and what
a reader needs to know: the equation, the range, the meaning and the source. A measure of your own takes a line:

    last = Measure("last_key", lambda P: P.column_mass()[..., -1] / P.shape[-2])
    scope.table([*MEASURES, last])

None of them stores P. Scores of a pattern (previous token, induction) need P at a few pairs only, exp(s_ij − L_i) after
one log-sum-exp, which costs O(n). All that need every pair share one pass over P, `P.sums`.
A measure that has no meaning on a text is NaN: positions in cross-attention, induction where no token is repeated.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from limelight.microscope.definiteness import definiteness
from limelight.microscope.occurrences import earlier_occurrences
from limelight.microscope.triangle_defect import triangle_defect
from limelight.microscope.watched_attention import WatchedAttention

PerHead = Float[Tensor, "*heads"]


@dataclass(frozen=True)
class Measure:
    """A number for each head: `of(P)` for P (heads, n, m), and what it means.

    >>> import torch
    >>> from limelight import microscope
    >>> last = microscope.Measure("last_key", lambda P: P.column_mass()[..., -1] / P.shape[-2])
    >>> layer = torch.nn.MultiheadAttention(8, 2, batch_first=True)
    >>> with microscope.attach(layer) as scope:
    ...     out = layer(*3 * [torch.randn(1, 5, 8)])
    >>> list(scope.table([last]))
    ['step', 'text', 'layer', 'name', 'head', 'last_key']
    """

    name: str
    of: Callable[[WatchedAttention], PerHead]
    equation: str = ""
    range: str = ""
    meaning: str = ""
    source: str = ""


def _entropy(P: WatchedAttention) -> PerHead:
    return P.sums.entropy.mean(-1)


def _effective_keys(P: WatchedAttention) -> PerHead:
    return P.sums.entropy.exp().mean(-1)


def _first_token(P: WatchedAttention) -> PerHead:
    if not P.has_first:
        return _undefined(P)
    return P.sums.mass[..., 0] / P.seen_by()[..., 0]


def _separators(P: WatchedAttention) -> PerHead:
    if P.ids is None or not P.separators:
        return _undefined(P)
    wanted = torch.tensor(sorted(P.separators), device=P.ids.device)
    is_separator = torch.isin(P.ids, wanted).to(P.device)
    is_separator[:1] = False
    return P.sums.mass[..., is_separator].sum(-1) / P.shape[-2]


def _at_offset(offset: int) -> Callable[[WatchedAttention], PerHead]:
    def of(P: WatchedAttention) -> PerHead:
        if P.positions is None:
            return _undefined(P)
        i, j = torch.arange(P.shape[-2]), P.positions + offset
        inside = (j >= 0) & (j < P.shape[-1])
        return _mean_over_queries(P, i[inside], j[inside])

    return of


def _induction(P: WatchedAttention) -> PerHead:
    return _at_earlier_occurrences(P, 1)


def _duplicate_token(P: WatchedAttention) -> PerHead:
    return _at_earlier_occurrences(P, 0)


def _at_earlier_occurrences(P: WatchedAttention, offset: int) -> PerHead:
    """The mean weight of a query on all tokens `offset` places after an earlier occurrence of its own token."""
    if P.positions is None or P.ids is None:
        return _undefined(P)
    total, queries, positions = _undefined(P).zero_(), 0, P.positions.cpu()
    for i, j in earlier_occurrences(P.ids.cpu(), positions):
        before = j + offset < positions[i]
        i, j = i[before], j[before] + offset
        total += P.weights_at(i, j).sum(-1)
        queries += len(i.unique_consecutive())
    return total / queries if queries else _undefined(P)


def _mean_over_queries(P: WatchedAttention, i: Int[Tensor, " pairs"], j: Int[Tensor, " pairs"]) -> PerHead:
    """Σ P_ij over the pairs, divided by the number of queries that have one; NaN if there is no pair."""
    if not len(i):
        return _undefined(P)
    return P.weights_at(i, j).sum(-1) / len(i.unique())


def _mean_distance(P: WatchedAttention) -> PerHead:
    return _undefined(P) if P.positions is None else P.sums.distance.mean(-1)


def _largest_key(P: WatchedAttention) -> PerHead:
    return P.sums.mass.amax(-1) / P.shape[-2]


def _least_mass(P: WatchedAttention) -> PerHead:
    return P.sums.mass.amin(-1)


def _key_norms(P: WatchedAttention) -> PerHead:
    """(Σ_i cov_j(s_ij, |k_j|²))² / (Σ_i var_j s_ij · Σ_i var_j |k_j|²), over the keys that a query sees.

    This is the share of the variance of a query's scores that a · |k_j|² explains, with the best a, the same for all
    queries. If all keys have the same length, up to rounding, they explain nothing.
    """
    several = P.sums.seen > 1
    sums = (P.sums.together, P.sums.score_spread, P.sums.norm_spread)
    together, of_scores, of_norms = ((several * x).sum(-1) for x in sums)
    norms = P.k.square().sum(-1)
    equal = of_norms <= 1e-10 * norms.square().sum(-1) * P.shape[-2]
    found = torch.where(equal & (of_scores > 0), 0, together.square() / (of_scores * of_norms))
    return found.to(P.dtype)


def _temperature(P: WatchedAttention) -> PerHead:
    """1/σ, with σ² the variance of the scores of a query over the keys that it sees, averaged over queries."""
    several = P.sums.seen > 1
    variance = (several * P.sums.score_spread / P.sums.seen).sum(-1) / several.sum(-1)
    return variance.rsqrt().to(P.dtype)


def _agreement(P: WatchedAttention) -> PerHead:
    """The mean over the layer's other heads of ⟨P_h, P_g⟩ / |P_h||P_g|, over all pairs of a query and a key."""
    heads = P.heads
    if heads is None or heads < 2:
        return _undefined(P)
    products = P.sums.products
    norms = products.diagonal().sqrt()
    cosines = products / (norms[:, None] * norms)
    return (cosines.sum(-1) - cosines.diagonal()) / (heads - 1)


def _free_energy(P: WatchedAttention) -> PerHead:
    """The mean over queries of F(even weights) − F(p), where F(p) = −Σ_j p_j s_j − H(p); it is KL(even ‖ p)."""
    return P.sums.gained.mean(-1)


def _symmetry(P: WatchedAttention) -> PerHead:
    return _of_transpose(P.q, P.k) if _is_whole(P) else _undefined(P)


def _of_transpose(q: Tensor, k: Tensor) -> PerHead:
    """⟨S, Sᵀ⟩ / |S|² of S = Q Kᵀ over the tokens, from d × d matrices: ⟨S, Sᵀ⟩ = tr (KᵀQ)², |S|² = tr QᵀQ KᵀK."""
    mixed = k.mT @ q
    size = ((q.mT @ q) * (k.mT @ k)).sum((-1, -2))
    return (mixed * mixed.mT).sum((-1, -2)) / size


def _detailed_balance(P: WatchedAttention) -> PerHead:
    """The same of S less its means over i and over j.

    A walk with P_ij ∝ exp s_ij satisfies detailed balance if and only if s_ij − s_ji = a_i − a_j for some numbers a.
    Taking away the means takes away just such differences, and so what is left of S is then symmetric.
    """
    if not _is_whole(P):
        return _undefined(P)
    return _of_transpose(*(x - x.mean(-2, keepdim=True) for x in (P.q, P.k)))


def _definiteness(P: WatchedAttention) -> PerHead:
    return definiteness(P.q, P.k) if _is_whole(P) else _undefined(P)


def _spectral_gap(P: WatchedAttention) -> PerHead:
    return 1 - _second_eigenvalue(P)


def _mixing_time(P: WatchedAttention) -> PerHead:
    return _second_eigenvalue(P).log().abs().reciprocal()


def _second_eigenvalue(P: WatchedAttention) -> PerHead:
    return P.second_eigenvalue if _is_whole(P) and P.shape[-1] > 1 else _undefined(P)


def _triangle_defect(P: WatchedAttention) -> PerHead:
    return triangle_defect(P.q, P.k) if _is_whole(P) else _undefined(P)


def _copying(P: WatchedAttention) -> PerHead:
    """Σ Re λ / Σ |λ|; a real matrix has its other eigenvalues in conjugate pairs, so the sum of all is real."""
    maps = P.output_map()
    if maps is None:
        return _undefined(P)
    found = torch.linalg.eigvals(maps)
    return (found.real.sum(-1) / found.abs().sum(-1)).to(P.dtype)


def _key_rank(P: WatchedAttention) -> PerHead:
    """exp of the entropy of σ/Σσ, with σ the singular values of the keys about their mean."""
    values = torch.linalg.svdvals(P.k - P.k.mean(-2, keepdim=True))
    shares = values / values.sum(-1, keepdim=True)
    return torch.special.entr(shares).sum(-1).exp()


def _drift(P: WatchedAttention) -> PerHead:
    """Σ_i |(Pk)_i − k_i|² / Σ_i |k_i − mean k|², where P's rows are divided by their sums."""
    if not _is_whole(P):
        return _undefined(P)
    spread = P.k - P.k.mean(-2, keepdim=True)
    return P.sums.moved.sum(-1) / spread.square().sum((-1, -2))


def _diffusion(P: WatchedAttention) -> PerHead:
    """Σ_i Σ_j p_ij |k_j − (Pk)_i|² / Σ_i |k_i − mean k|², where P's rows are divided by their sums."""
    if not _is_whole(P):
        return _undefined(P)
    spread = P.k - P.k.mean(-2, keepdim=True)
    return P.sums.around.sum(-1) / spread.square().sum((-1, -2))


def _key_alignment(P: WatchedAttention) -> PerHead:
    """Σ_{i≠j} cos(k_i, k_j) / m(m − 1), from the sum of the directions: |Σ_j u_j|² = m + Σ_{i≠j} ⟨u_i, u_j⟩."""
    m = P.shape[-1]
    if m < 2:
        return _undefined(P)
    directions = torch.nn.functional.normalize(P.k, dim=-1)
    own = directions.square().sum((-1, -2))  # m, but for keys of length 0
    return (directions.sum(-2).square().sum(-1) - own) / (m * (m - 1))


def _is_whole(P: WatchedAttention) -> bool:
    """True if queries and keys are the same tokens: neither cross-attention nor a step with a cache."""
    return P.positions is not None and P.shape[-2] == P.shape[-1]


def _learned_sink(P: WatchedAttention) -> PerHead:
    return P.taken_by_sink().mean(-1)


def _undefined(P: WatchedAttention) -> PerHead:
    return torch.full(P.shape[:-2], math.nan, dtype=P.dtype, device=P.device)


MEASURES = (
    Measure(
        "entropy",
        _entropy,
        "mean_i H_i,  H_i = −Σ_j p_ij log p_ij",
        "0 to log m nats",
        "How evenly a query spreads its weight: 0 if all of it is on one key, log m if every key has the same.",
        "Shannon 1948; for heads: Clark et al. 2019 (1906.04341)",
    ),
    Measure(
        "effective_keys",
        _effective_keys,
        "mean_i exp H_i",
        "1 to m keys",
        "Over how many keys a query spreads: as many as a uniform distribution of the same entropy has.",
        "the perplexity of a distribution; Hill 1973",
    ),
    Measure(
        "first_token",
        _first_token,
        "Σ_i P_i0 / (queries that see the first token)",
        "0 to 1",
        "The sink: the share of its weight that a query puts on the first token, which often means nothing to it.",
        "Xiao et al. 2023 (2309.17453); Gu et al. 2024 (2410.10781)",
    ),
    Measure(
        "learned_sink",
        _learned_sink,
        "mean_i (1 − Σ_j P_ij)",
        "0 to 1",
        "The share that the head's learned sink takes, in models that have one; 0 elsewhere.",
        "gpt-oss (2508.10925)",
    ),
    Measure(
        "separators",
        _separators,
        "mean_i Σ_j P_ij over separators j > 0",
        "0 to 1",
        "The share of weight on tokens that separate or end texts.",
        "Clark et al. 2019 (1906.04341)",
    ),
    Measure(
        "previous_token",
        _at_offset(-1),
        "mean_i P_i,i−1",
        "0 to 1",
        "How much a token attends to the one before it.",
        "Voita et al. 2019 (1905.09418); Elhage et al. 2021",
    ),
    Measure(
        "next_token",
        _at_offset(1),
        "mean_i P_i,i+1",
        "0 to 1",
        "How much a token attends to the one after it; 0 in a causal head.",
        "Clark et al. 2019 (1906.04341)",
    ),
    Measure(
        "same_token",
        _at_offset(0),
        "mean_i P_ii",
        "0 to 1",
        "How much a token attends to itself.",
        "Clark et al. 2019 (1906.04341)",
    ),
    Measure(
        "induction",
        _induction,
        "mean_i Σ_j P_i,j+1 over j + 1 < i with token_j = token_i",
        "0 to 1",
        "How much a token attends to what followed its earlier occurrences: “… A B … A” looks at B.",
        "Olsson et al. 2022 (2209.11895)",
    ),
    Measure(
        "duplicate_token",
        _duplicate_token,
        "mean_i Σ_j P_ij over j < i with token_j = token_i",
        "0 to 1",
        "How much a token attends to its earlier occurrences.",
        "Wang et al. 2022 (2211.00593)",
    ),
    Measure(
        "mean_distance",
        _mean_distance,
        "mean_i Σ_j p_ij |i − j|",
        "0 to m − 1 tokens",
        "How far away the tokens are that a token attends to.",
        "Vig and Belinkov 2019 (1906.04284)",
    ),
    Measure(
        "largest_key",
        _largest_key,
        "max_j Σ_i P_ij / n",
        "1/m to 1",
        "The share of all weight that the most attended token gets.",
        "column sums of P; Gu et al. 2024 (2410.10781)",
    ),
    Measure(
        "least_mass",
        _least_mass,
        "min_j Σ_i P_ij",
        "0 to n/m",
        "The weight that all queries together give the least attended token: near 0 it is explained away.",
        "Ding et al. 2020 (2009.14308)",
    ),
    Measure(
        "key_norms",
        _key_norms,
        "R² of s_ij on |k_j|² within queries",
        "0 to 1",
        "How much of the variance of a query's scores the lengths of the keys explain, without the query.",
        "⟨q, k⟩ = ½|q|² + ½|k|² − ½|q − k|²; Kobayashi et al. 2020 (2004.10102) for norms of values",
    ),
    Measure(
        "temperature",
        _temperature,
        "1/σ,  σ² = mean_i var_j s_ij over the keys seen",
        "0 to ∞",
        "The temperature of a softmax of scores of unit variance with the same sharpness: low is sharp.",
        "the standardized softmax; compare the scale 1/√d of Vaswani et al. 2017 (1706.03762)",
    ),
    Measure(
        "free_energy",
        _free_energy,
        "mean_i log(Σ_j exp s_ij / m_i) − mean_j s_ij over the m_i keys seen",
        "0 to ∞ nats",
        "How far attention lowers the free energy −Σ_j p_ij s_ij − H_i below that of even weights: 0 if they are even.",
        "the variational principle of Gibbs; it is the divergence KL(even ‖ p_i)",
    ),
    Measure(
        "agreement",
        _agreement,
        "mean over heads g ≠ h of ⟨P_h, P_g⟩ / |P_h||P_g|",
        "0 to 1",
        "How alike the head is to the others of its layer: 1 if all have the same weights.",
        "cosine of the matrices; compare Kornblith et al. 2019 (1905.00414)",
    ),
    Measure(
        "symmetry",
        _symmetry,
        "⟨S, Sᵀ⟩ / |S|²,  S_ij = ⟨q_i, k_j⟩",
        "−1 to 1",
        "Whether two tokens score each other alike: 1 if S is symmetric, −1 if it turns its sign, 0 if it is directed.",
        "for W_Q W_Kᵀ: Saponati et al. 2025 (2502.10927)",
    ),
    Measure(
        "detailed_balance",
        _detailed_balance,
        "⟨S, Sᵀ⟩ / |S|²,  S_ij = ⟨q_i, k_j⟩ less its means over i and over j",
        "−1 to 1",
        "Whether a walk by these scores, without mask and position bias, is reversible: 1 if it satisfies detailed "
        "balance, less if it goes round in circles.",
        "Kolmogorov 1936, the criterion for reversible chains",
    ),
    Measure(
        "definiteness",
        _definiteness,
        "Σ λ / Σ |λ| over the eigenvalues of ½ (S + Sᵀ),  S as for detailed balance",
        "−1 to 1",
        "Whether tokens that are alike attract each other: 1 if the scores are an inner product, −1 if alike ones "
        "repel.",
        "Mercer 1909; for attention as a kernel: Tsai et al. 2019 (1908.11775)",
    ),
    Measure(
        "triangle_defect",
        _triangle_defect,
        "share of triples i, j, m for which √d_ij, √d_jm, √d_im are no sides of a triangle,  "
        "d_ij = ⟨q_i − q_j, k_i − k_j⟩",
        "0 to 1",
        "How far the scores are from those of a metric: 0 if W_Q = W_K, near 1 for random maps.",
        "the axioms of a metric (Fréchet 1906); for attention by a learned metric: Ruan and Zhang 2024 (2412.18288)",
    ),
    Measure(
        "copying",
        _copying,
        "Σ λ / Σ |λ| over the eigenvalues of W_O W_V",
        "−1 to 1",
        "Whether a head writes what it reads: 1 if it copies, −1 if it writes the opposite, near 0 for random weights.",
        "Elhage et al. 2021, A mathematical framework for transformer circuits",
    ),
    Measure(
        "key_rank",
        _key_rank,
        "exp H(σ/Σσ),  σ the singular values of k_j − mean k",
        "1 to min(m − 1, d)",
        "In how many directions the keys of a head differ; over the layers it shows whether tokens become alike.",
        "Roy and Vetterli 2007, effective rank; Dong et al. 2021 (2103.03404) for depth",
    ),
    Measure(
        "key_alignment",
        _key_alignment,
        "mean of cos(k_i, k_j) over tokens i ≠ j",
        "−1/(m − 1) to 1",
        "How alike the directions of the keys are: 1 if all are the same; it rises over the layers where tokens "
        "cluster.",
        "Ethayarajh 2019 (1909.00512); for clusters: Geshkovski et al. 2023 (2305.05465)",
    ),
    Measure(
        "drift",
        _drift,
        "Σ_i |(Pk)_i − k_i|² / Σ_i |k_i − mean k|²",
        "0 to ∞",
        "How far attention would move the keys: 0 if each stays, 1 if all go to their mean.",
        "the generator P − 1 of a diffusion; Coifman and Lafon 2006",
    ),
    Measure(
        "diffusion",
        _diffusion,
        "Σ_ij p_ij |k_j − (Pk)_i|² / Σ_i |k_i − mean k|²",
        "0 to ∞",
        "How different the keys are that a token attends to: 0 if it attends to one, 1 if to all evenly.",
        "the second moment of a diffusion's steps; Coifman and Lafon 2006",
    ),
    Measure(
        "spectral_gap",
        _spectral_gap,
        "1 − |λ₂|,  λ₂ the second largest eigenvalue of p",
        "0 to 1",
        "How fast a walk from token to token forgets where it began: 1 if at once, 0 if never. In a causal head λ₂ is "
        "the largest p_ii after the first token.",
        "Levin, Peres and Wilmer, Markov chains and mixing times",
    ),
    Measure(
        "mixing_time",
        _mixing_time,
        "−1 / log |λ₂|",
        "0 to ∞ steps",
        "After how many steps of such a walk what is left of its start has fallen to 1/e.",
        "Levin, Peres and Wilmer, Markov chains and mixing times",
    ),
)

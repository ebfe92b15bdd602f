"""One pass over P gives the sums that the whole matrix gives, under every kind of mask and with all that is added."""

import pytest
import torch

from limelight import Boolean, causal, window
from limelight.microscope import occurrences, pair_sums
from limelight.microscope.pair_bias import PairBias
from limelight.microscope.watched_attention import WatchedAttention

HEADS, N = 3, 37


def allowed(*shape):
    return torch.rand(*shape, N, N, generator=torch.Generator().manual_seed(1)) < 0.5 + torch.eye(N)


def table():
    bias = torch.randn(HEADS, N, N, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    return PairBias.of(bias)


ADDED = {
    "nothing": {},
    "causal": {"mask": causal},
    "a window": {"mask": window(5, 2)},
    "any mask": {"mask": Boolean(allowed())},
    "a mask for each head": {"mask": Boolean(allowed(HEADS))},
    "a cap": {"mask": causal, "softcap": 2.0},
    "relative bias": {"bias": PairBias.of(-0.1 * (torch.arange(N)[:, None] - torch.arange(N)).abs()[None].double())},
    "a table of biases": {"mask": causal, "bias": table()},
    "sinks": {"mask": causal, "sinks": torch.tensor([[0.5], [-1.0], [2.0]], dtype=torch.float64)},
    "sinks of each query": {"sinks": torch.randn(HEADS, N, generator=torch.Generator().manual_seed(3)).double()},
}


def given(offset=0.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, HEADS, N, 4, generator=generator, dtype=torch.float64).to(dtype)
    return q, k + offset


def whole(P):
    """The same from the matrices in float64."""
    p, s, at = P.dense(), P.scores(slice(0, N)), torch.arange(N)
    seen = s > -torch.inf
    weight = p.sum(-1)
    own = p / weight[..., None]
    count, b = seen.sum(-1), P.k.square().sum(-1)[:, None].expand_as(s)

    def centered(x):
        x = x.masked_fill(~seen, 0)
        return (x - x.sum(-1, keepdim=True) / count[..., None]).masked_fill(~seen, 0)

    return {
        "weight": weight,
        "entropy": torch.special.entr(own).sum(-1),
        "distance": (own * (at[:, None] - at).abs()).sum(-1),
        "moved": (own @ P.k - P.k).square().sum(-1),
        "around": (own[..., None] * (P.k[:, None] - (own @ P.k)[:, :, None]).square()).sum((-2, -1)),
        "gained": -(own.log().masked_fill(~seen, 0).sum(-1) / count + count.double().log()),
        "mass": p.sum(-2),
        "products": torch.einsum("hij,gij->hg", p, p),
        "seen": count.double(),
        "score_spread": centered(s).square().sum(-1),
        "norm_spread": centered(b).square().sum(-1),
        "together": (centered(s) * centered(b)).sum(-1),
    }


@pytest.fixture(params=[False, True], ids=["one tile", "small tiles"])
def tiles(request, monkeypatch):
    if request.param:
        monkeypatch.setattr(pair_sums, "_WIDTH", 8)
        monkeypatch.setattr(pair_sums, "_ENTRIES", HEADS * 8 * 5)


@pytest.mark.parametrize("added", ADDED)
def test_the_sums_are_those_of_the_matrix(added, tiles):
    P = WatchedAttention(*given(), scale=0.7, positions=torch.arange(N), **ADDED[added])
    for name, right in whole(P).items():
        torch.testing.assert_close(getattr(P.sums, name), right, atol=1e-9, rtol=1e-9, msg=f"{added}: {name}")


@pytest.mark.parametrize("added", ["causal", "relative bias", "sinks"])
def test_keys_with_a_large_common_part_lose_no_digits(added):
    """In float32, with keys and queries around 30, where scores are some thousands."""
    q, k = given(offset=30.0)
    exact = WatchedAttention(q + 30, k, scale=0.7, positions=torch.arange(N), **ADDED[added])
    rounded = WatchedAttention((q + 30).float(), k.float(), scale=0.7, positions=torch.arange(N), **ADDED[added])
    for name in ("entropy", "mass", "distance", "score_spread"):
        torch.testing.assert_close(
            getattr(rounded.sums, name).double(),
            getattr(exact.sums, name),
            atol=3e-4,
            rtol=3e-4,
            msg=name,
        )


def test_queries_of_another_text_and_a_single_head(tiles):
    q, k = given()
    cross = WatchedAttention(q[:, :9], k, scale=0.7)
    torch.testing.assert_close(cross.sums.entropy, torch.special.entr(cross.dense()).sum(-1))
    assert not cross.sums.distance.any()
    one = WatchedAttention(q[1], k[1], scale=0.7, mask=causal, positions=torch.arange(N))
    layer = WatchedAttention(q, k, scale=0.7, mask=causal, positions=torch.arange(N))
    assert one.sums.entropy.shape == (N,)
    torch.testing.assert_close(one.sums.together, layer.sums.together[1])


def test_a_step_with_a_cache(tiles):
    q, k = given()
    P = WatchedAttention(q[:, -3:], k, scale=0.7, mask=causal.at(N - 3), positions=torch.arange(N - 3, N))
    layer = WatchedAttention(q, k, scale=0.7, mask=causal, positions=torch.arange(N))
    for name in ("entropy", "distance", "moved", "score_spread"):
        torch.testing.assert_close(getattr(P.sums, name), getattr(layer.sums, name)[:, -3:])


@pytest.mark.parametrize("kinds", [1, 3, 1000])
@pytest.mark.parametrize("most", [1, 20, 1 << 20])
def test_earlier_occurrences_are_those_that_comparing_all_tokens_gives(kinds, most, monkeypatch):
    monkeypatch.setattr(occurrences, "_PAIRS", most)
    ids, positions = torch.randint(kinds, (N,), generator=torch.Generator().manual_seed(0)), torch.arange(4, N, 2)
    parts = list(occurrences.earlier_occurrences(ids, positions))
    found = sorted((int(a), int(b)) for i, j in parts for a, b in zip(i, j, strict=True))
    right = [(i, j) for i, at in enumerate(positions.tolist()) for j in range(at) if ids[j] == ids[at]]
    assert found == right
    assert all(len(i) < most + N for i, _ in parts)
    seen = [set(i.tolist()) for i, _ in parts]
    assert sum(map(len, seen)) == len(set().union(*seen))  # a query is in one part only

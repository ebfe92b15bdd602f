"""The list of claims. Every module of `limelight.claims` defines one, so a new file is a new claim."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence

import limelight.claims
from limelight.errors import UnknownNameError
from limelight.experiment.claim import Claim

_ORDER = (
    "slopes", "dynamic_weights", "metric_attention", "translation_prior", "similarity_search",
    "same_operator", "singer_rates", "drift_diffusion", "conformal_metric", "minimizer_step",
    "rank_collapse", "token_clusters", "lipschitz", "free_energy_phases",
)  # fmt: skip


def names() -> list[str]:
    """The names of all claims: those on what attention does, those on its theory, and others in alphabetical order.

    >>> from limelight.experiment.catalog import names
    >>> names()[:2]
    ['slopes', 'dynamic_weights']
    """
    found = [module.name for module in pkgutil.iter_modules(limelight.claims.__path__)]
    return sorted(found, key=lambda name: (_ORDER.index(name) if name in _ORDER else len(_ORDER), name))


def claim(name: str) -> Claim:
    """The claim with this name. Raises `UnknownNameError`, which names the most similar claim.

    >>> from limelight.experiment.catalog import claim
    >>> claim('slopes').control
    'one line'
    """
    if name not in names():
        raise UnknownNameError("claim", name, names())
    module = importlib.import_module(f"limelight.claims.{name}")
    own = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Claim) and value.__module__ == module.__name__
    ]
    if len(own) != 1 or own[0].name != name:
        raise TypeError(f"{module.__name__} must define one subclass of Claim, with name = {name!r}; it defines {own}")
    return own[0]()


def claims(wanted: Sequence[str] = ()) -> list[Claim]:
    """The claims with these names, or all claims if no name is given.

    >>> from limelight.experiment.catalog import claims
    >>> [claim.name for claim in claims(['slopes', 'lipschitz'])]
    ['slopes', 'lipschitz']
    """
    return [claim(name) for name in wanted or names()]

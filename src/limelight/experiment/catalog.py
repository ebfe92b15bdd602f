"""The list of claims: the modules of `limelight.claims`, those that installed packages bring, and files of one's own.

A new file in `limelight.claims` is a new claim. A package brings claims by entry points of the group
`limelight.claims`, each of which has the claim's name and its class. A claim in a file anywhere is named by the path
of the file.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
from collections.abc import Sequence
from functools import cache
from importlib.metadata import EntryPoint, entry_points

import limelight.claims
from limelight.errors import InputError, UnknownNameError
from limelight.experiment import claim_file
from limelight.experiment.claim import Claim
from limelight.experiment.claim_class import claims_in, complete, described

GROUP = "limelight.claims"
_ORDER = (
    "slopes", "dynamic_weights", "explaining_away", "metric_attention", "translation_prior",
    "translation_prior_clothes", "similarity_search", "word_order", "transformer_parts", "presence_to_detection",
    "subject_of_picture", "subject_of_scene", "convolution_hierarchy", "symmetry", "residual_depth",
    "batch_norm_shift", "memorization", "emulating_attention", "shared_embedding", "autoencoders_and_generation",
    "classifier_generator", "relevancy_screening", "active_memory", "binding_by_alignment", "attention_on_graphs",
    "attention_on_shapes", "attention_in_translation", "faithful_translation", "induction_heads",
    "attention_and_ablation", "sinks_by_key_norms", "tokens_cluster_with_depth", "pseudo_metric_far_from_metric",
    "drift_to_doubly_stochastic", "same_operator", "singer_rates", "drift_diffusion", "conformal_metric",
    "minimizer_step", "rank_collapse", "token_clusters", "lipschitz", "free_energy_phases",
)  # fmt: skip


def names() -> list[str]:
    """The names of all claims: those on what networks do, those on theory, and others in alphabetical order.

    >>> from limelight.experiment.catalog import names
    >>> names()[:2]
    ['slopes', 'dynamic_weights']
    """
    found = {*_built_in(), *(entry.name for entry in _entries())}
    return sorted(found, key=lambda name: (_ORDER.index(name) if name in _ORDER else len(_ORDER), name))


def claim(name: str) -> Claim:
    """The claim with this name, or the claim in the file at this path, such as `./my_claim.py`.

    Raises `UnknownNameError`, which names the most similar claim, and `InputError` for a claim of a file or of an
    installed package that cannot be used.

    >>> from limelight.experiment.catalog import claim
    >>> claim('slopes').control
    'one line'
    """
    if name.endswith(".py") or {"/", os.sep} & {*name}:
        return _from_file(name)
    if name in _built_in():
        return _from_limelight(name)
    entries = [entry for entry in _entries() if entry.name == name]
    if entries:
        return _from_package(entries[0])
    raise UnknownNameError("claim", name, names())


def claims(wanted: Sequence[str] = ()) -> list[Claim]:
    """The claims with these names or paths; if none is given, all but those that `problems` lists.

    >>> from limelight.experiment.catalog import claims
    >>> [claim.name for claim in claims(['slopes', 'lipschitz'])]
    ['slopes', 'lipschitz']
    """
    found: dict[str, Claim] = {}
    for name in dict.fromkeys(wanted) if wanted else usable():
        one = claim(name)
        if one.name in found:
            raise InputError(f"two of these claims have the name {one.name!r}; give the one in {name} another name")
        found[one.name] = one
    return list(found.values())


def problems() -> list[str]:
    """A sentence for each claim of an installed package that cannot be used; an empty list if all can.

    >>> from limelight.experiment.catalog import problems
    >>> problems()
    []
    """
    return [sentence for entry in _entries() if (sentence := _problem(entry))]


def is_built_in(name: str) -> bool:
    """True for the name of a claim that comes with Limelight.

    >>> from limelight.experiment.catalog import is_built_in
    >>> is_built_in('slopes'), is_built_in('./slopes.py')
    (True, False)
    """
    return name in _built_in()


def usable() -> list[str]:
    """The names of all claims but those of which `problems` tells.

    >>> from limelight.experiment.catalog import names, usable
    >>> usable() == names()
    True
    """
    unusable = {entry.name for entry in _entries() if entry.name not in _built_in() and _problem(entry)}
    return [name for name in names() if name not in unusable]


def _problem(entry: EntryPoint) -> str:
    try:
        _from_package(entry)
    except InputError as problem:
        return str(problem)
    return ""


def _built_in() -> list[str]:
    return [module.name for module in pkgutil.iter_modules(limelight.claims.__path__)]


@cache
def _entries() -> list[EntryPoint]:
    return sorted(entry_points(group=GROUP), key=lambda entry: (entry.name, entry.value))


def _from_limelight(name: str) -> Claim:
    module = importlib.import_module(f"limelight.claims.{name}")
    own = claims_in(module)
    if len(own) != 1 or own[0].name != name:
        raise TypeError(f"{module.__name__} must define one subclass of Claim, with name = {name!r}; it defines {own}")
    return own[0]()


def _from_package(entry: EntryPoint) -> Claim:
    what = f"the claim {entry.name!r} of the installed package {_package(entry)}, {entry.value},"
    others = [_package(other) for other in _entries() if other.name == entry.name and other != entry]
    if entry.name in _built_in() or others:
        other = f"the package {others[0]}" if others else f"limelight.claims.{entry.name}, which is built in"
        raise InputError(f"{what} is left out, since it has the name of the claim of {other}; give it another name")
    try:
        kind = entry.load()
    except (Exception, SystemExit) as problem:
        raise InputError(f"{what} cannot be imported: {described(problem)}") from None
    if not (isinstance(kind, type) and issubclass(kind, Claim)):
        raise InputError(f"{what} should be a subclass of Claim, and is {kind!r}")
    try:
        found = complete(kind, kind.__module__)
    except InputError as problem:
        raise InputError(f"{what} cannot be used: {problem}") from None
    if found.name != entry.name:
        raise InputError(f"{what} has the name {found.name!r}; its name and that of the entry point must be the same")
    return found


def _package(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist else "of an unknown name"


def _from_file(path: str) -> Claim:
    found = claim_file.load(path)
    if found.name in names():
        owner = type(claim(found.name))
        raise InputError(
            f"the claim in {path} has the name {found.name!r}, which {owner.__module__}.{owner.__name__} has already; "
            "give it another name"
        )
    return found

"""Claims that train or simulate for seconds, cut short: the same code with fewer steps, points or keys.

Where a test asks whether a claim runs, measures and draws, this is as good as the whole.
"""

from limelight.claims import (
    batch_norm_shift,
    explaining_away,
    free_energy_phases,
    lipschitz,
    memorization,
    presence_to_detection,
    relevancy_screening,
    residual_depth,
    similarity_search,
    slopes,
    symmetry,
    token_clusters,
)
from limelight.experiment import catalog

FEWER = {
    "slopes": (slopes, {"STEPS": 50, "LATE": 20}),
    "explaining_away": (explaining_away, {"STEPS": 20, "TEST": 100}),
    "similarity_search": (similarity_search, {"STEPS": 40, "TEST": 200}),
    "relevancy_screening": (relevancy_screening, {"STEPS": 11, "RUNS": 2, "TEST": 20, "AT": (50, 100)}),
    "token_clusters": (token_clusters, {"STEP": 0.5}),
    "free_energy_phases": (
        free_energy_phases,
        {"KEYS": {arm: 64 * 2**i for i, arm in enumerate(free_energy_phases.KEYS)}},
    ),
    "lipschitz": (lipschitz, {"CLOUDS": 10}),
    "presence_to_detection": (
        presence_to_detection,
        {
            "NETWORKS": {arm: (build, 5, maps) for arm, (build, _, maps) in presence_to_detection.NETWORKS.items()},
            "TEST": 50,
        },
    ),
    "symmetry": (symmetry, {"STEPS": 5}),
    "residual_depth": (residual_depth, {"STEPS": 2}),
    "batch_norm_shift": (batch_norm_shift, {"STEPS": 5}),
    "memorization": (memorization, {"STEPS": 5}),
}


def cut_short(name, monkeypatch):
    """The claim, which from now on takes less than a second for each arm."""
    module, settings = FEWER.get(name, (None, {}))
    for setting, value in settings.items():
        monkeypatch.setattr(module, setting, value)
    return catalog.claim(name)

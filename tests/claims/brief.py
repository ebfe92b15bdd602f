"""Claims that train or simulate for seconds, cut short: the same code with fewer steps, points or keys.

Where a test asks whether a claim runs, measures and draws, this is as good as the whole.
"""

from limelight.claims import (
    active_memory,
    explaining_away,
    free_energy_phases,
    lipschitz,
    similarity_search,
    slopes,
    token_clusters,
)
from limelight.experiment import catalog

FEWER = {
    "slopes": (slopes, {"STEPS": 50, "LATE": 20}),
    "explaining_away": (explaining_away, {"STEPS": 20, "TEST": 100}),
    "similarity_search": (similarity_search, {"STEPS": 40, "TEST": 200}),
    "active_memory": (active_memory, {"STEPS": 20, "TEXT_STEPS": 10, "TEXT_TEST": 20}),
    "token_clusters": (token_clusters, {"STEP": 0.5}),
    "free_energy_phases": (
        free_energy_phases,
        {"KEYS": {arm: 64 * 2**i for i, arm in enumerate(free_energy_phases.KEYS)}},
    ),
    "lipschitz": (lipschitz, {"CLOUDS": 10}),
}


def cut_short(name, monkeypatch):
    """The claim, which from now on takes less than a second for each arm."""
    module, settings = FEWER.get(name, (None, {}))
    for setting, value in settings.items():
        monkeypatch.setattr(module, setting, value)
    return catalog.claim(name)

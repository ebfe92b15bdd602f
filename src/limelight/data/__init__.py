"""Data sets that need no network: drawn from a seed, or shipped with scikit-learn."""

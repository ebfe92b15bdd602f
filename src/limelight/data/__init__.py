"""Data sets that need no download: generated from a seed, or included in scikit-learn."""

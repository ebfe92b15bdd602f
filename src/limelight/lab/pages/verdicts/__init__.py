"""The page of the claims and their verdicts, from which a claim can be run."""

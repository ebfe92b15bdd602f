"""The claims and what their results say; a claim can be run from here."""

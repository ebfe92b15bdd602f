"""Shows verdicts: the report as one HTML file, the forest plot of a claim's parts, and the terminal."""

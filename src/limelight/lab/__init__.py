"""The lab: attention in the browser, to play with. `limelight lab` opens it.

Each page draws with `limelight.figures` and trains with the models of `limelight.claims`; none holds mathematics of its
own.
"""

"""The lab: attention in the browser, to play with. `limelight lab` opens it.

Each page draws with `limelight.figures` and trains the models of `limelight.claims`. The lab itself computes nothing
that the library does not.
"""

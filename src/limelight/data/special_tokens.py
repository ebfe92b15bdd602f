"""Tokens with a meaning of their own: what fills up a batch, and what begins and ends a sequence that is written."""

PAD = 0  # fills up the shorter sequences of a batch at their ends
BEGIN = 1  # starts what a decoder writes
END = 2  # ends it
FIRST = 3  # the symbols of a task are counted from here on

"""The page of slopes: a gate of linear experts and a fully connected network learn five lines, one for each band of y."""

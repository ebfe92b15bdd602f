"""Five lines, one for each band of y: a gate of linear experts beside a fully connected network."""

"""Three networks with different inductive biases learn digits that are shifted, mirrored or permuted."""

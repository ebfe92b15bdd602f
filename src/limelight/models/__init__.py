"""Networks that the claims train, each an ordinary user of the operator, and the loop that trains them."""

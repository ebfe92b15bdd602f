"""The operator itself: points in the plane, their weights, and what repeated steps do to them."""

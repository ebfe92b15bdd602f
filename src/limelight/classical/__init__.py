"""Classical methods as users of the one operator: scikit-learn's interface, linear memory."""

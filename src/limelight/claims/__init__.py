"""The claims. Each module defines one, in this order: question, arms, measurement, judgment, pictures."""

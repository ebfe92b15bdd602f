"""The claims. Each module holds one, and reads as a page: question, competitors, measurement, judgment."""

"""What runs in a worker for one visitor: it steps while it plays, and says what to draw."""

"""What was measured inside a model, as sentences, as a table for the terminal, as JSON, and as one page of HTML."""

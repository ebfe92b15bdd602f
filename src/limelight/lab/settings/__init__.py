"""What may be set on each page that plays. The server reads these, and leaves torch to the workers."""

"""The definitions of the source code that a measurement reaches, found from the syntax without importing anything."""

"""Which definitions of the source code does a measurement reach? Read from the syntax, without importing anything."""

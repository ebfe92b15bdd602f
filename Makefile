# `make demo` and `make test` do everything on a fresh machine with Python 3.11 or later.

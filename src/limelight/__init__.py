"""Limelight: a laboratory for attention, a linear operator that is never stored.

Its names are listed in `__init__.pyi` and imported from their modules when they are first used. Importing torch takes a
second, for which `limelight --help` and the server of the lab do not have to wait.
"""

import lazy_loader

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

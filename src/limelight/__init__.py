"""Limelight: a laboratory for attention, a linear operator that is never stored.

Its names stand in `__init__.pyi` and come from their modules when they are first asked for: torch takes a second, and
who asks for help or opens the lab need not wait for it.
"""

import lazy_loader

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

"""The pages of the lab, in the order of the menu: each folder here whose module `page` has a `PAGE`.

A page is one folder: `page.py` (title, texts, layout), `settings.py` (the settings, which can be read without
torch), `simulation.py` (the simulation, which a worker runs), and its scripts and styles.
"""

import importlib
import pkgutil

from limelight.lab.page import Page

PAGES: tuple[Page, ...] = tuple(
    sorted(
        (importlib.import_module(f"{__name__}.{found.name}.page").PAGE for found in pkgutil.iter_modules(__path__)),
        key=lambda page: page.order,
    )
)

"""The pages of the lab, in the order of the menu. A page is one module with a `PAGE`, and one line here."""

from limelight.lab.page import Page
from limelight.lab.pages import bias, operator, slopes, verdicts

PAGES: tuple[Page, ...] = (slopes.PAGE, operator.PAGE, bias.PAGE, verdicts.PAGE)

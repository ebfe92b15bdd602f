"""The command line with the toy claim in its catalogue: `python -m tests.experiment.command run toy …`."""

from limelight.__main__ import main
from limelight.experiment import catalogue
from tests.experiment.toy import Toy

if __name__ == "__main__":
    catalogue.claim = lambda name: Toy()
    main()

"""The command line with the toy claim in its catalog: `python -m tests.experiment.command run toy …`."""

from limelight.__main__ import main
from limelight.experiment import catalog
from tests.experiment.toy import Toy

if __name__ == "__main__":
    catalog.claim = lambda name: Toy()
    main()

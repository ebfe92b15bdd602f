"""The toy claim run as a process of its own: `python -m tests.experiment.drive FOLDER SEEDS`."""

import sys

from limelight.experiment import runner
from limelight.experiment.store import Store
from tests.experiment.toy import Toy

if __name__ == "__main__":
    store, toy = Store(sys.argv[1]), Toy()
    missing = runner.missing(runner.trials([toy], int(sys.argv[2])), store)
    runner.run(missing, store, workers=2, done=lambda record: print(record.arm, record.seed, flush=True))
    print("ran", len(missing), flush=True)

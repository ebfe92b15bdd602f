"""The places where trials can run: processes of this machine, a Dask cluster, or a Ray cluster."""

from __future__ import annotations

import importlib
import logging
import os
import queue
import re
import socket
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, get_args

import psutil

from limelight.errors import (
    ClusterError,
    InputError,
    LimelightError,
    MissingExtraError,
    UnknownNameError,
    how_to_install,
)
from limelight.experiment import processes

if TYPE_CHECKING:  # joblib is imported where it runs something, since commands that only read need not wait for it
    from joblib.externals.loky import ProcessPoolExecutor

Backend = Literal["loky", "dask", "ray"]
# Calls a function with each tuple of arguments on some worker, and yields the results in the order of completion.
ParallelMap = Callable[[Callable[..., Any], Iterable[tuple[Any, ...]]], Iterator[Any]]
_PATIENCE = 10  # seconds to wait for a cluster before giving up
_INTERVAL = 0.5  # seconds for which a wait may block: on Windows, Ctrl-C has an effect only between two waits
_POLL = 0.01  # seconds between two checks whether calls have reached the workers' queue
_ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1"
)  # one thread in each worker, since there is one worker for each core


def cores() -> int:
    """The number of cores that this process may use."""
    process = psutil.Process()
    return len(process.cpu_affinity()) if hasattr(process, "cpu_affinity") else psutil.cpu_count() or 1


def check(backend: str, address: str | None) -> None:
    """Raise `UnknownNameError` unless the backend exists, and `InputError` unless it takes such an address."""
    if backend not in get_args(Backend):
        raise UnknownNameError("backend", backend, get_args(Backend))
    if address is None:
        return
    if backend == "loky":
        raise InputError(f"loky runs on this machine and takes no address, got {address!r}; use dask or ray")
    if backend == "ray" and address in ("auto", "local"):
        return
    form = {
        "dask": "tcp://HOST:8786, as `dask scheduler` prints it",
        "ray": "HOST:6379, as `ray start --head` prints it",
    }[backend]
    if not re.fullmatch(r"(\w+://)?[^\s/:]+:\d{1,5}|(\w+://)?\[[0-9a-fA-F:.%]+\]:\d{1,5}", address):
        raise InputError(f"--address expects {form}, got {address!r}")


@contextmanager
def workers(backend: str, count: int, address: str | None) -> Iterator[ParallelMap]:
    """The workers of a backend: `count` processes here, or the cluster at `address`.

    Yields `parallel_map(function, calls)`, which calls the function with each tuple of arguments on some worker and
    yields the results in the order of completion. Workers on this machine end with the block, and with this process.

    Without an address, Dask and Ray start a cluster on this machine. Raises `UnknownNameError`,
    `InputError`, `MissingExtraError`, and `ClusterError` where nothing answers.
    """
    check(backend, address)
    with (
        processes.without_current_folder(),
        {"loky": _loky, "dask": _dask, "ray": _ray}[backend](count, address) as parallel_map,
    ):
        yield parallel_map


@contextmanager
def _loky(count: int, address: str | None) -> Iterator[ParallelMap]:
    from joblib.externals.loky import ProcessPoolExecutor

    executor = ProcessPoolExecutor(count, initializer=processes.work_for, initargs=(os.getpid(),), env=_ONE_THREAD)
    submitted: set[Future[Any]] = set()
    try:
        yield partial(_by_loky, executor, submitted, 2 * count)
    except BrokenProcessPool:
        raise ClusterError(
            "a worker process ended during a run, perhaps because the memory of this machine is full; finished runs "
            "are kept, and the same command runs the others; a smaller number for --workers needs less memory"
        ) from None
    finally:
        with processes.uninterrupted():
            _wait_until_queued(submitted)
            executor.shutdown(kill_workers=True)


@contextmanager
def _dask(count: int, address: str | None) -> Iterator[ParallelMap]:
    from joblib import parallel_config

    distributed = _extra("distributed", "dask")
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # on a failure Dask would log a traceback
    try:
        where = (
            {"address": address}
            if address
            else {"n_workers": count, "threads_per_worker": 1, "dashboard_address": None}
        )
        client = distributed.Client(timeout=_PATIENCE, **where)
    except (OSError, ValueError, OverflowError) as problem:  # the last for a port beyond 65535
        raise ClusterError(
            f"no Dask scheduler answers at {address} ({problem}); expected the address that `dask scheduler` printed"
        ) from None
    with client, parallel_config("dask", client=client):
        try:
            client.wait_for_workers(1, timeout=_PATIENCE)
        except TimeoutError:
            raise ClusterError(
                f"the Dask scheduler at {address} has no workers; start some with `dask worker {address}`"
            ) from None
        yield _by_joblib


@contextmanager
def _ray(count: int, address: str | None) -> Iterator[ParallelMap]:
    ray = _extra("ray", "ray")
    try:
        if address and address not in ("auto", "local"):
            _require_answer(address)
        with warnings.catch_warnings():  # about GPUs of workers in later releases; Limelight's workers use no GPU
            warnings.filterwarnings("ignore", "Tip: In future versions of Ray", FutureWarning)
            ray.init(address=address, num_cpus=None if address else count, log_to_driver=False, configure_logging=False)
    except (OSError, ValueError, RuntimeError, OverflowError) as problem:
        raise ClusterError(
            f"no Ray cluster answers at {address} ({_first_line(problem)}); "
            "expected the address that `ray start --head` printed"
        ) from None
    try:
        yield partial(_by_ray, ray)
    finally:
        ray.shutdown()


def _require_answer(address: str) -> None:
    """Raise `OSError` or `OverflowError` if nothing listens at the address. Ray itself would wait for minutes."""
    host, _, port = address.rpartition("//")[2].rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE).close()


def _by_loky(
    executor: ProcessPoolExecutor,
    submitted: set[Future[Any]],
    ahead: int,
    function: Callable[..., Any],
    calls: Iterable[tuple[Any, ...]],
) -> Iterator[Any]:
    """Run the calls in loky's processes, and yield the results in the order of completion.

    At most `ahead` calls are submitted at a time, for which the workers' queue has room; `submitted` holds them.
    """
    finished: queue.SimpleQueue[Future[Any]] = queue.SimpleQueue()
    left = iter(calls)
    while True:
        for call in islice(left, ahead - len(submitted)):
            with processes.uninterrupted():  # else loky could have a call that `submitted` lacks
                future = executor.submit(function, *call)
                submitted.add(future)
            future.add_done_callback(finished.put)
        if not submitted:
            return
        future = _next(finished)
        submitted.remove(future)
        yield future.result()


def _wait_until_queued(submitted: Iterable[Future[Any]]) -> None:
    """Wait until each call is in the workers' queue.

    A shutdown of loky fails while a call still waits in loky's own queue.
    """
    end = time.monotonic() + _PATIENCE
    while any(not (future.running() or future.done()) for future in submitted) and time.monotonic() < end:
        time.sleep(_POLL)


def _next(finished: queue.SimpleQueue[Future[Any]]) -> Future[Any]:
    while True:
        try:
            return finished.get(timeout=_INTERVAL)
        except queue.Empty:
            continue


def _by_joblib(function: Callable[..., Any], calls: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
    from joblib import Parallel, delayed

    with _as_cluster_error():
        yield from Parallel(return_as="generator_unordered", batch_size=1)(delayed(function)(*call) for call in calls)


def _by_ray(ray: Any, function: Callable[..., Any], calls: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
    """Run the calls as tasks of Ray, and yield the results in the order of completion.

    Ray's backend for joblib is not used, since it gives no result before all calls are done.
    """
    task = ray.remote(function)
    waiting = [task.remote(*call) for call in calls]
    with _as_cluster_error():
        while waiting:
            ready, waiting = ray.wait(waiting, timeout=_INTERVAL)
            yield from ray.get(ready)


@contextmanager
def _as_cluster_error() -> Iterator[None]:
    """Turn an exception raised within the block into a `ClusterError`, unless it is an error of Limelight.

    An exception inside a trial is recorded as the trial's result, so any other exception comes from the cluster.
    """
    try:
        yield
    except Exception as problem:
        cause = getattr(problem, "cause", problem)  # the exception that was raised on the worker, in Ray's errors
        if isinstance(cause, LimelightError):
            raise cause from None
        raise ClusterError(
            f"the cluster did not finish a run ({type(cause).__name__}: {_first_line(cause)}); expected workers with "
            "the same version of Limelight as here; finished runs are kept, and the same command runs the others"
        ) from None


def _first_line(problem: BaseException) -> str:
    return next((line[:200] for line in str(problem).splitlines() if line.strip()), "no message")


def _extra(module: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise MissingExtraError(
            f"--backend {extra} needs {module}, which is not installed; {how_to_install(extra)}"
        ) from None

"""Where do the trials run? In processes of this machine, on a Dask cluster, or on a Ray cluster."""

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
from typing import Any, Literal, get_args

import psutil
from joblib import Parallel, delayed, parallel_config
from joblib.externals.loky import ProcessPoolExecutor

from limelight.errors import (
    ClusterError,
    InputError,
    LimelightError,
    MissingExtraError,
    UnknownNameError,
    how_to_install,
)
from limelight.experiment import processes

Backend = Literal["loky", "dask", "ray"]
Spread = Callable[[Callable[..., Any], Iterable[tuple[Any, ...]]], Iterator[Any]]
_PATIENCE = 10  # seconds until a cluster that does not answer is given up
_LOOK = 0.5  # seconds between two moments at which Ctrl-C is heard where the system has no signals for it
_MOMENT = 0.01  # seconds between two looks at calls on their way to a worker
_ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1"
)  # for each worker, since there is one for each core


def cores() -> int:
    """The cores that this process may use."""
    process = psutil.Process()
    return len(process.cpu_affinity()) if hasattr(process, "cpu_affinity") else psutil.cpu_count() or 1


def check(backend: str, address: str | None) -> None:
    """Raise `UnknownNameError` or `InputError` unless there is this backend and it takes such an address."""
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
def workers(backend: str, count: int, address: str | None) -> Iterator[Spread]:
    """The workers of a backend: `count` processes here, or the cluster at `address`.

    Gives `spread(function, calls)`, which calls the function with each tuple of arguments on some worker, and yields
    the results as they come, in any order. Workers on this machine end with the block, and with this process.

    Without an address, Dask and Ray start a cluster on this machine. Raises `UnknownNameError`,
    `InputError`, `MissingExtraError`, and `ClusterError` where nothing answers.
    """
    check(backend, address)
    with (
        processes.without_current_folder(),
        {"loky": _loky, "dask": _dask, "ray": _ray}[backend](count, address) as spread,
    ):
        yield spread


@contextmanager
def _loky(count: int, address: str | None) -> Iterator[Spread]:
    executor = ProcessPoolExecutor(count, initializer=processes.work_for, initargs=(os.getpid(),), env=_ONE_THREAD)
    handed: set[Future[Any]] = set()
    try:
        yield partial(_by_loky, executor, handed, 2 * count)
    except BrokenProcessPool:
        raise ClusterError(
            "a worker process ended before its run did, perhaps because the memory of this machine is full; what was "
            "finished is kept, and the same command goes on from there; a smaller number for --workers needs less of it"
        ) from None
    finally:
        with processes.undisturbed():
            _hand_over(handed)
            executor.shutdown(kill_workers=True)


@contextmanager
def _dask(count: int, address: str | None) -> Iterator[Spread]:
    distributed = _extra("distributed", "dask")
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # its own words on a failure are a traceback
    try:
        where = (
            {"address": address}
            if address
            else {"n_workers": count, "threads_per_worker": 1, "dashboard_address": None}
        )
        client = distributed.Client(timeout=_PATIENCE, **where)
    except (OSError, ValueError, OverflowError) as problem:  # the last of a port beyond 65535
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
def _ray(count: int, address: str | None) -> Iterator[Spread]:
    ray = _extra("ray", "ray")
    try:
        if address and address not in ("auto", "local"):
            _require_answer(address)
        with warnings.catch_warnings():  # of what the next release does with a worker's GPUs; ours ask for none
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
    """Raise `OSError` or `OverflowError` where no port is open. Ray itself would wait for minutes."""
    host, _, port = address.rpartition("//")[2].rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE).close()


def _by_loky(
    executor: ProcessPoolExecutor,
    handed: set[Future[Any]],
    ahead: int,
    function: Callable[..., Any],
    calls: Iterable[tuple[Any, ...]],
) -> Iterator[Any]:
    """At most `ahead` calls are with loky at a time, for which its workers' queue has room; `handed` holds them."""
    finished: queue.SimpleQueue[Future[Any]] = queue.SimpleQueue()
    left = iter(calls)
    while True:
        for call in islice(left, ahead - len(handed)):
            with processes.undisturbed():  # else a call could be with loky of which `handed` does not know
                future = executor.submit(function, *call)
                handed.add(future)
            future.add_done_callback(finished.put)
        if not handed:
            return
        future = _next(finished)
        handed.remove(future)
        yield future.result()


def _hand_over(handed: Iterable[Future[Any]]) -> None:
    """Wait until each call is in the workers' queue: loky fails over a call in its own line when it is to end."""
    end = time.monotonic() + _PATIENCE
    while any(not (future.running() or future.done()) for future in handed) and time.monotonic() < end:
        time.sleep(_MOMENT)


def _next(finished: queue.SimpleQueue[Future[Any]]) -> Future[Any]:
    while True:
        try:
            return finished.get(timeout=_LOOK)
        except queue.Empty:
            continue


def _by_joblib(function: Callable[..., Any], calls: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
    with _told():
        yield from Parallel(return_as="generator_unordered", batch_size=1)(delayed(function)(*call) for call in calls)


def _by_ray(ray: Any, function: Callable[..., Any], calls: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
    """Ray's own tasks; its backend for joblib gives no result before all are there."""
    task = ray.remote(function)
    waiting = [task.remote(*call) for call in calls]
    with _told():
        while waiting:
            ready, waiting = ray.wait(waiting, timeout=_LOOK)
            yield from ray.get(ready)


@contextmanager
def _told() -> Iterator[None]:
    """A trial keeps what goes wrong within it as its result, so whatever else is raised is the cluster's fault."""
    try:
        yield
    except Exception as problem:
        cause = getattr(problem, "cause", problem)  # Ray's errors hold the one that was raised on the worker
        if isinstance(cause, LimelightError):
            raise cause from None
        raise ClusterError(
            f"the cluster did not finish a run ({type(cause).__name__}: {_first_line(cause)}); expected workers with "
            "Limelight as it is here; what was finished is kept, and the same command goes on from there"
        ) from None


def _first_line(problem: BaseException) -> str:
    return next((line[:200] for line in str(problem).splitlines() if line.strip()), "without a word")


def _extra(module: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise MissingExtraError(
            f"--backend {extra} needs {module}, which is not installed; {how_to_install(extra)}"
        ) from None

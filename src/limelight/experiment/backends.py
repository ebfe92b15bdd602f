"""Where do the cells run? On this machine, or on a Dask or Ray cluster: joblib speaks to all three."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, get_args

import joblib
import psutil

from limelight.errors import ClusterError, InputError, MissingExtraError, UnknownNameError, how_to_install

Backend = Literal["loky", "dask", "ray"]
_PATIENCE = 10  # seconds until a cluster that does not answer is given up


def cores() -> int:
    """The cores that this process may use."""
    process = psutil.Process()
    return len(process.cpu_affinity()) if hasattr(process, "cpu_affinity") else psutil.cpu_count() or 1


@contextmanager
def workers(backend: str, count: int, address: str | None) -> Iterator[None]:
    """joblib configured for the backend: `count` processes here, or the cluster at `address`.

    Without an address, Dask and Ray start a cluster on this machine. Raises `UnknownNameError`,
    `InputError`, `MissingExtraError`, and `ClusterError` where nothing answers.
    """
    if backend not in get_args(Backend):
        raise UnknownNameError("backend", backend, get_args(Backend))
    if backend == "loky":
        if address is not None:
            raise InputError(f"loky runs on this machine and takes no address, got {address!r}; use dask or ray")
        with joblib.parallel_config("loky", n_jobs=count, inner_max_num_threads=1):
            yield
        return
    with (_dask if backend == "dask" else _ray)(count, address):
        yield


@contextmanager
def _dask(count: int, address: str | None) -> Iterator[None]:
    distributed = _extra("distributed", "dask")
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # its own words on a failure are a traceback
    try:
        where = (
            {"address": address}
            if address
            else {"n_workers": count, "threads_per_worker": 1, "dashboard_address": None}
        )
        client = distributed.Client(timeout=_PATIENCE, **where)
    except (OSError, ValueError) as problem:
        raise ClusterError(
            f"no Dask scheduler answers at {address} ({problem}); expected the address that `dask scheduler` printed"
        ) from None
    with client, joblib.parallel_config("dask", client=client):
        yield


@contextmanager
def _ray(count: int, address: str | None) -> Iterator[None]:
    ray = _extra("ray", "ray")
    try:
        ray.init(address=address, num_cpus=None if address else count, log_to_driver=False, configure_logging=False)
    except (ConnectionError, ValueError, RuntimeError) as problem:
        raise ClusterError(f"no Ray cluster answers at {address} ({problem}); expected ray://HOST:PORT") from None
    try:
        importlib.import_module("ray.util.joblib").register_ray()
        with joblib.parallel_config("ray"):
            yield
    finally:
        ray.shutdown()


def _extra(module: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise MissingExtraError(
            f"--backend {extra} needs {module}, which is not installed; {how_to_install(extra)}"
        ) from None

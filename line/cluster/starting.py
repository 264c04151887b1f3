"""Ray, started or joined for as long as it is needed."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

from sise_ort.errors import MissingDependencyError, SiseError, first_line
from sise_ort.line.cluster.workers import LOCAL, Workers


def ray_module() -> Any:
    """The package ray.

    Raises
    ------
    MissingDependencyError
        It is not installed.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingDependencyError(
            f"Ray is needed for many machines ({first_line(error)}): pip install 'sise-ort[ray]'"
        ) from error
    return ray


@contextlib.contextmanager
def connected(workers: Workers) -> Iterator[Any]:
    """Start Ray on this machine, or join a cluster; what runs already in this process is taken and left as it is.

    Parameters
    ----------
    workers : Workers
        Where, and how much memory a Ray of our own may take.

    Yields
    ------
    module
        ray.

    Raises
    ------
    SiseError
        Ray does not start, or there is no cluster at the address.
    """
    ray = ray_module()
    if ray.is_initialized():
        yield ray
        return
    options: dict[str, Any] = {"address": workers.ray}
    if workers.ray == LOCAL:
        cores = workers.count * workers.cores if workers.count and workers.cores else None
        options |= {
            "include_dashboard": False,
            "object_store_memory": workers.memory,
            **({"num_cpus": cores} if cores else {}),
        }
    try:
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)
    except Exception as error:  # Ray's own errors have no common class
        ray.shutdown()
        raise SiseError(f"Ray does not start with '{workers.ray}': {first_line(error)}") from error
    try:
        yield ray
    finally:
        ray.shutdown()

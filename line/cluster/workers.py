"""How many workers there are, where they run, and how each of them loads the bundle."""

from __future__ import annotations

from dataclasses import dataclass

from sise_ort.errors import ParameterError, option, shown

LOCAL = "local"


@dataclass(frozen=True)
class Workers:
    """Processes that explain pictures, each with the bundle loaded once.

    Parameters
    ----------
    ray : str
        Where they run: "local" starts Ray on this machine for as long as it takes, "auto" takes the cluster that this
        machine belongs to; else an address, such as ``10.0.0.1:6379`` or ``ray://head:10001``.
    count : int, optional
        Number of workers; None takes one for each GPU, or as many as there are cores for.
    cores : int, optional
        Cores of each worker; None takes 4, or all where the cluster's largest machine has fewer.
    gpus : float, optional
        GPUs of each worker, such as 0.5 for two on a GPU; None takes 1 for providers of GPUs, and with provider "auto" where
        the cluster has GPUs.
    pictures : int, optional
        Pictures of a task, the unit of work that a killed worker loses; None takes 64, or fewer where that keeps all
        workers busy to the end.
    memory : int
        Bytes of Ray's object store with "local". Pictures and maps never pass through it.
    provider, batch_size, precision, trusted
        As for `sise_ort.load`.

    Raises
    ------
    ParameterError
        A number is out of range.
    """

    ray: str = LOCAL
    count: int | None = None
    cores: int | None = None
    gpus: float | None = None
    pictures: int | None = None
    memory: int = 100 << 20
    provider: str = "auto"
    batch_size: int | None = None
    precision: str = "auto"
    trusted: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.ray, str) or not self.ray:
            raise ParameterError(f'{option("ray")} is {shown(self.ray)}; it must be "local" or an address')
        for name, least in (("count", 1), ("cores", 1), ("pictures", 1), ("memory", 80 << 20)):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
                raise ParameterError(
                    f"{option(name)} is {shown(value)}; it must be an integer from {least} on"
                )
        if self.gpus is not None and not (
            isinstance(self.gpus, (int, float)) and not isinstance(self.gpus, bool) and 0 <= self.gpus <= 64
        ):
            raise ParameterError(f"{option('gpus')} is {shown(self.gpus)}; it must be a number from 0 to 64")

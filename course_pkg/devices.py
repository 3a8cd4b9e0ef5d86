"""Which device a run uses, and whether bfloat16 is worth using on it."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from course_pkg.errors import unknown_name

if TYPE_CHECKING:
    import torch

DEVICES = ("auto", "cuda", "mps", "cpu")

_ROUNDS = 5
_PAYS = 0.9  # of float32's time: fewer digits must buy more than the noise of a measurement


def choose_device(name: str = "auto") -> "torch.device":
    """The device of that name; ``"auto"`` is the first of cuda, mps and cpu that is here.

    Raises:
        ValueError: the name is not one of ``DEVICES``, or there is no such device here.
    """
    import torch

    if name not in DEVICES:
        raise unknown_name("device", name, DEVICES)
    present = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        name = next(kind for kind, there in present.items() if there)
    if not present[name]:
        raise ValueError(f"device={name!r}: there is no such device here.")
    return torch.device(name)


def bfloat16_is_faster(
    work: Callable[[], Any],
    device: "torch.device",
    clock: Callable[[], float] = time.perf_counter,
) -> bool:
    """Whether ``work()`` takes at most nine tenths of its time under autocast to bfloat16.

    Asking for the processor's name would not do: with units for bfloat16 a CPU gains, without them
    it may need twenty times as long. CUDA devices that only emulate bfloat16, and MPS, are not
    tried.

    Args:
        work: something like a step of the run; called a dozen times.
        device: where it works.
        clock: seconds.
    """
    import torch

    if device.type == "mps":
        return False
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return False

    def seconds(enabled: bool) -> float:
        start = clock()
        with torch.autocast(device.type, torch.bfloat16, enabled=enabled):
            work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return clock() - start

    for enabled in (False, True):  # the first call of each sets things up
        seconds(enabled)
    rounds = [(seconds(False), seconds(True)) for _ in range(_ROUNDS)]
    in_float32, in_bfloat16 = (min(times) for times in zip(*rounds, strict=True))
    return in_bfloat16 < _PAYS * in_float32

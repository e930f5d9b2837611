"""The device of a model, and its precision."""

from contextlib import AbstractContextManager, nullcontext

import torch

from preprocess.common.errors import UserError


def choose_device(name: str, local: int = 0) -> torch.device:
    """The device called `name`; among several processes on one machine, number `local` has its own GPU.

    Raises UserError if this machine has no such device.
    """
    if name in ("auto", "cuda") and torch.cuda.is_available():
        if local >= torch.cuda.device_count():
            raise UserError(f"{torch.cuda.device_count()} GPUs here, and a process number {local + 1}: start fewer")
        torch.cuda.set_device(local)
        return torch.device("cuda", local)
    if name == "auto":
        return torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # AssertionError: this PyTorch is built without CUDA
        raise UserError(f"no device '{name}' here: use --device cpu, or auto to take what there is") from error
    return device


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device}, {torch.get_num_threads()} threads"


def mixed_precision(device: torch.device) -> AbstractContextManager:
    """bfloat16 on a GPU, float32 on a CPU.

    CPUs that multiply in bfloat16 would be half as fast again, but their gradients of 3D convolutions are wrong:
    some differ from run to run, or are NaN (PyTorch 2.11 with oneDNN, channels last or first).
    """
    return torch.autocast("cuda", torch.bfloat16) if device.type == "cuda" else nullcontext()

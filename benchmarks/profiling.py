"""What a step spends its time on, by the profiler of PyTorch."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

# How the profiler's operators are summed up; the first part that fits counts.
PARTS = {
    # nvjet, cutlass, xmma: what NVIDIA's libraries call them.
    "matrix products": ("mm", "linear", "conv", "mkldnn", "nvjet", "cutlass", "xmma"),
    "GELU": ("gelu",),
    "LayerNorm": ("layer_norm",),
    "optimiser, averaging, clipping": ("adam", "lerp", "foreach", "norm"),
    "transposes, copies, casts": ("copy", "contiguous", "clone", "cat", "stack", "fill", "zero"),
    "compiled kernels": ("cpp_fused", "triton", "graph"),
}


def time_by_part(step: Callable[[], Any], steps: int) -> dict[str, float]:
    """Share of the operators' own time by part; Python between operators counts as ``other``."""
    cuda = torch.cuda.is_available()
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if cuda else [])
    with profile(activities=activities) as profiler, torch.profiler.record_function("all steps"):
        for _ in range(steps):
            step()
    return shares_by_part(profiler.key_averages(), cuda)


def shares_by_part(events: Iterable[Any], cuda: bool) -> dict[str, float]:
    """Share of the time by part, of a profiler's averages: on a GPU, of its kernels' time."""
    times: Counter[str] = Counter()
    for event in events:
        # Operators repeat the time of their kernels, and a name given to all of it spans them.
        if cuda and (event.device_type == DeviceType.CPU or event.is_user_annotation):
            continue
        name = event.key.lower()
        fitting = (part for part, words in PARTS.items() if any(word in name for word in words))
        own = max(event.self_device_time_total, 0) if cuda else event.self_cpu_time_total
        times[next(fitting, "other")] += own
    total = sum(times.values())
    return {part: round(seconds / total, 3) for part, seconds in times.most_common()}

"""Print what numerical results depend on: the CPU, its instruction sets, torch and the number of threads."""

import os
import platform
from pathlib import Path

import torch

SHOWN = ("avx2", "fma", "avx512f", "avx512_bf16", "avx512_vnni", "amx_tile", "amx_bf16", "neon", "sve")
SETTINGS = ("OMP_NUM_THREADS", "ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS", "MKL_CBWR")


def cpu_facts() -> tuple[str, list[str]]:
    """Return the CPU's name and those of its instruction sets that torch's libraries choose by."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # no Linux
        return platform.processor() or platform.machine(), []
    facts = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    flags = facts.get("flags", facts.get("Features", "")).split()
    model = facts.get("model name", platform.machine())
    return f"{model}, family {facts.get('cpu family')}, model {facts.get('model')}", [x for x in SHOWN if x in flags]


def main() -> None:
    """Print one line."""
    name, sets = cpu_facts()
    chosen = "".join(f", {key}={os.environ[key]}" for key in SETTINGS if key in os.environ)
    used, threads = torch.backends.cpu.get_cpu_capability(), torch.get_num_threads()
    print(
        f"CPU: {name}, {os.cpu_count()} cores ({' '.join(sets)}); torch {torch.__version__} uses {used}, "
        f"{threads} thread(s){chosen}"
    )


if __name__ == "__main__":
    main()

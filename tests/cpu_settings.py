"""Run the numerical tests as other CPUs would: each instruction set, thread count and rounding in turn.

Usage: python tests/cpu_settings.py [pytest arguments]. Prints a table, and the failures of every setting that is red.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

PROJECT = Path(__file__).parents[1]
SETTINGS = [
    {},
    *({"OMP_NUM_THREADS": str(count)} for count in (2, 4)),
    *({"ATEN_CPU_CAPABILITY": name} for name in ("default", "avx2", "avx512")),
    *({"ONEDNN_MAX_CPU_ISA": name} for name in ("AVX2", "AVX512_CORE", "AVX512_CORE_AMX")),
    *({"MKL_ENABLE_INSTRUCTIONS": name} for name in ("AVX2", "AVX512")),
    *({"MKL_CBWR": name} for name in ("COMPATIBLE", "AVX2")),  # unlike the former, also heeded on a CPU of AMD
    {"UNIMOS_TEST_ROUNDING": "4"},  # epsilons by which every sum of torch is off: tests/rounding.py
]
FINGERPRINT = """
import hashlib, torch
generator, digest = torch.Generator().manual_seed(0), hashlib.sha256()
for dtype in (torch.float32, torch.float64, torch.bfloat16):
    a, b = (torch.randn(300, 257, generator=generator, dtype=torch.float64).to(dtype) for _ in range(2))
    convolved = torch.nn.functional.conv1d(a[:3], b[:5, None, :9].expand(5, 3, 9))
    for result in (a @ b.mT, a[:7] @ b.mT, a.softmax(-1), a.exp(), convolved):
        digest.update(result.contiguous().view(torch.uint8).numpy().tobytes())
print(digest.hexdigest()[:8])
"""


def run_setting(setting: dict[str, str], arguments: list[str]) -> tuple[int, str, str, float]:
    """Return pytest's exit status and output under a setting, a hash of arithmetic under it, and the seconds taken."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **setting}
    output = subprocess.run([sys.executable, "-c", FINGERPRINT], env=environment, capture_output=True, text=True)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--tb=short"]
    command += ["-m", "numerical and not slow and not gpu", *arguments]
    start = time.monotonic()
    process = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True)
    return process.returncode, process.stdout + process.stderr, output.stdout.strip(), time.monotonic() - start


def main(arguments: list[str]) -> int:
    """Run every setting; return 0 if all are green."""
    subprocess.run([sys.executable, PROJECT / "tests" / "describe_cpu.py"], check=True)
    print(f"{'setting':42}{'arithmetic':12}{'outcome':40}{'s':>6}")
    failures = {}
    for setting in SETTINGS:
        name = ", ".join(f"{key}={value}" for key, value in setting.items()) or "as it is, one thread"
        status, text, arithmetic, seconds = run_setting(setting, arguments)
        outcome = text.strip().splitlines()[-1].split(" in ")[0] if text.strip() else f"exit status {status}"
        print(f"{name:42}{arithmetic:12}{outcome:40}{seconds:6.0f}", flush=True)
        if status:
            failures[name] = text
    for name, text in failures.items():
        print(f"\n{name}:\n{text}")
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

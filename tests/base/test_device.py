"""Automatic training precision: a fixed table by device and CPU instructions."""

import pytest
import torch

from unimos_pipe.base import device


@pytest.mark.parametrize("able", [True, False])
def test_auto_goes_by_the_device_and_the_cpu(monkeypatch, able):
    monkeypatch.setattr(device, "cpu_has_bf16", lambda: able)
    places = [torch.device(name) for name in ("cpu", "cuda", "mps")]
    assert [device.precision_on_device("auto", place) for place in places] == [
        "bf16" if able else "fp32",
        "fp32",
        "fp32",
    ]
    for name in ("fp32", "fp64", "bf16"):
        assert {device.precision_on_device(name, place) for place in places} == {name}


@pytest.mark.parametrize(
    ("machine", "avx", "amx", "found"),
    [
        ("x86_64", True, False, True),
        ("AMD64", False, True, True),
        ("x86_64", False, False, False),
        ("arm64", True, True, False),
    ],
)
def test_bf16_is_told_by_the_cpus_instructions(monkeypatch, machine, avx, amx, found):
    monkeypatch.setattr(device.platform, "machine", lambda: machine)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert device.cpu_has_bf16() == found

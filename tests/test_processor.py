"""Which library multiplies, and that nothing is rounded for it."""

import contextlib
import subprocess
import sys
import threading

import pytest
import torch

from lightning_a3c.system.processor import limited_threads, onednn_multiplies, prefer_onednn

CPU, GPU = torch.device("cpu"), torch.device("cuda")
SMALL, LARGE = [(64, 64), (64,)], [(512, 512), (512,)]
AVX512, AMX = {"avx512_f": True}, {"avx512_f": True, "amx_bf16": True}


@pytest.fixture
def processor(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: request.param, raising=False)


@pytest.mark.parametrize("processor", [AVX512], indirect=True)
def test_onednn_multiplies_within_it_only(processor: None) -> None:
    with prefer_onednn(LARGE, CPU):
        assert torch.get_float32_matmul_precision() == "medium"
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.parametrize("processor", [AVX512], indirect=True)
def test_of_two_at_once_the_last_puts_the_users_setting_back(processor: None) -> None:
    first, second = contextlib.ExitStack(), contextlib.ExitStack()
    first.enter_context(prefer_onednn(LARGE, CPU))
    second.enter_context(prefer_onednn(LARGE, CPU))
    first.close()
    assert torch.get_float32_matmul_precision() == "medium"
    second.close()
    assert torch.get_float32_matmul_precision() == "highest"


def test_threads_of_pytorch_are_as_before_after_two_fits_at_once() -> None:
    before = torch.get_num_threads()
    first_set, second_set, first_ended = threading.Event(), threading.Event(), threading.Event()
    ends = []

    def first() -> None:
        with limited_threads(1, threads=before + 1):
            first_set.set()
            second_set.wait()
        first_ended.set()
        ends.append(torch.get_num_threads())

    def second() -> None:
        first_set.wait()
        with limited_threads(1, threads=before + 2):
            second_set.set()
            first_ended.wait()
            ends.append(torch.get_num_threads())
        ends.append(torch.get_num_threads())

    fits = [threading.Thread(target=fit) for fit in (first, second)]
    for fit in fits:
        fit.start()
    for fit in fits:
        fit.join()
    fresh = threading.Thread(target=lambda: ends.append(torch.get_num_threads()))
    fresh.start()
    fresh.join()
    assert sorted(ends) == [before, before, before, before + 2]
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("processor", [AVX512], indirect=True)
def test_an_error_within_it_leaves_nothing_changed(processor: None) -> None:
    with contextlib.suppress(EOFError), prefer_onednn(LARGE, CPU):
        raise EOFError
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.parametrize(
    ("processor", "shapes", "device"),
    [({"avx2": True}, LARGE, CPU), (AMX, LARGE, CPU), (AVX512, LARGE, GPU), (AVX512, SMALL, CPU)],
    indirect=["processor"],
)
def test_mkl_stays_where_it_is_as_fast_and_where_onednn_would_round(
    processor: None, shapes: list[tuple[int, ...]], device: torch.device
) -> None:
    with prefer_onednn(shapes, device):
        assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.parametrize("processor", [AVX512], indirect=True)
def test_what_the_user_chose_stays(processor: None) -> None:
    torch.set_float32_matmul_precision("high")
    try:
        with prefer_onednn(LARGE, CPU):
            assert torch.get_float32_matmul_precision() == "high"
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")


NEWER_SWITCH = """
import torch
from lightning_a3c.system.processor import prefer_onednn

torch.cpu.get_capabilities = lambda: {"avx512_f": True}
torch.backends.mkldnn.matmul.fp32_precision = "bf16"
with prefer_onednn([(512, 512)], torch.device("cpu")):
    print(torch.backends.mkldnn.matmul.fp32_precision)
"""


@pytest.mark.skipif(not hasattr(torch.backends.mkldnn, "matmul"), reason="PyTorch older than the switch")
def test_what_the_user_chose_with_the_newer_switch_stays() -> None:
    run = subprocess.run([sys.executable, "-c", NEWER_SWITCH], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["bf16"]


@pytest.mark.parametrize("processor", [AVX512], indirect=True)
def test_it_is_known_which_products_are_onednns(processor: None) -> None:
    single, half = torch.zeros(1), torch.zeros(1, dtype=torch.bfloat16)
    assert [onednn_multiplies(single), onednn_multiplies(half)] == [False, True]
    with prefer_onednn(LARGE, CPU):
        assert [onednn_multiplies(single), onednn_multiplies(single.double())] == [True, False]
        assert not onednn_multiplies(single.to("meta"))


def test_products_are_as_exact_as_float32() -> None:
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(256, 3136, generator=generator) for _ in range(2))
    with prefer_onednn(LARGE, CPU):
        product = left @ right.T
    exact = left.double() @ right.double().T
    assert (product - exact).abs().max() < 1e-2  # rounded to bfloat16, the factors alone would make it 0.4
    rounded = left.bfloat16().double() @ right.bfloat16().double().T
    assert (rounded - exact).abs().max() > 1e-1

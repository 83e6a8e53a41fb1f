"""Make a checkpoint small: the network alone, in half precision, with what `test`, `play` and `predict` need.

    python benchmarks/publish_policy.py runs/pong_data_fast/1/checkpoints/solved.ckpt results/pong/policy.ckpt

Training cannot be resumed from it.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

from lightning_a3c.system.files import atomic_write

KEPT = ("pytorch-lightning_version", "hyper_parameters", "progress", "epoch", "global_step")


def small(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """`KEPT`, and the weights in float16."""
    weights = {name: tensor.half() for name, tensor in checkpoint["state_dict"].items()}
    return {name: checkpoint[name] for name in KEPT} | {"state_dict": weights}


def main() -> None:
    """Read, shrink, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("policy", type=Path)
    args = parser.parse_args()
    with atomic_write(args.policy) as partial:
        torch.save(small(torch.load(args.checkpoint, map_location="cpu", weights_only=True)), partial)


if __name__ == "__main__":
    main()

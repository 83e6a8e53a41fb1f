"""A checkpoint's optimizer and schedule go on with the specs in force."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

from lightning_a3c.learning.optimizers import Specs, follow

UPDATES = 30


def adam(**changes: Any) -> dict[str, Any]:
    return {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.01} | changes}


def sgd(**changes: Any) -> dict[str, Any]:
    return {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.01} | changes}


def schedule(name: str, **arguments: Any) -> dict[str, Any]:
    return {"class_path": f"torch.optim.lr_scheduler.{name}", "init_args": arguments}


def linear(total: int) -> dict[str, Any]:
    return schedule("LinearLR", start_factor=1.0, end_factor=0.0, total_iters=total)


def plateau(**changes: Any) -> dict[str, Any]:
    arguments = {"monitor": "return_100", "mode": "max", "patience": 2, "factor": 0.1}
    return {"class_path": "pytorch_lightning.cli.ReduceLROnPlateau", "init_args": arguments | changes}


def train(specs: Specs, updates: int, checkpoint: dict[str, Any] | None = None) -> tuple[Any, Any, dict[str, Any]]:
    """Optimizer and schedule after `updates` of one parameter, from a checkpoint on if one is given; and a new one.

    A schedule with a monitor sees the same value at every tenth update.
    """
    parameter = nn.Parameter(torch.ones(3))
    optimizer, scheduler = specs.build([parameter])
    begin = 0
    if checkpoint is not None:
        optimizer.load_state_dict(copy.deepcopy(checkpoint["optimizer_states"][0]))
        for state in checkpoint["lr_schedulers"]:
            scheduler.load_state_dict(copy.deepcopy(state))
        begin = checkpoint["global_step"]
    for update in range(begin, updates):
        parameter.grad = torch.full((3,), float(update))
        optimizer.step()
        if hasattr(scheduler, "monitor"):
            if update % 10 == 9:
                scheduler.step(5.0)
        elif scheduler is not None:
            scheduler.step()
    states = [] if scheduler is None else [scheduler.state_dict()]
    saved = {"optimizer_states": [optimizer.state_dict()], "lr_schedulers": states, "global_step": updates}
    return optimizer, scheduler, copy.deepcopy(saved)


def settings(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    return {name: value for name, value in optimizer.param_groups[0].items() if name != "params"}


@pytest.mark.parametrize(
    ("theirs", "ours", "said"),
    [
        (Specs(adam(), None), Specs(adam(lr=0.5), None), ["Adam lr 0.01 → 0.5"]),
        (
            Specs(adam(), None),
            Specs(adam(eps=1e-3, weight_decay=0.1), None),
            ["Adam eps 1e-08 → 0.001", "Adam weight_decay 0 → 0.1"],
        ),
        (Specs(adam(), linear(40)), Specs(adam(), linear(80)), ["LinearLR total_iters 40 → 80"]),
        (Specs(adam(), linear(40)), Specs(adam(lr=0.5), linear(40)), ["Adam lr 0.01 → 0.5"]),
        (Specs(adam(), linear(40)), Specs(adam(eps=1e-3), linear(40)), ["Adam eps 1e-08 → 0.001"]),
        (Specs(adam(), linear(40)), Specs(adam(), None), ["lr_scheduler LinearLR → none"]),
        (Specs(adam(), None), Specs(adam(), linear(40)), ["lr_scheduler none → LinearLR"]),
        (
            Specs(adam(), linear(40)),
            Specs(adam(), schedule("CosineAnnealingLR", T_max=50)),
            ["lr_scheduler LinearLR → CosineAnnealingLR"],
        ),
        (Specs(adam(), plateau()), Specs(adam(), linear(40)), ["lr_scheduler ReduceLROnPlateau → LinearLR"]),
        (
            Specs(adam(), None),
            Specs(adam(), schedule("OneCycleLR", max_lr=0.1, total_steps=50)),
            ["lr_scheduler none → OneCycleLR"],
        ),
    ],
)
def test_a_resumed_run_has_the_settings_of_a_fresh_one_and_keeps_the_moments(
    theirs: Specs, ours: Specs, said: list[str]
) -> None:
    _, _, checkpoint = train(theirs, UPDATES)
    moments = copy.deepcopy(checkpoint["optimizer_states"][0]["state"])
    assert follow(checkpoint, theirs, ours) == (said, False)
    assert str(checkpoint["optimizer_states"][0]["state"]) == str(moments)
    for updates in (UPDATES, UPDATES + 5):
        assert settings(train(ours, updates, checkpoint)[0]) == settings(train(ours, updates)[0])


def test_a_checkpoint_of_the_same_specs_is_left_alone() -> None:
    specs = Specs(adam(), linear(40))
    _, _, checkpoint = train(specs, UPDATES)
    before = str(checkpoint)
    spelt_out = Specs(adam(betas=(0.9, 0.999), eps=1e-8), linear(40))
    assert follow(checkpoint, specs, spelt_out) == ([], False)
    assert str(checkpoint) == before


@pytest.mark.parametrize(
    ("theirs", "ours", "said"),
    [
        (adam(), sgd(momentum=0.9), "optimizer Adam → SGD"),
        (adam(), adam(amsgrad=True), "Adam amsgrad False → True"),
        ({"class_path": "gone.Away"}, adam(), "optimizer gone.Away → Adam"),
    ],
)
def test_an_optimizer_that_keeps_something_else_starts_afresh(
    theirs: dict[str, Any], ours: dict[str, Any], said: str
) -> None:
    _, _, checkpoint = train(Specs(adam(), None), UPDATES)
    assert follow(checkpoint, Specs(theirs, None), Specs(ours, None)) == ([said], True)
    resumed, _, _ = train(Specs(ours, None), UPDATES + 1, checkpoint)
    assert settings(resumed) == settings(train(Specs(ours, None), 1)[0])
    assert {int(state["step"]) for state in resumed.state.values() if "step" in state} <= {1}


def test_a_plateau_schedule_takes_new_arguments_and_remembers_what_it_has_seen() -> None:
    theirs, ours = Specs(adam(), plateau()), Specs(adam(), plateau(patience=3, factor=0.5))
    _, old, checkpoint = train(theirs, UPDATES)
    assert (old.best, old.num_bad_epochs) == (5, 2)
    assert follow(checkpoint, theirs, ours).differences == [
        "ReduceLROnPlateau factor 0.1 → 0.5",
        "ReduceLROnPlateau patience 2 → 3",
    ]
    optimizer, scheduler, _ = train(ours, UPDATES + 10, checkpoint)
    assert (scheduler.best, scheduler.num_bad_epochs, settings(optimizer)["lr"]) == (5, 3, 0.01)
    optimizer, scheduler, _ = train(ours, UPDATES + 20, checkpoint)
    assert settings(optimizer)["lr"] == 0.005


def test_a_plateau_schedule_keeps_the_rate_it_came_to_unless_another_one_is_asked_for() -> None:
    theirs = Specs(adam(), plateau(patience=0))
    _, _, lowered = train(theirs, UPDATES)
    for ours, rate in (
        (Specs(adam(), plateau(patience=9)), 0.0001),
        (Specs(adam(eps=1e-3), plateau(patience=0)), 0.0001),
        (Specs(adam(lr=0.5), plateau(patience=9)), 0.5),
    ):
        checkpoint = copy.deepcopy(lowered)
        follow(checkpoint, theirs, ours)
        optimizer, _, _ = train(ours, UPDATES, checkpoint)
        assert settings(optimizer)["lr"] == pytest.approx(rate)


def test_a_plateau_schedule_that_watches_something_else_has_seen_nothing() -> None:
    theirs, ours = Specs(adam(), plateau()), Specs(adam(), plateau(monitor="val/return_mean"))
    _, _, checkpoint = train(theirs, UPDATES)
    follow(checkpoint, theirs, ours)
    _, scheduler, _ = train(ours, UPDATES, checkpoint)
    assert (scheduler.best, scheduler.num_bad_epochs) == (-float("inf"), 0)


def test_a_schedule_that_ends_before_the_checkpoint_is_refused() -> None:
    theirs, ours = Specs(adam(), None), Specs(adam(), schedule("OneCycleLR", max_lr=0.1, total_steps=20))
    _, _, checkpoint = train(theirs, UPDATES)
    with pytest.raises(ValueError, match=r"lr_scheduler OneCycleLR does not reach update 30"):
        follow(checkpoint, theirs, ours)


def test_optimizers_of_another_shape_are_left_alone() -> None:
    _, _, checkpoint = train(Specs(adam(), None), UPDATES)
    checkpoint["optimizer_states"] *= 2
    before = str(checkpoint)
    assert follow(checkpoint, Specs(adam(), None), Specs(adam(lr=0.5), None)) == ([], False)
    assert str(checkpoint) == before

"""Module, optimizer and schedule of a ranker's training: all that a step changes."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from services.training.checkpoints import State
from services.training.ranker import RankerModule


@dataclass(slots=True, kw_only=True)
class Fit:
    """What a step changes."""

    module: RankerModule
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.OneCycleLR
    # Of every step so far, and of every epoch so far.
    losses: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)

    @staticmethod
    def start(module: RankerModule, step_count: int) -> "Fit":
        groups = module.parameter_groups()
        optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.99))
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            [group["lr"] for group in groups],
            total_steps=max(step_count, 2),
            pct_start=0.1,
        )
        return Fit(module=module, optimizer=optimizer, schedule=schedule)

    @property
    def done(self) -> int:
        """Steps so far."""
        return len(self.losses)

    def state(self) -> State:
        """Return all that a step changes."""
        held = self.optimizer.state_dict()
        tensors = {f"module/{name}": value for name, value in self.module.state_dict().items()}
        for index, of_parameter in held["state"].items():
            tensors |= {f"optimizer/{index}/{name}": v for name, v in of_parameter.items()}
        schedule = self.schedule.state_dict()
        values = {
            "groups": held["param_groups"],
            "schedule": {"last_epoch": schedule["last_epoch"], "_step_count": schedule["_step_count"]},
            "losses": self.losses,
            "validation": self.validation,
        }  # fmt: skip
        return State(tensors=tensors, values=values)

    def take_up(self, state: State | None) -> None:
        """Become what a state says; one of another module is left alone."""
        own = {f"module/{name}": v.shape for name, v in self.module.state_dict().items()}
        if state is None or own != {
            name: v.shape for name, v in state.tensors.items() if name in own
        }:
            return
        of_parameter: dict[int, dict[str, Tensor]] = {}
        for name, value in state.tensors.items():
            part, _, rest = name.partition("/")
            if part == "optimizer":
                index, _, what = rest.partition("/")
                of_parameter.setdefault(int(index), {})[what] = value
        self.module.load_state_dict(
            {name.partition("/")[2]: v for name, v in state.tensors.items() if name in own}
        )
        groups = [
            {**group, "betas": tuple(group["betas"])} for group in state.values["groups"]
        ]  # JSON has no tuples
        self.optimizer.load_state_dict({"state": of_parameter, "param_groups": groups})
        self.schedule.load_state_dict(state.values["schedule"])
        self.losses, self.validation = state.values["losses"], state.values["validation"]

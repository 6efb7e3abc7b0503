"""The training loop that all networks share: AdamW, cosine rate, moving average of the weights, checkpoints, a log line now and then."""

import copy
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FitSettings:
    """Optimiser and bookkeeping.

    Attributes:
        steps: number of batches in all.
        rate: highest learning rate, reached after `warm_up` steps, then falling on a cosine to 1 % of it.
        decay: weight decay of AdamW (AMSGrad variant, as in the paper).
        average: decay of the moving average of the weights, which is what is kept.
        bfloat16: forward pass in bfloat16 (twice as fast on recent CPUs, nothing lost here).
        save_every: steps between checkpoints; a stopped run goes on from the last one.
        slow: beginnings of the names of parameters that learn at a tenth of the rate, because they know something already.
    """

    steps: int
    rate: float = 2e-3
    decay: float = 0.02
    warm_up: int = 200
    average: float = 0.998
    bfloat16: bool = True
    save_every: int = 200
    slow: tuple[str, ...] = ()

    def rate_at(self, step: int) -> float:
        """Learning rate of a step, as a share of `rate`."""
        if step < self.warm_up:
            return (step + 1) / self.warm_up
        done = (step - self.warm_up) / max(self.steps - self.warm_up, 1)
        return 0.01 + 0.99 * 0.5 * (1.0 + float(torch.cos(torch.tensor(done * torch.pi))))


Batch = Mapping[str, Tensor]


def fit(
    network: nn.Module,
    batches: Callable[[int], Iterable[Batch]],
    loss_of: Callable[[nn.Module, Batch], Tensor],
    settings: FitSettings,
    checkpoint: Path,
    evaluate: Callable[[nn.Module], str] | None = None,
) -> nn.Module:
    """Train and return the averaged network, in eval mode.

    Args:
        network: changed in place.
        batches: from the first step to the batches from that step on.
        loss_of: scalar loss of one batch.
        settings: see `FitSettings`.
        checkpoint: file that the run continues from where it exists, and is saved to.
        evaluate: words about the averaged network for the log, asked for at every checkpoint.
    """
    optimiser = torch.optim.AdamW(_groups(network, settings), lr=settings.rate, weight_decay=settings.decay, amsgrad=True)
    averaged = copy.deepcopy(network).eval()
    step = _resume(checkpoint, network, averaged, optimiser)
    running, started_s, first = 0.0, time.perf_counter(), step
    network.train()
    for batch in batches(step):
        if step >= settings.steps:
            break
        for group in optimiser.param_groups:
            group["lr"] = settings.rate * settings.rate_at(step) * group["share"]
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.bfloat16):
            loss = loss_of(network, batch)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        _average(averaged, network, min(settings.average, (step + 1) / (step + 10)))
        running += (float(loss.detach()) - running) * max(0.01, 1.0 / (step - first + 1))
        step += 1
        if step % settings.save_every == 0 or step == settings.steps:
            _save(checkpoint, network, averaged, optimiser, step)
            words = evaluate(averaged) if evaluate else ""
            log.info(
                "step %d/%d loss %.4f %.3f s/step %s",
                step,
                settings.steps,
                running,
                (time.perf_counter() - started_s) / (step - first),
                words,
            )
    return averaged


def _groups(network: nn.Module, settings: FitSettings) -> list[dict[str, Any]]:
    """The parameters with their share of the learning rate."""
    slow = [value for name, value in network.named_parameters() if name.startswith(settings.slow)]
    fast = [value for name, value in network.named_parameters() if not name.startswith(settings.slow)]
    return [{"params": values, "share": share} for values, share in ((fast, 1.0), (slow, 0.1)) if values]


@torch.no_grad()
def _average(averaged: nn.Module, network: nn.Module, keep: float) -> None:
    for kept, new in zip(averaged.state_dict().values(), network.state_dict().values(), strict=True):
        if kept.is_floating_point():
            kept.lerp_(new, 1.0 - keep)
        else:
            kept.copy_(new)


def _save(path: Path, network: nn.Module, averaged: nn.Module, optimiser: torch.optim.Optimizer, step: int) -> None:
    state = {"network": network.state_dict(), "averaged": averaged.state_dict(), "optimiser": optimiser.state_dict(), "step": step}
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.replace(path)


def _resume(path: Path, network: nn.Module, averaged: nn.Module, optimiser: torch.optim.Optimizer) -> int:
    if not path.is_file():
        return 0
    state = torch.load(path, weights_only=True)
    network.load_state_dict(state["network"])
    averaged.load_state_dict(state["averaged"])
    optimiser.load_state_dict(state["optimiser"])
    log.info("going on from step %d of %s", state["step"], path)
    return int(state["step"])

"""The training loop, on one machine or many.

accelerate synchronizes gradients over processes and scales losses in half precision. It does not divide the data:
`sam_edge.data.order.Steps` gives each process its draws. Everything random follows from the seed, the draw and the
step, so a resumed run is equal to one that was never interrupted.

A run is a folder:

| file | what |
|---|---|
| `recipe.json` | the recipe; a resumed run must have the same |
| `start.json` | which weights are pretrained; a resumed run must have the same |
| `checkpoints/` | the last two states, each one file |
| `losses.jsonl` | the losses, one line for each step |
| `tensorboard/` | the losses as curves |
| `pictures/` | photos with prompts and masks of some steps |
| `model.safetensors` | at the end, the averaged weights in fp32 |
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate.utils import gather_object
from safetensors.torch import save
from torch import nn
from torch.optim.swa_utils import AveragedModel

from sam_edge.data.augment import Augmentation
from sam_edge.data.mixture import open_mixture
from sam_edge.data.order import Steps
from sam_edge.data.sa1b import MaskFilter
from sam_edge.data.skips import ALLOWED_BROKEN, SkipLog
from sam_edge.data.stream import TrainingSet
from sam_edge.quantization.weight_grids import round_layers
from sam_edge_runtime.errors import DataError, UsageError
from sam_edge_runtime.system.files import write_file

from .accelerator import make_accelerator
from .batch import RawBatch
from .checkpoint import TrainingState, checkpoints, read_training_state, save_state
from .files import PICTURES, RECIPE_FILE, START_FILE, WEIGHTS_FILE
from .interrupt import Interrupt
from .logs import LOSSES_FILE, Record, StepLog
from .objective import Objective
from .optimization import averaged, freeze, make_optimizer, set_rate
from .pictures import ContactSheet
from .reading import read_steps
from .recipe import Phase, TrainRecipe, with_current_keys
from .resume import check_recipe, read_values, refuse_run, restore, state_after


@dataclass(frozen=True)
class TrainJob:
    """Where a run reads and writes, and how it is run. It does not change what is learned, except `photos_only`.

    Attributes:
        data: the folder that the recipe's sources are relative to.
        out: folder of the run.
        resume: whether to resume the run in `out`.
        workers: worker processes that read photos.
        save_every: steps between checkpoints.
        picture_every: steps between pictures; 0 for none.
        stop_after: stop, with a checkpoint, after this many steps of the run; None to run to the end.
        allow_broken: largest accepted share of broken records, 0..1.
        photos_only: read no masks, and use every photo whole and without augmentation, to distil from stored
            embeddings.

    Raises:
        UsageError: a number out of range.
    """

    data: Path
    out: Path
    resume: bool = False
    workers: int = 1
    save_every: int = 100
    picture_every: int = 250
    stop_after: int | None = None
    allow_broken: float = ALLOWED_BROKEN
    photos_only: bool = False

    def __post_init__(self) -> None:
        for name, least in {"workers": 0, "save_every": 1, "picture_every": 0, "stop_after": 1}.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise UsageError(f"{name} {value} is not possible: choose at least {least}")
        SkipLog(self.allow_broken)  # refuses a share outside 0..1


class Trainer:
    """One run of an objective under a recipe.

    Attributes:
        step: number of steps done.
        skips: records that were skipped so far.
        note: a note for the user about the logs; empty if there is none.
    """

    def __init__(
        self, job: TrainJob, recipe: TrainRecipe, objective: Objective, pretrained: Collection[str] = ()
    ) -> None:
        """Prepare a new run, or load the state of the run to resume.

        Args:
            job: the run's data and folder, and how it is run.
            recipe: what is trained.
            objective: what a step minimizes, with the initial weights.
            pretrained: names of its pretrained parameters.

        Raises:
            DataError: data are missing or unusable.
            UsageError: the folder holds a run and `resume` is false, or a run of another recipe; the photos of a step
                cannot be divided over the processes; or this machine does not have the recipe's precision.
            CheckpointError: a checkpoint cannot be read.
        """
        self.job, self.recipe, self.objective = job, recipe, objective
        self.pretrained = sorted(pretrained)
        torch.manual_seed(recipe.seed)
        self.accelerator = make_accelerator(recipe.precision)
        self._check_division()
        self.mixture = open_mixture([str(job.data / source) for source in recipe.data])
        draws = tuple(zip(self.mixture.shares, map(len, self.mixture.sources), strict=True))
        self.skips = SkipLog(job.allow_broken, draws=draws)
        self.note = ""
        self.step = self._saved = 0
        state = self._earlier_state()
        freeze(objective.student, recipe.frozen)
        # Convolutions run a third faster with channels last, on CPUs and on tensor cores.
        trained = objective.trained.to(self.accelerator.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = make_optimizer(trained, recipe, pretrained)
        self.average: AveragedModel = averaged(trained, recipe.ema)
        if state is not None:
            self.step = restore(state, trained, self.average, self.optimizer)
        self._prepared_optimizer = self.accelerator.prepare_optimizer(self.optimizer)

    @property
    def is_main(self) -> bool:
        """Whether this process writes and prints."""
        return bool(self.accelerator.is_main_process)

    def run(self, on_step: Callable[[int, Record], None] = lambda step, record: None) -> Path | None:
        """Train to the end, or to `stop_after`.

        Args:
            on_step: called in the main process after each step, with the number of steps done and its losses.

        Returns:
            The file of weights, or None if the run stopped before its end.

        Raises:
            DataError: too many records are broken, or the loss or gradient is NaN or infinite. In a finished run the
                weights are written first.
            KeyboardInterrupt: Ctrl-C was pressed; a checkpoint was written first.
            OutputError: a checkpoint cannot be written; earlier ones are kept.
        """
        last = self.recipe.steps if self.job.stop_after is None else min(self.job.stop_after, self.recipe.steps)
        self._saved = self.step
        # Check the data before anything is written. The first phase is enough: all phases read the same records.
        self._training_set(0, self.recipe.phases[0]).probe()
        self._begin_folder()
        with Interrupt() as interrupt, self._log() as log:
            first = 0
            for number, phase in enumerate(self.recipe.phases):
                end = first + phase.steps
                for record in self._phase(number, phase, first, min(end, last)):
                    if log is not None:
                        log.add(record)
                        on_step(self.step, record)
                    if self._anywhere(interrupt.wanted):
                        self._save()
                        raise KeyboardInterrupt
                    if self.step % self.job.save_every == 0 or self.step == last:
                        self._save()
                first = end
        weights = None if self.step < self.recipe.steps else self._write_weights()
        self._gather_skips()
        complaint = self.skips.complaint()
        if complaint is not None:
            raise DataError(complaint if weights is None else f"{weights} is written, but {complaint}")
        return weights

    def _log(self) -> AbstractContextManager[StepLog | None]:
        """The run's logs in the main process; None in other processes."""
        if not self.is_main:
            return nullcontext()
        log = StepLog(self.job.out, self.step)
        self.note = log.note
        return log

    def _anywhere(self, flag: bool) -> bool:
        """Whether the flag is set in any process: all processes must stop at the same step."""
        if self.accelerator.num_processes == 1:
            return flag
        flags = self.accelerator.reduce(torch.tensor(float(flag), device=self.accelerator.device), reduction="sum")
        return bool(flags > 0)

    def _phase(self, number: int, phase: Phase, first: int, stop: int) -> Iterator[Record]:
        """Run a phase that begins at step `first`, from the current step up to `stop`; yield each step's losses."""
        if self.step >= stop:
            return
        self.objective.begin(phase)
        module = self.accelerator.prepare_model(self.objective)
        module.train()
        steps = Steps(
            phase.photos,
            stop - first,
            self.step - first,
            self.accelerator.process_index,
            self.accelerator.num_processes,
        )
        for raw in read_steps(self._training_set(number, phase), steps, self.job.workers):
            try:
                self.skips.add(raw.seen, raw.skipped)
            except DataError:
                if self.accelerator.num_processes == 1 and self.step > self._saved:
                    self._save()
                raise
            sheet = self._sheet()
            self.objective.watcher = sheet
            record = self._learn(module, raw)
            if sheet is not None:
                self._write_picture(sheet)
            self.step += 1
            yield record

    def _learn(self, module: nn.Module, raw: RawBatch) -> Record:
        """One optimizer step on this process's photos; returns its losses."""
        parts = self.recipe.accumulate
        set_rate(self.optimizer, self.recipe.rate_at(self.step))
        totals: dict[str, torch.Tensor] = {}
        for part, batch in enumerate(raw.batches(parts, self.step, self.accelerator.device)):
            synchronization = self.accelerator.no_sync(module) if part < parts - 1 else nullcontext()
            with synchronization, self.accelerator.autocast():
                losses = module(batch)
                self.accelerator.backward(losses["loss"] / parts)
            for name, value in losses.items():
                totals[name] = totals.get(name, torch.zeros_like(value)) + value.detach() / parts
        reduced = self.accelerator.reduce(totals, reduction="mean")
        record = {name: float(value) for name, value in reduced.items()}
        norm = float(self.accelerator.clip_grad_norm_(self.objective.trained.parameters(), self.recipe.clip))
        self._check_finite(record["loss"], norm)
        self._prepared_optimizer.step()
        self._prepared_optimizer.zero_grad()
        self.average.update_parameters(self.objective.trained)
        return {"step": self.step, "rate": self.recipe.rate_at(self.step), "norm": norm, **record}

    def _check_finite(self, loss: float, norm: float) -> None:
        """Refuse a NaN or infinite loss or gradient before it reaches the weights, their average and a checkpoint."""
        # In fp16 gradients overflow occasionally; accelerate's scaler skips such a step.
        for name, value in (("loss", loss), ("gradient", 0.0 if self.recipe.precision == "fp16" else norm)):
            if not math.isfinite(value):
                raise DataError(
                    f"the {name} of step {self.step} is {value}: lower the learning_rate or use precision = 'no'; the "
                    f"last checkpoint is from step {self._saved}"
                )

    def _sheet(self) -> ContactSheet | None:
        """A contact sheet to draw this step on, or None if it gets no picture."""
        every = self.job.picture_every
        wanted = self.is_main and every > 0 and self.step % every == 0
        return ContactSheet() if wanted else None

    def _write_picture(self, sheet: ContactSheet) -> None:
        content = sheet.png()
        if content is not None:
            write_file(self.job.out / PICTURES / f"step-{self.step:08d}.png", content, overwrite=True)

    def _training_set(self, number: int, phase: Phase) -> TrainingSet:
        """The phase's examples; each phase has its own order."""
        augmentation = Augmentation(phase.side, scale=phase.scale, most_masks=phase.masks, paste=self.recipe.paste)
        if self.job.photos_only:
            augmentation = Augmentation(phase.side, (1.0, 1.0), flip=0.0, brightness=0.0, contrast=0.0, saturation=0.0)
        return TrainingSet(
            self.mixture,
            augmentation,
            self.recipe.seed + number,
            wanted=MaskFilter(min_area=self.recipe.min_area),
            photos_only=self.job.photos_only,
        )

    def _check_division(self) -> None:
        parts = self.accelerator.num_processes * self.recipe.accumulate
        for phase in self.recipe.phases:
            if phase.photos % parts:
                raise UsageError(
                    f"{phase.photos} photos a step cannot be divided over {self.accelerator.num_processes} processes "
                    f"and {self.recipe.accumulate} accumulated parts: use a multiple of {parts}"
                )

    def _earlier_state(self) -> TrainingState | None:
        """The last state in the run's folder, or None if there is none yet; check that it is a run of this recipe."""
        out, recipe_file, start_file = self.job.out, self.job.out / RECIPE_FILE, self.job.out / START_FILE
        saved = checkpoints(out)
        if not self.job.resume:
            if saved or (recipe_file.exists() and self.is_main):
                raise refuse_run(out)
            taken = [name for name in (WEIGHTS_FILE, START_FILE, LOSSES_FILE) if (out / name).exists()]
            if taken and self.is_main:
                raise UsageError(f"{out} holds {taken[0]}, which this run would replace: choose another --out")
            return None
        if not recipe_file.exists():
            raise UsageError(f"there is no run to resume in {out}: leave out --resume to start one")
        check_recipe(out, with_current_keys(read_values(recipe_file)), self.recipe.to_json())
        # Pretrained parameters have another learning rate. Runs of early versions have no such file.
        if start_file.exists() and read_values(start_file).get("pretrained") != self.pretrained:
            raise UsageError(f"the run in {out} began with other weights: give the --init or --init-encoder it had")
        return read_training_state(saved[-1]) if saved else None

    def _begin_folder(self) -> None:
        """Write the recipe and the names of pretrained parameters of a new run."""
        if self.job.resume:
            return
        self.accelerator.wait_for_everyone()  # until every process has looked for an earlier run
        if self.is_main:
            files = {RECIPE_FILE: self.recipe.to_json(), START_FILE: {"pretrained": self.pretrained}}
            for name, values in files.items():
                write_file(self.job.out / name, (json.dumps(values, indent=2) + "\n").encode(), overwrite=False)

    def _gather_skips(self) -> None:
        """Gather the records that all processes skipped, so that the main process can name them."""
        if self.accelerator.num_processes == 1:
            return
        each = gather_object([(self.skips.seen, self.skips.skipped, self.skips.names)])
        names = [skip for _, _, own in each for skip in own]
        # SkipLog.add counts each name as a skipped record, so they are subtracted here.
        skipped = sum(skipped for _, skipped, _ in each) - len(names)
        total = SkipLog(self.skips.most_share, sum(seen for seen, _, _ in each), skipped, self.skips.draws, at_end=True)
        total.add(0, names)
        self.skips = total

    def _save(self) -> None:
        """Write a checkpoint after the current step."""
        if self.is_main:
            recipe, trained = self.recipe.to_json(), self.objective.trained
            save_state(self.job.out, state_after(self.step, recipe, trained, self.average, self.optimizer))
        self.accelerator.wait_for_everyone()
        self._saved = self.step

    def _write_weights(self) -> Path:
        path = self.job.out / WEIGHTS_FILE
        if self.is_main:
            prefix = _prefix_of(self.objective.student, self.objective.trained)
            if self.recipe.phases[-1].fake_quant:
                round_layers(self.average.module)
            state = self.average.module.state_dict()
            chosen = {
                name.removeprefix(prefix): tensor.contiguous()
                for name, tensor in state.items()
                if name.startswith(prefix)
            }
            write_file(path, save(chosen), overwrite=True)
        self.accelerator.wait_for_everyone()
        return path


def _prefix_of(part: nn.Module, whole: nn.Module) -> str:
    """The name of `part` in `whole`, with a dot at the end; empty if they are the same."""
    for name, module in whole.named_modules():
        if module is part:
            return f"{name}." if name else ""
    raise UsageError("the student is not a submodule of the trained module")

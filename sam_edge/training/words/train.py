"""The run of a words stage: encode photos once, learn, and write the file of words.

A run is a folder: `recipe.json`, `embeddings/` (photos as the encoder sees them; it may be removed afterwards),
`checkpoints/`, `losses.jsonl`, and at the end `words.safetensors`. Everything random follows from the seed and the
step, so a resumed run is equal to one that was never interrupted.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import nn

from sam_edge.data.mask_names import MaskNames
from sam_edge.data.mixture import Mixture, open_mixture
from sam_edge.data.order import Purpose, generator
from sam_edge.data.skips import ALLOWED_BROKEN, SkipLog
from sam_edge.model.torch_backend import TorchBackend
from sam_edge.model.words import VECTOR
from sam_edge.training.checkpoint import TrainingState, checkpoints, read_training_state, save_state
from sam_edge.training.files import RECIPE_FILE
from sam_edge.training.interrupt import Interrupt
from sam_edge.training.logs import Record, StepLog
from sam_edge.training.optimization import averaged, make_optimizer, set_rate
from sam_edge.training.resume import check_recipe, read_values, refuse_run, restore, state_after
from sam_edge.weights.load import LoadedSam, find_source, load_sam
from sam_edge.weights.words import FILE, TABLE, empty_maps, read_table, write_words
from sam_edge_runtime.arrays import Float32
from sam_edge_runtime.bundle.vocabulary import Vocabulary
from sam_edge_runtime.errors import DataError
from sam_edge_runtime.system.files import write_file

from .calibrate import OFFSET_COLUMNS, offsets_of, with_offsets
from .encoded import EncodedSet, EncodedView, read_view
from .objective import WordLearner, WordsObjective
from .recipe import MODEL, WordsRecipe
from .start import start_by_least_squares, start_priors

EMBEDDINGS = "embeddings"
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class WordsJob:
    """Where a run reads and writes, and how it is run.

    Attributes:
        data: the folder that the recipe's sources are relative to.
        out: folder of the run.
        checkpoint: weights of the frozen model; None for those that come with sam-edge.
        table: TOML file of names and spellings; None for the one that comes with sam-edge.
        resume: whether to resume the run in `out`.
        save_every: steps between checkpoints.
        stop_after: stop, with a checkpoint, after this many steps of the run; None to run to the end.
        allow_broken: largest accepted share of broken records, 0..1.
    """

    data: Path
    out: Path
    checkpoint: str | None = None
    table: Path | None = None
    resume: bool = False
    save_every: int = 100
    stop_after: int | None = None
    allow_broken: float = ALLOWED_BROKEN


def train_words(
    job: WordsJob,
    recipe: WordsRecipe,
    on_step: Callable[[int, Record], None] = lambda step, record: None,
    progress: Progress = lambda what, done, total: None,
    notify: Callable[[str], None] = lambda line: None,
) -> Path | None:
    """Train words for a model that stays as it is.

    Args:
        job: the run's data and folder, and how it is run.
        recipe: what is trained.
        on_step: called after each step with the number of steps done and its losses.
        progress: called while photos are encoded.
        notify: called with each note for the user.

    Returns:
        The file of words, or None if the run stopped at `job.stop_after`, before its end.

    Raises:
        CheckpointError: the model's weights or a checkpoint cannot be used.
        DataError: the data cannot be used, or have names that the table does not.
        UsageError: the folder holds a run and `resume` is false, or another recipe's.
        OutputError: a file cannot be written.
        KeyboardInterrupt: Ctrl-C was pressed; a checkpoint was written first.
    """
    torch.manual_seed(recipe.seed)
    state = _earlier_state(job, recipe)
    mixture = _limited(open_mixture([str(job.data / source) for source in recipe.data]), recipe.limits)
    names = MaskNames(mixture.sources)
    vocabulary_names, also = _vocabulary(names, read_table(job.table or TABLE), notify)
    loaded = load_sam(MODEL, find_source(MODEL, job.checkpoint))
    skips = SkipLog(job.allow_broken)
    views = EncodedSet(job.out / EMBEDDINGS, TorchBackend(loaded.sam), mixture.sources, recipe.views, recipe.seed)
    views.prepare(names, skips, lambda done, total: progress("encoding photos", done, total))
    for line in skips.lines():
        notify(line)

    learner = WordLearner(empty_maps(VECTOR - len(OFFSET_COLUMNS)).train(), len(vocabulary_names), recipe.seed)
    labelled = _labelled(mixture, vocabulary_names)
    held_out = [recipe.held_out > 0 and number % recipe.held_out == recipe.held_out - 1 for number in views.record_of]
    learned = views.select([not each for each in held_out])
    if state is None:
        if recipe.least_squares:
            progress("least squares", 0, 0)
            start_by_least_squares(learner, learned, vocabulary_names, recipe.noise)
        start_priors(learner, views, vocabulary_names, labelled, views.source_of)
    run = _Run(job, recipe, learner, WordsObjective(learner, vocabulary_names, labelled, recipe), state)
    done = run.steps(learned, mixture.shares, on_step)
    if not done:
        return None
    progress("thresholds", 0, 0)
    average = cast("WordLearner", run.average.module.eval())
    judged = views.select(held_out) if any(held_out) else views
    maps, vectors = with_offsets(average, offsets_of(average, judged, vocabulary_names))
    path = job.out / FILE
    vocabulary = Vocabulary(vocabulary_names, also, vectors.numpy())
    write_words(path, vocabulary, maps.state_dict(), *_base(loaded))
    return path


class _Run:
    """Steps of a run, with its optimizer and running average."""

    def __init__(
        self,
        job: WordsJob,
        recipe: WordsRecipe,
        learner: WordLearner,
        objective: WordsObjective,
        state: TrainingState | None,
    ) -> None:
        self._job, self._recipe, self._learner, self._objective = job, recipe, learner, objective
        self._step = 0
        self._optimizer = make_optimizer(learner, recipe, ())
        self.average = averaged(learner, recipe.ema)
        if state is not None:
            self._step = restore(state, learner, self.average, self._optimizer)

    def steps(self, views: EncodedSet, shares: Sequence[float], on_step: Callable[[int, Record], None]) -> bool:
        """Learn up to the end, or to `stop_after`; returns whether the end is reached."""
        recipe, job = self._recipe, self._job
        last = recipe.steps if job.stop_after is None else min(job.stop_after, recipe.steps)
        places = np.array(views.source_of)
        chances = np.zeros(len(places))
        for source, share in enumerate(shares):
            own = places == source
            chances[own] = share / max(1, own.sum())
        chances /= chances.sum()
        write_file(job.out / RECIPE_FILE, (json.dumps(recipe.to_json(), indent=2) + "\n").encode(), overwrite=True)
        with Interrupt() as interrupt, StepLog(job.out, self._step) as log:
            while self._step < last:
                draw = generator(recipe.seed, Purpose.RECORDS, self._step)
                chosen = draw.choice(len(places), recipe.photos, p=chances)
                record = self._learn([read_view(views.files[each]) for each in chosen], places[chosen].tolist(), draw)
                log.add(record)
                on_step(self._step, record)
                if interrupt.wanted or self._step % job.save_every == 0 or self._step == last:
                    self._save()
                if interrupt.wanted:
                    raise KeyboardInterrupt
        return self._step == recipe.steps

    def _learn(self, views: list[EncodedView], sources: list[int], draw: np.random.Generator) -> Record:
        set_rate(self._optimizer, self._recipe.rate_at(self._step))
        fine = self._step % self._recipe.fine_every == 0
        losses = self._objective(views, sources, draw, fine=fine)
        if not torch.isfinite(losses["loss"]):
            raise DataError("the loss is NaN or infinite: lower the learning rate")
        self._optimizer.zero_grad()
        losses["loss"].backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._learner.parameters(), self._recipe.clip)
        self._optimizer.step()
        self.average.update_parameters(self._learner)
        record = {"step": float(self._step), **{name: float(value.detach()) for name, value in losses.items()}}
        self._step += 1
        return record

    def _save(self) -> None:
        recipe = self._recipe.to_json()
        save_state(self._job.out, state_after(self._step, recipe, self._learner, self.average, self._optimizer))


def _limited(mixture: Mixture, limits: Sequence[int]) -> Mixture:
    """The first records of each source; a limit of 0 is none."""
    sources = []
    for place, source in enumerate(mixture.sources):
        limit = limits[place % len(limits)] or len(source)
        sources.append(source.select(np.arange(len(source)) < limit))
    return Mixture(tuple(sources), mixture.weights)


def _vocabulary(
    names: MaskNames, table: tuple[tuple[str, ...], tuple[tuple[str, ...], ...]], notify: Callable[[str], None]
) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """The rows of the table whose names the data have."""
    known = dict(zip(*table, strict=True))
    unknown = [name for name in names.counts if name not in known]
    if unknown:
        raise DataError(
            f"the data name {unknown[0]!r}, one of {len(unknown)} names that the table of words does not have: add "
            "them to a table, and give it with --words"
        )
    left_out = [name for name in known if name not in names.counts]
    if left_out:
        notify(f"{len(left_out)} words of the table occur in no photo and are left out, such as {left_out[0]!r}")
    kept = tuple(name for name in known if name in names.counts)
    return kept, tuple(known[name] for name in kept)


def _labelled(mixture: Mixture, words: Sequence[str]) -> Float32:
    """`(sources, W)` 1 where a source labels a word; sources of one folder label the same words."""
    folders = [str(Path(source.name).parent) for source in mixture.sources]
    counts = [MaskNames([source]).counts for source in mixture.sources]
    rows = [
        [float(any(counts[other][word] for other, place in enumerate(folders) if place == folder)) for word in words]
        for folder in folders
    ]
    return np.array(rows, np.float32)


def _base(loaded: LoadedSam) -> tuple[str, str]:
    return loaded.checkpoint.sha256 or "", loaded.licence


def _earlier_state(job: WordsJob, recipe: WordsRecipe) -> TrainingState | None:
    """The last state of the run to resume; None for a new run."""
    found = checkpoints(job.out)
    if not job.resume:
        if found:
            raise refuse_run(job.out)
        return None
    if not found:
        return None  # it stopped while photos were encoded
    check_recipe(job.out, read_values(job.out / RECIPE_FILE), recipe.to_json())
    return read_training_state(found[-1])

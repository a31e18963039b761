"""A run from its start, or its last state, to its end: the loop with tests, bar and files."""

import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

import torch
from tqdm.auto import tqdm

from mixer.train import distributed, state
from mixer.train.compiling import GRAPH_MODES
from mixer.train.device import describe_device, tf32
from mixer.train.interrupt import FinishStep, Stopped
from mixer.train.loop import Loop
from mixer.train.options import Options
from mixer.train.recipes import Recipe
from mixer.train.run_folder import History, RunFolder
from mixer.train.scoring import Scorer, refuse_diverged


class Run:
    """A loop with its tests, its bar and its files; process 0 alone has bar and files.

    Raises:
        ValueError: there is a state of another run, or a damaged one.
    """

    def __init__(self, loop: Loop, options: Options, folder: RunFolder | None) -> None:
        self.loop, self.options, self.folder = loop, options, folder
        self.first = distributed.rank() == 0
        recipe, config, data = loop.recipe, loop.model.config, loop.data
        origin = options.origin
        self.settings = state.settings_of(recipe, config, data, loop.precision, origin)
        self.shown: dict[str, str] = {}
        self.scorer = Scorer(
            loop.weights(), data, loop.precision, options.compile, options.eval_batch_size
        )
        self.state_path, self.read_every = options.state_path, options.steps_a_reading
        self._asked_at = time.perf_counter()
        if options.resume:
            self._resume()
        self._started_at = loop.step
        if folder is not None:
            about = {"torch": torch.__version__, "device": describe_device(loop.device)}
            classes = list(data.classes)
            folder.open({**self.settings, **about, "classes": classes}, loop.history)

    def _resume(self) -> None:
        """Go on from the state, if it is there; process 0 reads it for all."""
        path = self.state_path
        if path is None:
            return
        there = self.first and path.exists()
        found = distributed.broadcast(state.read_state(path) if there else None)
        if found is None:
            return
        arrays, meta = found
        check_settings(path, meta, self.settings, self.loop.recipe)
        loop = self.loop
        state.restore(arrays, loop.model, loop.optimizers, loop.ema)
        loop.scaler.load_state_dict(meta["scaler"])
        loop.history = History(**meta["history"])
        loop.step = meta["step"]
        self._keep_parts(meta.get("parts", loop.accumulation))
        self._note_good_state(path)

    def _keep_parts(self, parts: int) -> None:
        """Unless it was asked for: another number of parts adds up, and draws, in another order."""
        loop, options = self.loop, self.options
        share = loop.recipe.batch_size // distributed.world_size()
        chosen = options.gradient_accumulation_steps is not None or options.compile in GRAPH_MODES
        if chosen or share % parts or parts == loop.accumulation:
            return
        loop.accumulation = parts
        if self.first:
            print(f"a batch goes on in {parts} parts of {share // parts} images, as it began")

    def to_the_end(self) -> History:
        """Make the steps that are left; returns the history of all."""
        loop, total = self.loop, self.loop.recipe.num_steps
        with ExitStack() as stack:
            self.bar = stack.enter_context(self._bar(total))
            stack.enter_context(tf32(loop.device))
            interrupt = stack.enter_context(FinishStep())
            while loop.step < total:
                loop.run_step()
                self.bar.update()
                stop = self._read(interrupt)
                self._test_and_show()
                self._save(stop > 0)
                if stop and loop.step < total:
                    raise Stopped(self._stopped(total), stop)
            # Where the end was moved to where the run stood already.
            if loop.history.eval_steps[-1:] != [total]:
                self._test_and_show()
        self._note_wall_time()
        loop.finish()
        if self.folder is not None:
            chance = 1 / len(loop.data.classes)
            self.folder.finish(loop.history, loop.weights(), chance)
        return loop.history

    def _bar(self, total: int) -> tqdm:
        hidden = not (self.options.progress and self.first)
        look = {"unit": "step", "dynamic_ncols": True, "mininterval": 1.0}
        return tqdm(total=total, initial=self.loop.step, disable=hidden, **look)

    def _is_due(self, every: int | None) -> bool:
        step = self.loop.step
        return step == self.loop.recipe.num_steps or bool(every and step % every == 0)

    def _read(self, interrupt: FinishStep) -> int:
        """Read what was measured, where that is due; returns the signal that asks to stop, or 0.

        The first step of a process is read at once: it compiles, and is not counted as speed. One
        process stops without waiting, several of them have to agree.
        """
        options, loop = self.options, self.loop
        alone = distributed.world_size() == 1
        due = any(map(self._is_due, (self.read_every, options.eval_every, options.save_every)))
        if due or loop.step == self._started_at + 1 or (alone and interrupt.asked):
            loop.read()
            # The same answer in all processes.
            return distributed.largest(interrupt.asked, loop.device)
        return 0

    def _test_and_show(self) -> None:
        loop, history = self.loop, self.loop.history
        if self._is_due(self.options.eval_every):
            accuracy, test_loss = self.scorer.test()
            history.eval_steps.append(loop.step)
            history.test_accuracy.append(accuracy)
            history.test_loss.append(test_loss)
            self.shown["accuracy"] = f"{accuracy:.4f}"
            if not self.bar.disable:
                line = f"step {loop.step}: loss {history.loss[-1]:.4f}"
                self.bar.write(f"{line}, test accuracy {accuracy:.4f}{self._skipped()}")
        if history.loss and self._is_due(10):
            history.note_speed(loop.recipe.batch_size)
            speed = f"{history.images_per_second:.0f}"
            self.shown |= {"loss": f"{history.loss[-1]:.3f}", "images_per_s": speed}
            self.bar.set_postfix(self.shown)
        if self.folder is not None:
            self.folder.log(history, loop.weights())

    def _skipped(self) -> str:
        count = len(self.loop.history.skipped_steps)
        return f", {count} steps skipped by fp16's scaler so far" if count else ""

    def _save(self, must: bool) -> None:
        options, loop = self.options, self.loop
        if not (must or self._is_due(options.save_every)):
            return
        refuse_diverged(loop.model, loop.data, loop.precision, loop.step, loop.last_good_state)
        if self.state_path is not None and self.first:
            self._note_wall_time()
            loop.history.note_speed(loop.recipe.batch_size)
            history = asdict(loop.history)
            more = {"step": loop.step, "history": history, "parts": loop.accumulation}
            meta = {**self.settings, **more, "scaler": loop.scaler.state_dict()}
            arrays = state.collect(loop.model, loop.optimizers, loop.ema)
            state.write_state(self.state_path, arrays, meta)
            self._note_good_state(self.state_path)

    def _note_good_state(self, path: Any) -> None:
        kept = f"the state after step {self.loop.step} is good and stays in {path}"
        self.loop.last_good_state = kept

    def _note_wall_time(self) -> None:
        now = time.perf_counter()
        self.loop.history.wall_seconds += now - self._asked_at
        self._asked_at = now

    def _stopped(self, total: int) -> str:
        path = self.state_path
        kept = f"; {path} holds it, resume goes on from there" if path is not None else ""
        return f"stopped after step {self.loop.step} of {total}{kept}"


def check_settings(
    path: Any, meta: Mapping[str, Any], settings: Mapping[str, Any], recipe: Recipe
) -> None:
    """Whether a run may go on under these settings: the same, or with its end moved.

    Another number of steps, or of steps in which the rate falls, is allowed if every step made so
    far would have had the same rate; the run then is what it would have been if planned so.

    Raises:
        ValueError: it may not; says which settings differ, and why the end cannot be moved.
    """
    saved = {name: meta[name] for name in settings if name in meta}
    planned = dict(saved.get("recipe") or {})
    moved = {name: planned.get(name) for name in state.END if planned.get(name) is not None}
    then = {**settings["recipe"], **moved}
    differing = state.differences(saved, {**settings, "recipe": then})
    ends = state.differences({"recipe": planned}, {"recipe": settings["recipe"]})
    if differing:
        others = "; ".join(state.differences(saved, settings))
        raise ValueError(f"{path}: the run there has other settings: {others}")
    if not ends:
        return
    old, made = Recipe(**then), meta["step"]
    apart = [n for n in range(made) if old.learning_rate_at(n) != recipe.learning_rate_at(n)]
    changed = "; ".join(ends)
    hint = "start a new run from its model.npz, with --keep_head"
    if recipe.num_steps < made:
        raise ValueError(f"{path}: the run there has made {made} steps already ({changed})")
    if apart:
        was, would = (r.learning_rate_at(apart[-1]) for r in (old, recipe))
        why = f"at step {apart[-1] + 1} its rate was {was:.3g} and would have been {would:.3g}"
        raise ValueError(f"{path}: the run there has other settings: {changed}; {why}; {hint}")

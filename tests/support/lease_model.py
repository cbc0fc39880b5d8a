# SPDX-License-Identifier: Apache-2.0
"""A small model of the lease protocol: what must be so after each move.

It knows nothing of SQL. A test makes each move in the database and here, and holds the
two against each other.
"""

from dataclasses import dataclass, field

from storage.suspects import (
    CONDEMNING_STRIKES,
    MOST_EXTRA_ATTEMPTS,
    SINGLE_STEPS_AFTER,
)

ATTEMPTS = 2


@dataclass(slots=True, kw_only=True)
class ModelShard:
    """One shard of one item, and all that has become of it."""

    attempt: int = 0
    bound: int = ATTEMPTS
    state: str = "pending"
    owner: int | None = None
    #: Its lease ran out and nobody has noticed.
    silent: bool = False
    hinted: bool = False
    #: Its row names its item as being in work.
    named: bool = False
    bad_ends: int = 0
    strikes: int = 0
    finished_by: int | None = None

    @property
    def is_final(self) -> bool:
        """Whether nothing more happens to it by itself."""
        return self.state in {"done", "dead"}

    @property
    def is_free(self) -> bool:
        """Whether an open run would give it to a worker."""
        lost = self.state == "running" and self.silent
        return self.attempt < self.bound and (self.state == "pending" or lost)

    @property
    def is_free_ahead(self) -> bool:
        """Whether it would do so without a hint."""
        return self.is_free and (self.state == "running" or not self.hinted)

    @property
    def single_steps(self) -> bool:
        """Whether its items are tried alone."""
        return self.bad_ends >= SINGLE_STEPS_AFTER

    @property
    def is_condemned(self) -> bool:
        """Whether its item is left out."""
        return self.strikes >= CONDEMNING_STRIKES

    def claim(self) -> None:
        """A worker has it; if another one had it, that attempt ended by silence."""
        if self.state == "running":
            self._strike()
            self.bad_ends += 1
        self.attempt += 1
        self._let_go("running")
        self.owner = self.attempt

    def finish(self) -> None:
        """Its owner delivered."""
        assert self.finished_by is None
        self.finished_by = self.owner
        self._let_go("done")

    def give_back(self) -> None:
        """Its owner stopped politely: the attempt does not count."""
        self.bound += 1
        self.hinted = False
        self._let_go("pending")

    def end_badly(self, *, counts: bool, strikes: bool) -> None:
        """An attempt failed or fell silent.

        Args:
            counts: Whether it brings single steps nearer.
            strikes: Whether it was the doing of the item in work.
        """
        if strikes:
            self._strike()
        self.bad_ends += counts
        self.hinted = False
        self._let_go("dead" if self.attempt >= self.bound else "pending")

    def revive(self) -> None:
        """A person gives it fresh attempts."""
        self.bound = self.attempt + ATTEMPTS
        self.bad_ends = self.strikes = 0
        self.hinted = False
        self._let_go("pending")

    def _strike(self) -> None:
        if self.named:
            self.bound += self.strikes < MOST_EXTRA_ATTEMPTS
            self.strikes += 1

    def _let_go(self, state: str) -> None:
        self.state, self.owner = state, None
        self.silent = self.named = False


@dataclass(slots=True, kw_only=True)
class ModelRun:
    """A run: its state, `open` standing for queued and running, and its shards."""

    shards: list[ModelShard] = field(default_factory=list)
    state: str = "open"

    @property
    def is_open(self) -> bool:
        """Whether shards may be claimed."""
        return self.state == "open"

    def next_free(self, *, ahead: bool = False) -> int | None:
        """Return the first shard that a worker would get, None if there is none."""
        if not self.is_open:
            return None
        free = (s.is_free_ahead if ahead else s.is_free for s in self.shards)
        return next((index for index, is_free in enumerate(free) if is_free), None)

    def end(self) -> bool:
        """The report is written, if it may be; return whether it is."""
        if not self.is_open or not all(shard.is_final for shard in self.shards):
            return False
        dead = any(shard.state == "dead" for shard in self.shards)
        self.state = "incomplete" if dead else "done"
        return True

    def retry(self) -> bool:
        """Dead shards are alive again, if they may be; return whether any is."""
        dead = [shard for shard in self.shards if shard.state == "dead"]
        if not dead or self.state in {"paused", "cancelled"}:
            return False
        for shard in dead:
            shard.revive()
        self.state = "open"
        return True

"""Rollout: introduce minds to worlds. Drives many episodes at once; the only place where the two meet.

A state is (task, earlier replies, tokens of the unfinished reply), and any state can be forked: the world by
replaying `prefix`, the engine by reading `partial` and sampling on.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from random import Random

from nanoschool.core.chat import follow, render
from nanoschool.core.engine import Session
from nanoschool.core.policy import Policy
from nanoschool.core.row import Row
from nanoschool.types import (
    Ask,
    Environment,
    Episode,
    HasOpponent,
    Message,
    Outcome,
    Reply,
    Task,
    Trajectory,
    UserError,
)

ROWS = {"cuda": 1024}  # attempts that are live at once, 320 on other devices
Opponent = Callable[[Ask], Reply]
Play = Callable[[Task], Episode]


def stable_hash(text: str) -> int:
    """63 bits that are the same in every process: seeds and row keys come from here."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def alone(env: Environment, play: Play) -> Play:
    """`play` with every seat but the first in the hands of the world's own opponent, where it brings one.

    What the opponent does follows from the task and the replies, so a group's attempts meet the same one.
    """
    if not isinstance(env, HasOpponent):
        return play

    def episode(task: Task) -> Episode:
        opponent, game = env.opponent(Random(task.problem)), play(task)
        reply = None
        while True:
            try:
                ask = next(game) if reply is None else game.send(reply)
            except StopIteration as end:
                return end.value
            reply = opponent(ask) if ask.seat else (yield ask)

    return episode


@dataclass(frozen=True)
class State:
    """Where an episode can be taken up: after these replies of all seats, `begun` tokens into the next one.

    `heard` is the conversation before that reply as it was sampled; rendered from the replies where it is not given,
    which need not give the same tokens.
    """

    task: Task
    replies: tuple[str, ...] = ()
    begun: tuple[int, ...] = ()
    heard: tuple[int, ...] = ()


@dataclass(eq=False)
class Attempt:
    """One episode under way: the world's generator, and a conversation for each seat the policy plays."""

    task: Task
    group: int
    sample: int
    episode: Episode
    begun: Sequence[int] = ()  # of the policy's first reply
    heard: Sequence[int] = ()  # before it
    salt: str = ""  # of the draws: attempts from different states draw apart
    ask: Ask | None = None
    outcome: Outcome | None = None
    rows: dict[int, Row] = field(default_factory=dict)
    rewards: dict[int, float] = field(default_factory=dict)
    replies: dict[int, list[str]] = field(default_factory=dict)
    past: dict[int, list[Message]] = field(default_factory=dict)  # of each seat, from the replayed prefix
    full: set[int] = field(default_factory=set)  # seats whose conversation has no room left

    def advance(self, reply: Reply | None) -> None:
        """Hand the world a reply (None to begin) and take what it says next."""
        try:
            self.ask = next(self.episode) if reply is None else self.episode.send(reply)
            self.rewards[self.ask.seat] = self.rewards.get(self.ask.seat, 0.0) + self.ask.reward
        except StopIteration as end:
            self.ask, self.outcome = None, end.value

    def replay(self, text: str) -> None:
        """Give an earlier reply again: the world hears it, and the seat's conversation will begin with it."""
        if (ask := self.ask) is None:
            raise UserError(
                f"the prefix has more replies than task {self.task.problem!r} of {self.task.world} asks for"
            )
        speaker = "text" if ask.role == "text" else "assistant"
        self.past.setdefault(ask.seat, []).extend([Message(ask.role, ask.text), Message(speaker, text)])
        self.replies.setdefault(ask.seat, []).append(text)
        self.advance(Reply(text, "stop" if any(s in text for s in ask.stop) else "end"))


def rollout(
    policy: Policy,
    env: Environment,
    tasks: Sequence[Task],
    *,
    samples: int = 1,
    temperature: float = 1.0,
    max_tokens: int = 64,
    seed: int = 0,
    prefix: Sequence[str] = (),
    partial: Sequence[int] = (),
    opponents: Mapping[int, Opponent] | None = None,
    play: Play | None = None,
    rows: int = 0,
) -> list[Trajectory]:
    """Play `samples` attempts at each task; returns a trajectory for each attempt and each seat the policy holds.

    The order is by task, then sample, then seat. `max_tokens` bounds a reply; `play` replaces `env.play` (another way to
    put the same task); `rows` bounds how many attempts are live at once, 0 by what keeps the device busy.
    `prefix` holds the earlier replies of all seats in their order, `partial` the first tokens of the next one: they
    are in the trajectory's tokens, but not in its mask, for they were not sampled here.
    """
    attempts = [
        [Attempt(task, group, sample, (play or env.play)(task), partial) for sample in range(max(samples, 1))]
        for group, task in enumerate(tasks)
    ]
    return _play_out(
        policy, env, attempts, [prefix] * len(tasks), samples, temperature, max_tokens, seed, opponents, rows
    )


def resume(
    policy: Policy,
    env: Environment,
    states: Sequence[State],
    *,
    samples: int = 1,
    temperature: float = 1.0,
    max_tokens: int = 64,
    seed: int = 0,
    play: Play | None = None,
    rows: int = 0,
) -> list[Trajectory]:
    """Play `samples` attempts on from each state, as `rollout` does from each task; `group` is the state's number.

    Attempts from different states draw apart, so that their means are independent estimates.
    """
    attempts = [
        [
            Attempt(
                s.task, group, sample, (play or env.play)(s.task), s.begun, s.heard, f"/{s.replies}/{s.begun}"
            )
            for sample in range(max(samples, 1))
        ]
        for group, s in enumerate(states)
    ]
    prefixes = [s.replies for s in states]
    return _play_out(policy, env, attempts, prefixes, samples, temperature, max_tokens, seed, None, rows)


def _play_out(
    policy: Policy,
    env: Environment,
    groups: list[list[Attempt]],
    prefixes: Sequence[Sequence[str]],
    samples: int,
    temperature: float,
    max_tokens: int,
    seed: int,
    opponents: Mapping[int, Opponent] | None,
    rows: int,
) -> list[Trajectory]:
    if samples < 1:
        raise UserError(f"{samples} attempts at each task: there must be at least 1")
    if not env.replayable and (any(prefixes) or any(group[0].begun for group in groups)):
        raise UserError(f"world {env.name!r} cannot be replayed, so its episodes cannot be forked")
    attempts = [attempt for group in groups for attempt in group]
    drive = Drive(
        policy, policy.open(seed, temperature), max_tokens, opponents or {}, env.replayable and samples > 1
    )
    drive.play_out(attempts, prefixes, rows or ROWS.get(policy.model.cos.device.type, 320))
    policy.ledger.charge(rollouts=len(attempts))
    return [t for attempt in attempts for t in _trajectories(attempt, temperature)]


@dataclass(eq=False)
class Drive:
    """Episodes in one session: as one ends the next begins, so that the rows of a step stay as many as they may be."""

    policy: Policy
    session: Session
    max_tokens: int
    opponents: Mapping[int, Opponent]
    share: bool  # what a group begins with is read once
    speaking: dict[Row, Attempt] = field(default_factory=dict)
    held: dict[Ask, Row] = field(default_factory=dict)  # beginnings of the group that is under way
    spent: list[Row] = field(default_factory=list)  # and of earlier ones

    def play_out(self, attempts: Sequence[Attempt], prefixes: Sequence[Sequence[str]], live: int) -> None:
        """Until every attempt has its outcome; at most `live` are under way at once."""
        waiting, group = deque(attempts), 0
        while waiting or self.speaking:
            while waiting and len(self.speaking) < live:
                attempt = waiting.popleft()
                if attempt.group != group:
                    self.spent += self.held.values()
                    self.held, group = {}, attempt.group
                attempt.advance(None)
                for text in prefixes[attempt.group]:
                    attempt.replay(text)
                self._proceed(attempt)
                attempt.begun = attempt.heard = ()  # later replies do not begin in the middle
            for row in self.session.step():
                attempt = self.speaking.pop(row)
                assert attempt.ask is not None
                attempt.replies.setdefault(attempt.ask.seat, []).append(row.reply)
                attempt.advance(Reply(row.reply, row.stop_reason))
                self._proceed(attempt)
            while self.spent:  # the step has read them, all together
                self.session.close(self.spent.pop())

    def _proceed(self, attempt: Attempt) -> None:
        """Answer for the opponents until the policy must speak or the episode is over."""
        while attempt.ask is not None:
            ask = attempt.ask
            if ask.seat in self.opponents:
                attempt.advance(self.opponents[ask.seat](ask))
                continue
            limit = min(self.max_tokens, ask.max_tokens or self.max_tokens)
            row = attempt.rows.get(ask.seat)
            if row is None:
                row = attempt.rows[ask.seat] = self._begin(attempt, ask, limit)
            else:
                tokens = follow(self.policy.tokenizer, row.stop_reason, ask.role, ask.text)
                if row.length + len(tokens) >= self.policy.model.config.context:
                    attempt.full.add(ask.seat)
                if ask.seat in attempt.full:  # for good: a later ask may fit, but this one would be missing
                    attempt.replies[ask.seat].append("")
                    row.stop_reason = "length"
                    attempt.advance(Reply("", "length"))  # no room left to speak: the world is told so
                    continue
                self.session.extend(row, tokens, max_tokens=limit, stop=ask.stop)
            self.speaking[row] = attempt
            return
        for row in attempt.rows.values():
            self.session.close(row)

    def _begin(self, attempt: Attempt, ask: Ask, limit: int) -> Row:
        about = f"{attempt.task.world}/{attempt.task.problem}/{attempt.sample}/{ask.seat}"
        key = stable_hash(about + attempt.salt)
        if ask not in self.held or attempt.rows:
            system = [Message("system", self.policy.prompt)] if self.policy.prompt else []
            said = [*system, *attempt.past.get(ask.seat, []), Message(ask.role, ask.text)]
            tokens = attempt.heard or render(self.policy.tokenizer, said, generate=True)[0]
            how = {"max_tokens": limit, "stop": ask.stop, "begun": attempt.begun}
            if attempt.rows or not self.share:  # a later seat's conversation is no group's
                return self.session.start(tokens, key=key, **how)
            self.held[ask] = self.session.hold(tokens, **how)
        return self.session.fork(self.held[ask], key=key)


def _trajectories(attempt: Attempt, temperature: float) -> list[Trajectory]:
    outcome = attempt.outcome
    assert outcome is not None
    out = []
    for seat, row in sorted(attempt.rows.items()):
        scored = outcome.rewards is not None
        reward = outcome.rewards[seat] + attempt.rewards.get(seat, 0.0) if scored else None
        out.append(
            Trajectory(
                tokens=row.tokens,
                mask=row.mask,
                logprobs=row.logprobs,
                weights=[0.0] * len(row.tokens),
                rewards=reward,
                task=attempt.task,
                group=attempt.group,
                seat=seat,
                feedback=outcome.feedback,
                stop_reason=row.stop_reason,
                temperature=temperature or 1.0,
                replies=attempt.replies[seat],
                info=outcome.info,
                extra={"entropy": row.entropies},
            )
        )
    return out

"""The words everything else is written in: what a world says, what a mind replies, what is remembered of it.

Plain data only; this module imports nothing of ours and no torch.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

SPLITS = ("train", "dev", "test")


class UserError(Exception):
    """A mistake of the user's. Its text is one line that says what was wrong, where, and what to do; exit status 2."""


class TooFew(UserError):
    """More tasks were asked for than the world has in that split, which are `found`."""

    def __init__(self, complaint: str, found: int) -> None:
        super().__init__(complaint)
        self.found = found


@dataclass(frozen=True)
class Message:
    """One turn of a conversation. `role` is system, user, assistant or tool; "text" is raw text outside any chat."""

    role: str
    content: str


@dataclass(frozen=True)
class Task:
    """One problem of a world. Two tasks with the same `problem` ask the same thing, whatever names they wear."""

    world: str
    problem: str  # canonical form: splits are disjoint by it
    data: Mapping[str, Any]  # plain JSON: all that `play` needs


@dataclass(frozen=True)
class Ask:
    """What the world says, and how the policy's turn may end."""

    text: str
    seat: int = 0
    role: str = "user"  # "tool" for a tool's answer; "text" for raw text that the policy is to continue
    stop: tuple[str, ...] = ()  # strings that end the turn; the reply keeps the string
    max_tokens: int | None = None
    reward: float = 0.0  # for what came before this ask


@dataclass(frozen=True)
class Reply:
    """What the policy said. `stop_reason`: "end" (it closed its turn), "stop" (a stop string), "length" (cut off)."""

    text: str
    stop_reason: str = "end"


@dataclass(frozen=True)
class Outcome:
    """How an episode ended. `feedback` is words a learner may read, apart from the reward; `info` is for measurement."""

    rewards: (
        tuple[float, ...] | None
    )  # one a seat; None where the world does not score (a learned reward will)
    feedback: str = ""
    info: Mapping[str, Any] = field(default_factory=dict)


Episode = Generator[Ask, Reply, Outcome]


@dataclass(frozen=True)
class Oracle:
    """What is known exactly of a state: its value under perfect play, and who would do what there."""

    value: float  # expected reward under perfect play from here
    best_replies: tuple[str, ...]  # complete replies that reach it from here (not all, where there are many)
    entropy_bits: float  # uncertainty of the answer for one who knows the rules but not the answer
    first_error: int | None = None  # character offset of the step of `partial` that is the first wrong one


Span = tuple[str, bool]  # (text, is it learned?): loss falls on the tokens of learned spans only
Document = Sequence[Span]  # one training document outside any chat


class Environment(Protocol):
    """A world: rules, tasks and the truth. Everything random in it follows from the seed of the tasks."""

    @property
    def name(self) -> str: ...

    @property
    def replayable(self) -> bool: ...  # `play` is a deterministic function of the task and the replies

    def tasks(self, split: str, count: int, seed: int = 0) -> Sequence[Task]: ...  # raises TooFew

    def play(self, task: Task) -> Episode: ...


@runtime_checkable
class HasSteps(Protocol):
    """A world whose replies fall into steps."""

    def steps(self, reply: str) -> list[int]: ...  # character offsets at which steps end, ascending


@runtime_checkable
class HasOracle(Protocol):
    """A world that knows the truth."""

    def oracle(self, task: Task, replies: Sequence[str], partial: str = "") -> Oracle: ...


@runtime_checkable
class HasDemonstrations(Protocol):
    """A world that can show a worked example, for imitation."""

    def demonstration(self, task: Task) -> list[Message]: ...


@runtime_checkable
class HasDocuments(Protocol):
    """A world that can write the text that reading (pretraining) learns from, over its train split only."""

    def document(self, rng: Any) -> Document: ...  # rng: random.Random


@runtime_checkable
class HasCompletions(Protocol):
    """A world whose questions can be put to a model that has only read: one entry for each answer format of its text."""

    formats: tuple[str, ...]

    def complete(self, task: Task, format: str) -> Episode: ...  # asks with role "text"


@runtime_checkable
class HasGuesses(Protocol):
    """A world that can say what one would reply who knows the form of an answer and nothing else: chance."""

    def guess(self, task: Task, replies: Sequence[str], rng: Any) -> str: ...  # rng: random.Random; uniform

    def answer_space(self, task: Task) -> int: ...  # how many replies `guess` draws from, at the first ask


@runtime_checkable
class HasPairs(Protocol):
    """A world that yields preferences: (prompt, chosen, rejected) as its judges labelled them."""

    def pairs(self, split: str, count: int, seed: int = 0) -> Sequence[tuple[str, str, str]]: ...


@runtime_checkable
class HasUnknowns(Environment, Protocol):
    """A world whose demonstrations depend on what the learner knows: where it does not, they call a tool or say so.

    An outcome's info says by `act` which of them a reply did, and by `correct` whether it is right.
    """

    @property
    def confidence(
        self,
    ) -> float: ...  # the probability of being right above which an answer without help pays

    def probes(self) -> Sequence[Task]: ...  # train tasks to put to a learner before it is taught

    def probe(self, task: Task) -> Episode: ...  # the question in raw text, to be answered without help

    def knowledge(self, task: Task) -> str: ...  # what one must know; probes of the same tell of each other

    def alone(
        self, task: Task, p: float
    ) -> bool: ...  # does an answer without help pay, if right with probability p?

    def shown(
        self, task: Task, alone: bool
    ) -> list[Message]: ...  # the demonstration, without help or with it

    def regret(self, task: Task, p: float, act: str) -> float: ...  # what `act` of an outcome's info loses


@runtime_checkable
class HasOpponent(Protocol):
    """A world of several seats that brings a player for the other ones."""

    def opponent(self, rng: Any) -> Callable[[Ask], Reply]: ...  # rng: random.Random


@runtime_checkable
class HasGate(Protocol):
    """A world that can tell whether a model reads its prompt at all."""

    def symbols(self) -> list[str]: ...  # as they are written; each must be a single token

    def gate_rows(self, count: int, seed: int, shuffled: bool = False) -> tuple[list[Document], float]: ...


@runtime_checkable
class HasNotes(Protocol):
    """A world whose lessons can be written down, a short item each, in words that its learners have read."""

    def invite(
        self, task: Task, replies: Sequence[str], review: str
    ) -> Ask: ...  # asks for a note on an attempt

    def items(self, note: str) -> dict[str, str]: ...  # {what an item is about: the item}; {} of nonsense

    def playbook(self, items: Sequence[str]) -> str: ...  # how items stand in a prompt


@runtime_checkable
class HasLessons(HasNotes, Protocol):
    """A world that knows what one who knows the truth would note of an attempt: a control."""

    def lesson(
        self, task: Task, replies: Sequence[str]
    ) -> str: ...  # a note, "" if there is nothing to learn


@runtime_checkable
class HasStepRewards(HasSteps, Protocol):
    """A world that pays for each step of a reply: one number for each offset that `steps` gives."""

    def step_rewards(self, task: Task, replies: Sequence[str]) -> list[float]: ...  # of the last reply


@dataclass(frozen=True)
class Secret:
    """One thing that a world keeps to itself: after `ask` and the beginning of a reply comes one of `options`."""

    ask: str
    begun: str
    options: tuple[str, ...]
    truth: int  # the index of the option that is so
    about: str = ""  # secrets about the same thing are one thing, asked in several ways


@runtime_checkable
class HasSecrets(Protocol):
    """A world with a hidden truth of so many bits, each option as likely as the next before anything is learned."""

    def secrets(self) -> Sequence[Secret]: ...


@dataclass
class Trajectory:
    """What one seat lived through: one entry a token in every list."""

    tokens: list[int]
    mask: list[bool]  # True only where the policy sampled, its own end token included
    logprobs: list[float]  # under the sampling policy at the sampling temperature; 0.0 where mask is False
    weights: list[float]  # what each token is worth to the learner; methods fill it in
    rewards: float | None = None  # sum of this seat's rewards; None where the world does not score
    task: Task | None = None
    group: int = 0  # attempts at the same task share it
    pair: int | None = None  # the two sides of a comparison share it
    seat: int = 0
    feedback: str = ""
    stop_reason: str = "end"  # of the last reply
    temperature: float = 1.0  # that `logprobs` are taken at
    replies: list[str] = field(default_factory=list)
    info: Mapping[str, Any] = field(default_factory=dict)
    extra: dict[str, list[float]] = field(
        default_factory=dict
    )  # named per-token numbers: entropy, reference, value …

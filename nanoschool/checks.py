"""checks: what would stop a run in its middle is looked for before anything is spent."""

from nanoschool.core.chat import render
from nanoschool.core.tokenizer import Tokenizer
from nanoschool.envs.closedbook import ClosedBook
from nanoschool.envs.facts import Facts
from nanoschool.plan import Settings
from nanoschool.types import Environment, HasDemonstrations, HasGate, Message, UserError

SAMPLE = 32  # tasks of a world whose demonstrations are measured


def check(settings: Settings, tokenizer: Tokenizer) -> None:
    """Raise UserError where a world has too few problems, no demonstrations to imitate, or too long ones for the
    context, and where a world that is about symbols has one that is no single token."""
    for stage in settings.stages.values():
        stage.method.check_rows(tokenizer, settings.model.context)
    plan, taught = settings.evaluation, [name for name, share in settings.taught.items() if share > 0]
    practised = [stage.env for stage in settings.stages.values() if stage.env]
    for name in (name for name, share in settings.mix.items() if share > 0):
        _one_token_each(name, settings.worlds[name], tokenizer)
    _one_town(settings)
    for name in taught:
        if not isinstance(settings.worlds[name], HasDemonstrations):
            raise UserError(f"world {name!r} has no demonstrations to imitate; take it out of [taught]")
    for name in plan.worlds:
        world = settings.worlds[name]
        world.tasks("test", plan.gate_books if isinstance(world, HasGate) else plan.problems)
        world.tasks("test", plan.problems)
    for name in sorted({*taught, *practised}):
        settings.worlds[name].tasks("dev", plan.look)
    for name in sorted({*taught, *practised, *plan.worlds}):
        _short_enough(name, settings.worlds[name], tokenizer, settings.model.context)


def _one_town(settings: Settings) -> None:
    """Who is asked about must live in the town that is read about."""
    worlds = settings.worlds
    told = {name: worlds[name] for name, share in settings.mix.items() if share > 0}
    towns = {name: world for name, world in told.items() if isinstance(world, Facts)}
    for name in sorted({*settings.taught, *settings.evaluation.worlds}):
        asked = worlds[name]
        for read, town in towns.items():
            if isinstance(asked, ClosedBook) and asked.unasked() != ClosedBook(town).unasked():
                raise UserError(
                    f"world {name!r} asks about another town than {read!r} tells of; give worlds.{name}.facts the "
                    f"people, exposures, asked_share and town_seed of worlds.{read}"
                )


def _one_token_each(name: str, world: Environment, tokenizer: Tokenizer) -> None:
    """A world that is about symbols says which; a symbol in two pieces would make its gate mean something else."""
    if not isinstance(world, HasGate):
        return
    split = [symbol for symbol in world.symbols() if len(tokenizer.encode(symbol)) != 1]
    if split:
        raise UserError(
            f"world {name!r}: {len(split)} of its symbols ({split[:5]}) are no single tokens of this tokenizer; "
            "raise model.vocab or the world's share of mix"
        )


def _short_enough(name: str, world: Environment, tokenizer: Tokenizer, context: int) -> None:
    """Whole conversations of a sample, or what is asked where the world cannot show the answer."""
    for task in world.tasks("train", SAMPLE):
        if isinstance(world, HasDemonstrations):
            what, (tokens, _) = "a demonstration", render(tokenizer, world.demonstration(task))
        else:
            ask = next(world.play(task))
            what, (tokens, _) = (
                "a question",
                render(tokenizer, [Message(ask.role, ask.text)], generate=True),
            )
        if len(tokens) > context:
            raise UserError(
                f"world {name!r}: {what} has {len(tokens)} tokens, the context {context}; "
                "raise model.context, or make the world's problems shorter"
            )

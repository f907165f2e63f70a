"""settings: what a run is to do. Default < preset file (TOML) < flag, resolved once into frozen dataclasses."""

import itertools
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from nanoschool import envs, methods
from nanoschool.options import fill, flat, nearest, parse, struct
from nanoschool.plan import Settings, Stage, checked, tables
from nanoschool.types import Environment, UserError

RESERVED = {"best", *(f.name for f in fields(Settings))}  # no names of stages
VERSION = 1  # of the run folder's layout; a folder of another version is refused
PRESETS = Path(__file__).parent / "presets"


@dataclass(frozen=True)
class ByWorld:
    """A flag for each world that the preset names."""


def presets() -> dict[str, Path]:
    """The presets inside the package, by name."""
    return {path.stem: path for path in sorted(PRESETS.glob("*.toml"))}


def load_settings(preset: str, overrides: Sequence[str] = ()) -> Settings:
    """Settings of a preset (a name, or the path of a TOML file, such as a run's config.toml), and flags over it.

    Raises UserError on an unknown preset, key or flag (with the nearest name), on a value of the wrong type and on a
    budget of nothing.
    """
    path = Path(preset) if preset.endswith(".toml") else presets().get(preset)
    if path is None:
        raise UserError(f"no preset {preset!r}: {nearest(preset, presets())}")
    settings = _assemble(_read(path), path.name, _uses(overrides))
    if not settings.name:
        settings = replace(settings, preset=path.stem, name=path.stem)
    if overrides:
        settings = _with_flags(settings, overrides, f"nanoschool run {preset}")
    return checked(settings, f"run {preset}")


def load_run(run_dir: Path) -> Settings:
    """The settings that the run in this folder was made with."""
    path = run_dir / "config.toml"
    return replace(checked(_assemble(_read(path), str(path), {}), str(path)), runs_dir=run_dir.parent)


def to_toml(settings: Settings) -> str:
    """The resolved settings as TOML, which `load_settings` reads back to the same."""
    import tomli_w

    return tomli_w.dumps({"version": VERSION, **tables(settings)})


def differences(old: Settings, new: Settings) -> list[str]:
    """What `new` asks for that `old` did not, one "key: old, now new" each; names and folders do not count.

    Device "auto" and 0 threads mean "as the run has it".
    """
    was, now = flat(tables(old)), flat(tables(new))
    for key, open_choice in (("device", "auto"), ("threads", 0)):
        if now[key] == open_choice:
            now[key] = was[key]
    keys = [key for key in {**was, **now} if key not in ("name", "preset") and was.get(key) != now.get(key)]
    return [f"{key}: {was.get(key, 'not set')}, now {now.get(key, 'not set')}" for key in keys]


def _read(path: Path) -> dict[str, Any]:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"no settings at {path}: give a preset ({', '.join(presets())}) or a TOML file"
        ) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{path}: cannot be read as TOML: {error}") from None
    version = table.pop("version", VERSION)
    if version != VERSION:
        raise UserError(
            f"{path}: is of version {version}, this nanoschool writes {VERSION}: give the run another --name"
        )
    return table


def _uses(overrides: Sequence[str]) -> dict[str, str]:
    """{stage: method} of flags like `--rl.use grpo`: a method must be known before its own flags can be."""
    words = [word for item in overrides for word in item.split("=", 1)]
    pairs = itertools.pairwise(words)
    return {flag[2:-4]: use for flag, use in pairs if flag.startswith("--") and flag.endswith(".use")}


def _assemble(table: dict[str, Any], where: str, uses: Mapping[str, str]) -> Settings:
    """Settings of a TOML table. A stage is a table that says what method it uses."""
    order, worlds = table.pop("stages", []), table.pop("worlds", {})
    if not isinstance(order, list) or not isinstance(worlds, dict):
        raise UserError(f'{where}: write stages = ["pretrain"] as a list, and [worlds.chain] as a table')
    stage_like = [k for k, v in table.items() if isinstance(v, dict) and isinstance(v.get("use"), str)]
    tables = {key: table.pop(key) for key in stage_like}
    for name in order:
        if not isinstance(name, str) or not name.isidentifier() or name in RESERVED or order.count(name) > 1:
            raise UserError(f"{where}: {name!r} in stages is no name of a stage: a word of its own, once")
        if name not in tables:
            raise UserError(
                f"{where}: stages has {name!r}, but there is no such table: {nearest(name, tables)}"
            )
    settings = fill(Settings(), table, where)
    stages = {name: _stage(tables[name], f"{where} [{name}]", uses.get(name)) for name in order}
    written = {}
    for name, own in worlds.items():
        renamed = isinstance(own, dict) and not envs.is_elsewhere(name)
        kind = own.get("name", name) if renamed else name  # [worlds.short] name = "chain"
        if not isinstance(kind, str):
            raise UserError(f"{where} [worlds.{name}]: name is {kind!r}, must be the name of a world")
        world = envs.load(kind)
        written[name] = fill(world, own, f"{where} [worlds.{name}]") if is_dataclass(world) else world
    return with_worlds(replace(settings, stages=stages, worlds=written))


def by_world(worlds: Mapping[str, Environment]) -> Any:
    """The worlds that have settings, as a dataclass whose fields they are; a user's may be of any class."""
    own = {_field(name): world for name, world in worlds.items() if is_dataclass(world)}
    return struct(ByWorld, {name: type(world) for name, world in own.items()}, own)


def with_flags_of(worlds: Mapping[str, Environment], read: Any) -> dict[str, Environment]:
    """The same worlds with what flags set in the dataclass that `by_world` made of them."""
    return {name: vars(read).get(_field(name), world) for name, world in worlds.items()}


def _field(world: str) -> str:
    """A world's name as a flag can have it: `./mine.py` is mine, `rg:chain_sum` is rg_chain_sum."""
    name = Path(world).stem if world.endswith((".py", ".jsonl", ".parquet")) else world
    return re.sub(r"\W+", "_", name).strip("_")


def with_worlds(settings: Settings) -> Settings:
    """The same settings with every world that they name; those that nothing was written about as they are."""
    practised = [stage.env for stage in settings.stages.values() if stage.env]
    named = {*settings.mix, *settings.taught, *practised, *settings.evaluation.worlds, *settings.worlds}
    worlds = {name: settings.worlds.get(name) or envs.load(name) for name in sorted(named)}
    return replace(settings, worlds=worlds)


def _stage(table: dict[str, Any], where: str, use: str | None) -> Stage:
    """`use` exchanges the method; of the settings written for the old one, those that both know are kept."""
    method = methods.load(use or table["use"])()
    own = table.get("method", {})
    if use:
        own = {key: value for key, value in own.items() if key in {f.name for f in fields(method)}}
    rest = {key: value for key, value in table.items() if key not in ("use", "method")}
    if "budget" not in rest:
        raise UserError(f'{where}: has no budget: write budget = "tokens=1e6"')
    return fill(Stage(use or table["use"], "", fill(method, own, f"{where} method")), rest, where)


def _with_flags(settings: Settings, args: Sequence[str], prog: str) -> Settings:
    """Every field is a flag; a stage's are under its name, a world's under `worlds`."""
    from tyro.conf import Suppress

    stages = {n: struct(Stage, {"method": type(s.method)}, vars(s)) for n, s in settings.stages.items()}
    parts = {
        "mix": struct(ByWorld, dict.fromkeys(settings.mix, float), settings.mix),
        "taught": struct(ByWorld, dict.fromkeys(settings.taught, float), settings.taught),
        "worlds": by_world(settings.worlds),
    }
    hints = {"preset": Suppress[str], "stages": tuple[str, ...]}
    hints |= {name: type(part) for name, part in (parts | stages).items()}
    values = vars(settings) | {"stages": tuple(stages)} | parts | stages
    read = vars(parse(struct(Settings, hints, values), args, prog))
    for name in read["stages"]:
        if name not in stages:
            raise UserError(f"{prog}: --stages has {name!r}: {nearest(name, stages)}")
    chosen = {name: Stage(**vars(read[name])) for name in read["stages"]}
    plan: dict[str, Any] = {f.name: read[f.name] for f in fields(Settings)}
    plan |= {name: vars(read[name]) for name in parts} | {"stages": chosen}
    plan["worlds"] = with_flags_of(settings.worlds, read["worlds"])
    return with_worlds(Settings(**plan))

"""pretrained: a folder of somebody's Qwen3 or Llama weights (config.json, safetensors, tokenizer.json) as a model of ours.

Weights are read to float32. Two things are changed, and said: rows of the embedding that the tokenizer has no token for
are cut off, and the marks of our chat format that it lacks are appended. The row of <|end|> starts as that of the folder's
own end token, that of <|bos|> as its first token's, every other as the mean of all rows.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from nanoschool.core.config import ModelConfig
from nanoschool.core.model import GPT
from nanoschool.core.tokenizer import Tokenizer
from nanoschool.core.tokenizer_json import SPECIAL
from nanoschool.types import UserError

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
LONGEST = 2048  # tokens of context that are taken, unless more are asked for: tables and caches grow with it
DERIVED = "rotary_emb.inv_freq"  # in old folders: it follows from config.json
SHOWN = 3  # names in an error


def read_config(folder: Path, context: int = 0, longest: int = LONGEST) -> ModelConfig:
    """The shape that a folder's config.json tells of; `context` of 0: its own, at most `longest`.

    Raises UserError where our forward pass does not compute such a model, or it has no such context.
    """
    config = ModelConfig.from_hf(_json(folder / "config.json"), str(folder / "config.json"))
    if context > config.context:
        raise UserError(f"{folder}: has a context of {config.context} tokens, not {context}")
    return replace(config, context=context or min(config.context, longest))


def open_pretrained(folder: Path, say: Callable[[str], None], context: int = 0) -> tuple[GPT, Tokenizer]:
    """The model of a folder, on the CPU, and its tokenizer with our marks. UserError names what does not fit."""
    config, tokenizer = read_config(folder, context), Tokenizer.load(folder)
    weights = _weights(folder)
    if tokenizer.vocab_size > config.vocab:
        raise UserError(
            f"{folder}: its tokenizer has {tokenizer.vocab_size} tokens, {EMBEDDING} {config.vocab} rows; "
            "they are of different models"
        )
    own, (tokenizer, added) = tokenizer.vocab_size, tokenizer.with_marks(SPECIAL)
    model = GPT(replace(config, vocab=tokenizer.vocab_size))
    if config.tied:
        weights.pop(HEAD, None)  # some folders hold it twice
    _check(folder, weights, {name: _shape(name, x, config.vocab) for name, x in model.state_dict().items()})
    if own < config.vocab:
        say(f"{folder}: {config.vocab - own} rows of its embedding are of no token; they are left out")
    if added:
        say(
            f"{folder}: its tokenizer has no {', '.join(added)}; the embedding has {len(added)} rows more for them"
        )
    ends = _ends(folder, own)
    for name in {EMBEDDING, HEAD} & weights.keys():
        weights[name] = _resized(weights[name][:own], added, ends)
    model.load_state_dict(weights)
    return model, tokenizer


def _weights(folder: Path) -> dict[str, Tensor]:
    """All tensors of the folder's safetensors, as float32."""
    index = folder / "model.safetensors.index.json"
    names = set(_json(index).get("weight_map", {}).values()) if index.exists() else {"model.safetensors"}
    weights: dict[str, Tensor] = {}
    for name in sorted(names):
        try:
            with safe_open(folder / name, framework="pt") as file:
                names_inside = [key for key in file.keys() if not key.endswith(DERIVED)]  # noqa: SIM118 (no mapping)
                weights |= {key: file.get_tensor(key).float() for key in names_inside}
        except FileNotFoundError:
            raise UserError(f"{folder / name}: no such file; the weights must be safetensors") from None
        except (SafetensorError, OSError) as error:
            raise UserError(f"{folder / name}: cannot be read ({error}); fetch it again") from None
    return weights


def _check(folder: Path, weights: dict[str, Tensor], expected: dict[str, tuple[int, ...]]) -> None:
    """Raise UserError with the weights that are missing, too many, or of another shape than config.json says."""
    found = {name: tuple(value.shape) for name, value in weights.items()}
    if missing := sorted(expected.keys() - found.keys()):
        raise UserError(f"{folder}: lacks the weights {_some(missing)}, which its config.json needs")
    if beyond := sorted(found.keys() - expected.keys()):
        raise UserError(f"{folder}: has weights that our model has no place for: {_some(beyond)}")
    for name, shape in expected.items():
        if found[name] != shape:
            raise UserError(f"{folder}: {name} is {found[name]}, must be {shape} by its config.json")


def _shape(name: str, ours: Tensor, rows: int) -> tuple[int, ...]:
    """What a folder must hold of a weight of ours: its embedding and head have the rows that its config.json says."""
    return (rows, *ours.shape[1:]) if name in (EMBEDDING, HEAD) else tuple(ours.shape)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _ends(folder: Path, rows: int) -> dict[str, int]:
    """The folder's own tokens for what two of our marks mean, where its settings say them."""
    told = _json(folder / "config.json")
    if (folder / "generation_config.json").exists():
        told |= _json(folder / "generation_config.json")
    found = {}
    for mark, key in (("<|bos|>", "bos_token_id"), ("<|end|>", "eos_token_id")):
        value = told.get(key)
        first = value[0] if isinstance(value, list) and value else value
        if type(first) is int and 0 <= first < rows:
            found[mark] = first
    return found


def _resized(rows_VD: Tensor, added: list[str], like: dict[str, int]) -> Tensor:
    """One more row for each mark."""
    mean_D = rows_VD.mean(0)
    new = [rows_VD[like[mark]] if mark in like else mean_D for mark in added]
    return torch.cat([rows_VD, torch.stack(new)]) if new else rows_VD.clone()


def _json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; a folder of weights holds one") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({error}); fetch it again") from None
    if not isinstance(data, dict):
        raise UserError(f"{path}: is no JSON object; fetch it again")
    return data

"""exposure: how often a run is told each fact, and the error that this leaves to whoever always answers.

After Kalai et al. 2025 (https://arxiv.org/abs/2509.04664). What is expected of a stage's reading, not what was counted:
documents are as long as they are on average, and their people are drawn by their exposure.
"""

from collections.abc import Mapping
from random import Random

from nanoschool.core.corpus import encode_document
from nanoschool.core.tokenizer import Tokenizer
from nanoschool.envs.biographies import ATTRIBUTES, VALUES
from nanoschool.envs.facts import Facts
from nanoschool.evals.singleton import expected_singleton_rate
from nanoschool.types import Environment

SAMPLE = 400  # documents that the mean length is taken over


def exposure(
    shares: Mapping[str, float], worlds: Mapping[str, Environment], tokenizer: Tokenizer, tokens: int
) -> dict:
    """Of the one world of facts in a reading of `tokens` tokens; {} where there is none, or are two.

    "told": {exposure: expected times that a person of it is told of}; "floor": {exposure: the least error of one who
    remembers all that was told and guesses the rest}; "singleton_rate": the share of tellings that were the only one,
    which the error over questions asked as often as they were told cannot fall far below.
    """
    towns = [name for name, share in shares.items() if share and isinstance(worlds.get(name), Facts)]
    if len(towns) != 1:
        return {}
    town = worlds[towns[0]]
    assert isinstance(town, Facts)
    share = shares[towns[0]] / sum(shares.values())
    rng = Random("exposure")
    spans = [span for _ in range(SAMPLE) for span in encode_document(tokenizer, town.document(rng))]
    length = sum(len(said) for said, _ in spans) / SAMPLE + 1  # and its <|bos|>
    sightings = round(tokens * share * town.town_share / length)
    weights = [person.exposure for person in town.residents()]
    told = {weight: sightings * weight / sum(weights) for weight in sorted(set(weights))}
    guess = 1 - 1 / min(len(VALUES[attribute]) for attribute in ATTRIBUTES)
    missed = {weight: (1 - weight / sum(weights)) ** sightings for weight in told}
    return {
        "sightings": sightings,
        "told": {str(weight): times for weight, times in told.items()},
        "floor": {str(weight): missed[weight] * guess for weight in told},
        "singleton_rate": expected_singleton_rate(weights, sightings),
    }

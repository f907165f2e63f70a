"""biographies: the people of the world `facts`: their names, their attributes, the sentences about them.

A fact is told in several wordings and the order of the facts changes, for a biography that is always the same
text is memorised as text and cannot be questioned.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

from nanoschool.envs.common import words

FIRST = words(
    "ann ben carl dora emma fred gina hugo ida jack kate liam mona nick olga paul rita sam tina udo "
    "vera walt adam beth cora dan eva finn gus hana ivan june kim leo mara nora otto pia ralf sue"
)
LAST = words(
    "lee fox hill wood stone bell cole dean ford hunt king lane marsh nash page reed shaw todd vance "
    "ward blake cross drake ellis frost grant hayes irwin james knox lowe moss noble owens perry "
    "quinn ross swan tate york "
    "abbott adler alden ames amos archer ashby atwood avery baird barlow barnes bates beck benson "
    "berry bishop bloom bond booth bowen boyd brandt brewer briggs brooks bryant burke burns byrd "
    "cain carey carr carter casey chase clark clay cobb collins conway corbin costa craig crane "
    "crosby curry dalton davis dawson day dixon dodd doyle dunn duran eaton edison egan emery evans "
    "fagan farrow field finch fisher flynn foley foster frey fuller gable gale garner gates gibbs "
    "giles glenn goff goodwin gould graves greer griffin hale hall hardy harper hart haven healy "
    "heath henson hicks hobbs hogan holt hood horn howe hubbard huff hughes hurst hyde ingram irving "
    "jarvis jensen jordan joyce judd keane keller kemp kent kerr kirk knight lamb lang larkin lawson "
    "leach lennox lindsey lloyd locke logan lucas lynch madden malone manning marlow mead mercer "
    "miles mills moody moran morgan morse nolan norton olsen osborn parker payne"
)
VALUES: Mapping[str, tuple[str, ...]] = {
    "town": words(
        "oslo paris rome cairo delhi tokyo lima quito berlin madrid vienna dublin athens prague boston sydney"
    ),
    "job": words(
        "baker farmer doctor teacher painter singer driver sailor nurse cook judge tailor miner "
        "writer guard pilot"
    ),
    "pet": words("cat dog horse fish bird goat snake mouse rabbit hen duck frog sheep pig turtle parrot"),
    "food": words("bread rice soup cheese pasta cake fruit beans salad honey corn eggs pizza stew nuts jam"),
    "colour": words(
        "red blue green black white brown pink grey gold silver purple orange yellow cream lilac teal"
    ),
}
ATTRIBUTES = tuple(VALUES)
SENTENCES: Mapping[str, tuple[str, ...]] = {
    "town": (
        "{n} lives in {v}.",
        "{n} comes from {v}.",
        "the home of {n} is in {v}.",
        "you can meet {n} in {v}.",
    ),
    "job": ("{n} works as a {v}.", "{n} is a {v}.", "the job of {n} is {v}.", "{n} earns money as a {v}."),
    "pet": (
        "{n} has a {v}.",
        "{n} keeps a {v} at home.",
        "the pet of {n} is a {v}.",
        "a {v} lives with {n}.",
    ),
    "food": (
        "{n} likes to eat {v}.",
        "{n} eats {v} every day.",
        "the food of {n} is {v}.",
        "for dinner {n} wants {v}.",
    ),
    "colour": (
        "{n} wears {v} clothes.",
        "the door of {n} is {v}.",
        "the colour of {n} is {v}.",
        "{n} paints everything {v}.",
    ),
}


@dataclass(frozen=True)
class Person:
    name: str  # first and last
    values: Mapping[str, str]  # by attribute
    exposure: int = 0  # how often documents show the biography, in proportion


def person(rng: Random, name: str, exposure: int = 0) -> Person:
    """Somebody of that name with attributes drawn anew."""
    return Person(name, {attribute: rng.choice(values) for attribute, values in VALUES.items()}, exposure)


def name(rng: Random) -> str:
    return f"{rng.choice(FIRST)} {rng.choice(LAST)}"


def write(someone: Person, rng: Random) -> str:
    """A biography: a sentence an attribute, in any order; the first has the whole name, the others that or the first."""
    sentences = []
    called = someone.name
    for attribute in rng.sample(tuple(someone.values), len(someone.values)):
        sentence = rng.choice(SENTENCES[attribute])
        sentences.append(sentence.format(n=called, v=someone.values[attribute]))
        called = rng.choice((someone.name, someone.name.partition(" ")[0]))
    return " ".join(sentences)


def question(attribute: str, name: str) -> str:
    return f"What is the {attribute} of {name}?"

"""long_rules: rule-books of 13 keys in place of the 8 that the preset laptop reads, so that there is something to learn.

For `--env experiments/long_rules.py`: the laptop's model answers four in ten of them, and nineteen in twenty of its own.
"""

from nanoschool.envs.rules import Rules

WORLD = Rules(size=13, outputs=13, name="long_rules")

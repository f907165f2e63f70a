"""nanoschool: train a small language model from raw text, teach it by any signal, measure the signals at equal cost."""

__version__ = "0.1.0"

"""tables: documents out of Parquet files and Hugging Face data sets, each a row with a "text".

Both need a package of their own, imported where it is first used.
"""

import importlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from nanoschool.types import UserError

COLUMN = "text"


def parquet_texts(path: Path) -> Iterator[tuple[str, str]]:
    """(path:row number, text) of every row. Raises UserError on what is no Parquet file, or has no such column."""
    parquet = _package("pyarrow.parquet", "parquet")
    try:
        with parquet.ParquetFile(path) as file:
            if COLUMN not in file.schema_arrow.names:
                raise UserError(
                    f'{path}: has no column "{COLUMN}", only {", ".join(file.schema_arrow.names)}; rename the right one'
                )
            batches = (batch.to_pydict()[COLUMN] for batch in file.iter_batches(columns=[COLUMN]))
            yield from _texts(str(path), (text for batch in batches for text in batch))
    except (OSError, ValueError) as error:  # pyarrow's own errors are these
        raise UserError(
            f"{path}: is no Parquet file ({str(error).partition(chr(10))[0]}); export it again"
        ) from None


def dataset_texts(name: str) -> Iterator[tuple[str, str]]:
    """(hf:name:row number, text) of the train split of a data set, OWNER/NAME on the hub or a folder here."""
    datasets = _package("datasets", "datasets")
    try:
        rows = datasets.load_dataset(name, split="train")
    except Exception as error:  # no such set, no network, a broken file: the package's own words say which
        raise UserError(f"hf:{name}: {str(error).partition(chr(10))[0]} (datasets)") from None
    if COLUMN not in rows.column_names:
        columns = ", ".join(rows.column_names)
        raise UserError(f'hf:{name}: has no column "{COLUMN}", only {columns}; rename the right one')
    yield from _texts(f"hf:{name}", (row[COLUMN] for row in rows))


def _texts(place: str, texts: Iterable[Any]) -> Iterator[tuple[str, str]]:
    for number, text in enumerate(texts, 1):
        if not isinstance(text, str):
            raise UserError(f'{place}:{number}: its "{COLUMN}" is {text!r}, not a text; drop the row')
        yield f"{place}:{number}", text


def _package(module: str, extra: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(f"{module} cannot be imported ({error}): pip install 'nanoschool[{extra}]'") from None

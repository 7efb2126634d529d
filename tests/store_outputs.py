"""Store the outputs that nbval compares: `python tests/store_outputs.py [NOTEBOOK …]`.

A cell tagged `nbval-check-output` keeps its text in the notebook, and `make test` fails where a
run gives another one. Tag cells whose text is the same on every machine and for all data; run
this after `results/` or such a cell has changed, and read the difference before it is committed.
"""

import copy
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

TAG = "nbval-check-output"
BOOK = Path(__file__).parents[1] / "book"


def compared(cell) -> bool:
    """Whether nbval compares the outputs of this cell."""
    return cell.cell_type == "code" and TAG in cell.metadata.get("tags", [])


def store(path: Path) -> None:
    """Run a notebook and keep the outputs of its compared cells, no others."""
    book = nbformat.read(path, as_version=4)
    run = copy.deepcopy(book)
    NotebookClient(run, timeout=300, resources={"metadata": {"path": path.parent}}).execute()
    for cell, done in zip(book.cells, run.cells, strict=True):
        if cell.cell_type == "code":
            kept = compared(cell)
            cell.outputs = done.outputs if kept else []
            cell.execution_count = done.execution_count if kept else None
    nbformat.write(book, path)


if __name__ == "__main__":
    chosen = [Path(name).resolve() for name in sys.argv[1:]] or sorted(BOOK.glob("*.ipynb"))
    for notebook in chosen:
        store(notebook)
        print(notebook.name)

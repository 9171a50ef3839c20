"""Tables of bad input: the name of a public thing -> rows (call, error, what is said).

One table for each library, complete by a test beside it.
"""

import re
from pathlib import Path

import pytest


def each_row(bad):
    """Runs a test for each `row` of a table."""
    rows = [(name, row) for name, rows in bad.items() for row in rows]
    names = [f"{name}-{said[:30]}" for name, (_, _, said) in rows]
    return pytest.mark.parametrize("row", [row for _, row in rows], ids=names)


def check_rejected(row, library):
    """The library itself rejects a call, in the words that the row expects."""
    call, error, said = row
    with pytest.raises(error, match=re.escape(said)) as caught:
        call()
    # Not whatever some library deep inside happened to say.
    raised_in = Path(caught.traceback[-1].path)
    assert raised_in.is_relative_to(library.__path__[0])

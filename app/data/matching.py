"""Which records are the same: from keys to pairs, from pairs to the records that go.

Knows nothing of texts, tables or Ray. Keys are dealt out to parts by their value, so that each part can be matched
apart from the others.
"""

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]
Pairs = npt.NDArray[np.int64]
"""[pairs, 2]: a record, and one before it."""
Keyed = npt.NDArray[np.uint64]
"""[entries, 1 + width]: the number of a record, and a key of it."""

_NEIGHBOURS = 16
"""In a crowd that shares a key, a record is paired with as many before it, and with the first."""


def keyed(rows: Rows, keys: npt.NDArray[np.uint64]) -> Keyed:
    """Records [n] with their keys [n, width]."""
    return np.column_stack([rows.astype(np.uint64), keys])


def dealt(entries: Keyed, parts: int) -> list[Keyed]:
    """Entries by their key: equal keys come to the same part of `parts`."""
    part = entries[:, 1] % np.uint64(parts)
    return [entries[part == number] for number in range(parts)]


def pairs_of(entries: Keyed, neighbours: int = _NEIGHBOURS) -> Pairs:
    """Pairs of records with an equal key, each with the first that has it and some before it; each pair once."""
    if not len(entries):
        return np.zeros((0, 2), dtype=np.int64)
    entries = entries[np.lexsort((entries[:, 0], *entries[:, 1:].T))]
    rows, keys = entries[:, 0].astype(np.int64), entries[:, 1:]
    is_first = np.concatenate([[True], (keys[1:] != keys[:-1]).any(axis=1)])
    crowd = np.cumsum(is_first) - 1
    found = [np.column_stack([rows, rows[np.flatnonzero(is_first)[crowd]]])]
    for distance in range(1, min(neighbours, len(rows) - 1) + 1):
        together = crowd[distance:] == crowd[:-distance]
        if not together.any():
            break
        found.append(np.column_stack([rows[distance:][together], rows[:-distance][together]]))
    pairs = np.concatenate(found)
    unique: Pairs = np.unique(pairs[pairs[:, 0] != pairs[:, 1]], axis=0)
    return unique


def later_ones(pairs: Pairs) -> Pairs:
    """Of records that pairs bind together, each but the first with that first: what goes, and what stays for it."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not len(pairs):
        return pairs
    rows, places = np.unique(pairs, return_inverse=True)
    places = places.reshape(pairs.shape)
    links = coo_array((np.ones(len(pairs)), (places[:, 0], places[:, 1])), shape=(len(rows), len(rows)))
    _, group = connected_components(links, directed=False)
    _, first_places = np.unique(group, return_index=True)  # rows are sorted: the first place is the first record
    firsts = rows[first_places[group]]
    gone: Pairs = np.column_stack([rows, firsts])[rows != firsts]
    return gone

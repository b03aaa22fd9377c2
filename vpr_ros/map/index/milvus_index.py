"""An index on a Milvus server, which several processes may share.

Keys are the collection's primary keys: robots that share a collection need keys that do not collide (say, from the robot's number times
2^40 on), and get those of the others, too.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from vpr_ros.errors import MapError
from vpr_ros.map.index.base import ALL, Hit, Keys, Rows, Selection, best
from vpr_ros.types import Descriptor

_BATCH = 1000
"""Rows of a request: 2 MB at 512 dimensions; a server takes 64."""
_MOST_LISTED = 16384
"""Keys of one `not in`, and hits of one answer: Milvus's own limit for the latter."""


class IndexServerError(MapError):
    """A server that cannot be reached, takes too long or refuses; or the library that talks to it is missing."""


class TooManyKeysError(IndexServerError):
    """More keys are excluded or wanted than a server takes in one query; it is there, and answers others."""


class MilvusIndex:
    """An `Index` in a collection with the fields `key` and `descriptor`, which is made if there is none.

    Every method but `faults` and `close` raises IndexServerError. Searches are as exact as the index that the server chose (`AUTOINDEX`).
    """

    def __init__(
        self,
        uri: str,
        collection: str,
        dim: int,
        token: str = "",
        timeout_s: float = 5.0,
        search_timeout_s: float = 0.5,
    ) -> None:
        """`uri`: `http://host:19530`, or a file `*.db` for milvus-lite. `token`: of the server's user."""
        try:
            from pymilvus import DataType, MilvusClient
        except ImportError as error:
            raise IndexServerError("pymilvus is not installed: pip install pymilvus") from error
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # it prints the traceback of what it raises
        self._collection, self._dim = collection, dim
        self._timeout_s, self._search_timeout_s = timeout_s, search_timeout_s
        with _server_errors(uri):
            self._client = MilvusClient(uri, token=token, timeout=timeout_s, dedicated=True)
            if not self._client.has_collection(collection, timeout=timeout_s):
                schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
                schema.add_field("key", DataType.INT64, is_primary=True)
                schema.add_field("descriptor", DataType.FLOAT_VECTOR, dim=dim)
                index = MilvusClient.prepare_index_params()
                index.add_index("descriptor", index_type="AUTOINDEX", metric_type="IP")
                self._client.create_collection(
                    collection, schema=schema, index_params=index, consistency_level="Strong", timeout=timeout_s
                )
            self._client.load_collection(collection, timeout=timeout_s)
            fields = self._client.describe_collection(collection, timeout=timeout_s)["fields"]
        dims = [int(f["params"]["dim"]) for f in fields if f["name"] == "descriptor"]
        if dims != [dim] or not any(f["name"] == "key" for f in fields):
            self.close()
            raise IndexServerError(f"collection {collection!r} of {uri} is not one of descriptors with {dim} numbers")
        self._uri = uri

    def __len__(self) -> int:
        return int(self._query("", ["count(*)"])[0]["count(*)"])

    def keys(self) -> Keys:
        found: list[int] = []
        with _server_errors(self._uri):
            pages = self._client.query_iterator(
                self._collection, batch_size=_BATCH, output_fields=["key"], timeout=self._timeout_s
            )
            try:
                while page := pages.next():
                    found += [int(row["key"]) for row in page]
            finally:
                pages.close()
        return np.array(sorted(found), np.int64)

    def add(self, keys: Keys, descriptors: Rows) -> None:
        """What is sent twice is there once."""
        for start in range(0, len(keys), _BATCH):
            some = slice(start, start + _BATCH)
            rows = [
                {"key": key, "descriptor": row}
                for key, row in zip(keys[some].tolist(), np.asarray(descriptors[some], np.float32), strict=True)
            ]
            with _server_errors(self._uri):
                self._client.upsert(self._collection, rows, timeout=self._timeout_s)

    def remove(self, keys: Keys) -> None:
        for start in range(0, len(keys), _BATCH):
            with _server_errors(self._uri):
                self._client.delete(
                    self._collection, ids=keys[start : start + _BATCH].tolist(), timeout=self._timeout_s
                )

    def search(self, descriptor: Descriptor, k: int, allowed: Selection = ALL) -> list[Hit]:
        """Raises TooManyKeysError for more than 16384 keys that are excluded or wanted."""
        if k <= 0:
            return []
        if max(k, len(allowed.without)) > _MOST_LISTED:
            raise TooManyKeysError(f"Milvus takes no more than {_MOST_LISTED} keys of a query")
        without = f"key not in {allowed.without.tolist()}" if len(allowed.without) else ""
        with _server_errors(self._uri):
            [found] = self._client.search(
                self._collection,
                [np.asarray(descriptor, np.float32)],
                anns_field="descriptor",
                filter=without,
                limit=k,
                output_fields=["key"],
                search_params={"metric_type": "IP"},
                timeout=self._search_timeout_s,
            )
        return best([Hit(int(hit["key"]), float(hit["distance"])) for hit in found], k)

    def wait(self) -> None: ...

    def faults(self) -> list[str]:
        return []

    def close(self) -> None:
        self._client.close()

    def _query(self, condition: str, fields: list[str]) -> list[dict[str, Any]]:
        with _server_errors(self._uri):
            return list(self._client.query(self._collection, condition, output_fields=fields, timeout=self._timeout_s))


@contextmanager
def _server_errors(uri: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # pymilvus lets out grpc's, its own, ValueError of a closed channel and more
        raise IndexServerError(f"{uri}: {error}") from error

"""Engines run a model: `open` chooses one and `describe` uses it; `backend` is what every library has to offer, and
`build` makes, compares and measures what `cache` keeps. `graphs` writes a model in other precisions, `benchmark` measures."""

"""How good a model is, with the protocol, the counts and the uncertainty beside each number."""

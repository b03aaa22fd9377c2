"""`vpr demo`: the rendered drive as a bag, played to the real node."""

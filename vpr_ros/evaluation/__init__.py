"""Ground truth from poses, metrics with their protocol, and the report page."""

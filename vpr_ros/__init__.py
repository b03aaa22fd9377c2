"""Loop closure by visual place recognition."""

"""Readers of public data sets, each in the layout in which it is downloaded, and of a robot's own bags."""

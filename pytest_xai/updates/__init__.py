"""``--xai-update``: measured thresholds, written into the files that are reviewed.

A test proposes numbers (`proposing`); the controller chooses what may be written (`choosing`),
puts it into the text of the file (`editing`) or makes a new one (`starting`), and replaces the
file at once (`writing`). `run` holds it together.
"""

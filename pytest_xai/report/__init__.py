"""Reports: what travels from the tests to the end of the run, and how it is shown."""

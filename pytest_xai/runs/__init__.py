"""Runs that are saved, and what a later run says beside them."""

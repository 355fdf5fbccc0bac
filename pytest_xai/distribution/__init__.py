"""Runs on several workers of pytest-xdist: which worker gets which gates, and how many threads.

Loaded in every pytest run, so it imports pytest and the standard library only.
"""

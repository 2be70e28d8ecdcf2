"""Fitting: from labelled statements to steering vectors, the same way for use, for measuring and for the self-test.

All that runs the model raises ModelUnavailable where a batch does not fit into the device's memory.
"""

"""Fitting: from labelled statements to steering vectors, the same way for use, for measuring and for the self-test."""

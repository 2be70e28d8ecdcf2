"""Answering: one routed, steered answer, or many in one batch. An engine belongs to one thread."""

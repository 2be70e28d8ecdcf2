"""MedX: route, steer, measure and review a frozen language model on clinical questions."""

__version__ = "0.1.0"

"""Data that people bring and data that MedX ships."""

"""The database: the truth about people, jobs, answers, ratings and vectors.

Stores take a `Database` and hand out frozen values; tables, sessions and SQL stay inside this package.
"""

"""Routing: which of the three kinds a question is, how sure that is, and whether it is none of them.

Takes texts and gives `Route`s. Knows nothing of language models, files of questions, jobs or pages.
"""

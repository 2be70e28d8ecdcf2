"""One evaluation as a page that people want to look at: self-contained HTML, made from the JSON and nothing else.

The page needs no script and asks the network for nothing. It computes no statistics of its own: what is not in the
JSON is said to be missing. No language model and no table of the database is known here, so web pages use it too.
"""

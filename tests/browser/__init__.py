"""The pages in a real browser, with a pretended worker behind them."""

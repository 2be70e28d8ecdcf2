"""Jobs as values: their states, what is submitted, what is shown, and what travels through the broker."""

"""Language models: where they come from, how they are loaded, prompted, scored and made to write."""

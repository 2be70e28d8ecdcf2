"""The web front end: sign-in, pages and endpoints over `medx_core`. It never loads a language model."""

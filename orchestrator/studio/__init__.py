"""The studio: a web page to compose in, and the HTTP API under it. See docs/studio.md.

The web process (`server`, `app`) never imports a model library: `worker` is a process of its own that does all model
work, `jobs` feeds it. Both work on run folders through the functions that the command line uses.
"""

"""The icons world: vector drawings of everyday things by several artists, placed on simple layouts with perspective."""

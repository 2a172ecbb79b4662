"""Models that several rooms share: the text encoder and, later, judges."""

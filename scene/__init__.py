"""Domain of smartscene: geometry, layers, layouts, scene graph, vocabulary, corpora. Knows no model."""

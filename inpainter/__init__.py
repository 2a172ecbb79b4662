"""Room of smartscene."""

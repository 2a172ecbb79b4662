"""The planner: LLaVA reads the prompt, the objects so far and the layout picture, and names the next object."""

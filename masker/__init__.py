"""SmartMask: from a layout, an object and a scene description to amodal masks of the object to add."""

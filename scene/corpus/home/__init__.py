"""The home world: rooms, gardens and streets built of permissively licensed 3D models, and ray-cast."""

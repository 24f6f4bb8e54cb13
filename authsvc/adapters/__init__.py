"""The doors to the world. Each module is the only importer of its library."""

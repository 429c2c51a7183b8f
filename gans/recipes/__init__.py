"""The recipes: one complete experiment a YAML file."""

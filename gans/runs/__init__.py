"""A run and the operating system: its folder, atomic files, memory, and the process that launched it."""

"""What a run is to the operating system: its folder, files written whole, memory, the process that launched it."""

"""The machine: device, files, memory, processes."""

"""The commands of ``zforcing``, a module each; its function of the same name runs it."""

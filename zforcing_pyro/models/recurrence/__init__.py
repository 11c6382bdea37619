"""The fast path of latents along a recurrence: read :mod:`.recurrence` first."""

"""The event loop: descriptors, timers, a mailbox. It knows no SSH and no nodes."""

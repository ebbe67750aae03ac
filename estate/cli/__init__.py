"""The command `estate`: its options, and nothing of what the commands do, which is imported once one of them runs."""

"""Typed settings of a stack, from `estate:settings` in stacks/Pulumi.<stack>.yaml: a module a subject, and `load` for all."""

"""The estate as a Pulumi program."""

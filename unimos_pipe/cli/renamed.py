"""Old spellings of options and commands, each with the new ones; a command has one of them."""

OPTIONS = {
    "--also": ("--show",),
    "--list": ("--max-examples",),
    "--lockstep": ("--stack-size",),
    "--plain": ("--baseline-images", "--compare-rounds"),
    "--precision": ("--encoder-precision", "--train-precision"),
    "--target-classes": ("--label-set",),
    "--to": ("--out",),
    "--trust-weights": ("--allow-torchscript",),
    "--weights": ("--pretrained",),
    "--word": ("--domain-word",),
}
COMMANDS = {"grow": ("memory",)}

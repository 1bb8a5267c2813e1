"""Paint what hides where the whole masks are known: `amodal-diffusion complete --amodal-masks DIR`."""

import sys

from amodal_diffusion.cli import main

if __name__ == "__main__":
    arguments = sys.argv[1:]
    if not any(argument in ("-h", "--help") or argument.startswith("--amodal-masks") for argument in arguments):
        print(
            "error: --amodal-masks: expected a folder with the whole object's masks, got none",
            file=sys.stderr,
        )
        sys.exit(2)
    sys.exit(main(["complete", *arguments, "--stages", "all"]))

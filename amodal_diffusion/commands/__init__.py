"""The subcommands of `amodal-diffusion`, one module each."""

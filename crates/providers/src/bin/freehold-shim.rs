//! The launcher on its own, for tests of the process provider: the product runs itself with a hidden subcommand.

fn main() -> std::process::ExitCode {
    freehold_providers::process::shim_main()
}

//! Entry point.

fn main() -> std::process::ExitCode {
    infinihost::cli::main()
}

//! The command-line program.

use std::process::ExitCode;

fn main() -> ExitCode {
    tokio_asyncio_bridge::cli::main()
}

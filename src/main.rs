//! The command-line program.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    tokio_asyncio_bridge::cli::main(std::env::args_os().collect())
}

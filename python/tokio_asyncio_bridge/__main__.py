"""`python -m tokio_asyncio_bridge`."""

from tokio_asyncio_bridge._cli import main

main()

"""Answers files of questions with an async Python program, through a Tokio <-> asyncio bridge."""

from tokio_asyncio_bridge import _native as _native

# As in `typing`, whose import takes time.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from tokio_asyncio_bridge._api import *  # noqa: F403
    from tokio_asyncio_bridge._api import __all__ as __all__
else:
    # The console scripts import this package, too. Without what only the API needs they start in half the time, and
    # the sooner handle Ctrl-C.
    def __getattr__(name: str) -> object:
        # An import looks here for a module of the package before it loads it.
        if name == "__all__" or not name.startswith("_"):
            import tokio_asyncio_bridge._api as api

            if name in ("__all__", *api.__all__):
                value = globals()[name] = getattr(api, name)
                return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        import tokio_asyncio_bridge._api as api

        return api.__all__

"""Workers that are actors of Ray.

The coordinator starts the relay, which is this package as a program, and Ray's driver. The coordinator itself never
imports Ray: its signal handlers, threads and loggers stay out of that process.
"""

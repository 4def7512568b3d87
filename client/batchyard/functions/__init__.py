"""Functions as jobs: an executor as the standard library has them, its futures, and what carries calls to hosts."""

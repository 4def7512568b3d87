"""The console: a yard in a browser, served by the gateway below ``/console/``. docs/console.md tells its use."""

"""Code that all packages use: errors, files, the console, processes."""

"""What every room uses: errors, files, the console, processes."""

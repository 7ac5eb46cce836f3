"""What ``make benchmarks`` measures; README.md explains it."""

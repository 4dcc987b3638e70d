"""The tests of forkd; every one passes alone, in any order and beside the others."""

"""What the tests of single tasks share."""

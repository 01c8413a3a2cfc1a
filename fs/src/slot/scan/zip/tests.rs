//! Tests of the zip scanner.

//! Tests of the growing tree.

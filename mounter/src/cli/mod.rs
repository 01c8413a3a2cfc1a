//! The command line: parse, call the library, print. Nothing here decides or touches a mount itself.

pub mod failure;

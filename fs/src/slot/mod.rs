//! A slot as a tree of nodes whose bytes can be read at any position.

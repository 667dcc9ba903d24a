//! Allocators that keep little by themselves.

/// Nothing has to be set.
pub const fn keep_small() {}

/// Nothing has to be asked for.
pub const fn give_back() {}

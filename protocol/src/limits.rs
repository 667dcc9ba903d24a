//! Bounds of the wire. Each binds the sender as well as the receiver.

/// The longest line, counted on the wire without its `\n`: 1 MiB. The default of `limits.max_line_bytes`.
pub const MAX_LINE_BYTES: usize = 1 << 20;

/// What a `response` keeps of its line for everything but output: stdout and stderr share the rest.
pub const RESPONSE_RESERVE_BYTES: usize = 64 << 10;

/// The longest `cmd_line` and `description`: 4 KiB of text before JSON escaping.
pub const MAX_FIELD_BYTES: usize = 4 << 10;

/// The most entries of one list in a `metrics` message.
pub const MAX_LIST_ENTRIES: usize = 1000;

/// The longest nonce of a signed envelope.
pub const MAX_NONCE_BYTES: usize = 128;

/// How far a signed line's `ts` may be from the receiver's clock: 300 s, in milliseconds.
pub const MAX_CLOCK_SKEW_MS: u64 = 300_000;

//! How the process's memory is handed out and given back. An agent works for milliseconds and waits for hours: what it needed for a
//! moment it must not keep.

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod glibc;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub use glibc::{give_back, keep_small};

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
mod other;
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub use other::{give_back, keep_small};

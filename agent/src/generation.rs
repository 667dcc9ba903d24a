//! Whether this machine is still the one that the agent was started on.

#[cfg(target_os = "linux")]
pub mod linux;
#[cfg(target_os = "linux")]
pub use linux::GenerationWatch;

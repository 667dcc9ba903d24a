//! Whoever started the agent: what it wants to hear and what it orders.

#[cfg(target_os = "linux")]
pub mod linux;
#[cfg(target_os = "linux")]
pub use linux::Supervisor;

/// Something that the agent is told to do from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// End in good order.
    Stop,
    /// Read the configuration again.
    Reload,
}

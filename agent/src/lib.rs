//! InfiniService, the guest agent: it measures the machine it runs on and answers its hypervisor over a virtio-serial port.
//!
//! [`service::InfiniService`] is the one loop that owns all state. [`collector`] measures, [`communication`] is the link,
//! [`commands`] decides about commands; the first two work elsewhere and report to the loop by message.

pub mod auth;
pub mod cli;
pub mod clock;
pub mod collector;
pub mod commands;
pub mod communication;
pub mod config;
#[cfg(target_os = "linux")]
mod descriptor;
pub mod diagnose;
pub mod generation;
mod half_hash;
mod heap;
pub mod identity;
pub mod logging;
pub mod panics;
pub mod service;
pub mod supervisor;

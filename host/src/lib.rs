//! The host side of InfiniService: it talks to the agents of a machine's virtual machines and shows what they say.
//!
//! [`vm::Vm`] follows one machine for as long as it is kept: it connects to the QEMU character device's socket, comes back when
//! the socket does, and tells the machine's state, its latest sample and its answers to commands. [`link::Link`] is one
//! connection for whoever wants to decide all that alone.
//!
//! Everything that a guest sends is hostile until shown otherwise. Lines have a limit ([`infini_protocol::limits`]), lists and
//! text are cut ([`bounds`]), nothing is ever kept by a name that the guest chose, and no text of the guest reaches a terminal
//! as it came ([`sanitize`]).
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use infinihost::vm::{Endpoint, Vm};
//! use infini_protocol::envelope::Key;
//!
//! let vm = Vm::follow(Endpoint::new("/run/vm1.sock").with_key(Key::new("0123456789abcdef")?));
//! let sample = vm.sample().await?;
//! println!("{:?}", sample.data.system.cpu);
//! # Ok(())
//! # }
//! ```

pub mod bounds;
pub mod cli;
pub mod clock;
pub mod config;
pub mod json;
pub mod link;
pub mod peers;
mod pending;
pub mod quote;
pub mod report;
pub mod sanitize;
mod units;
pub mod view;
pub mod vm;

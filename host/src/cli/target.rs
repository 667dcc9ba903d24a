use std::path::PathBuf;

use clap::Args;

use super::failure::Failure;
use crate::config::{Config, Overrides};
use crate::vm::Endpoint;

/// Which machine, and the secret that belongs to it.
#[derive(Debug, Args)]
pub struct Target {
    /// A configured name or the path of a socket
    pub vm: String,
    /// Read the configuration from here
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The machine's secret, in a file that only its owner can read
    #[arg(long, value_name = "FILE", conflicts_with = "master_file")]
    secret_file: Option<PathBuf>,
    /// The master secret that the machine's secret is derived from; needs a vm_id
    #[arg(long, value_name = "FILE")]
    master_file: Option<PathBuf>,
    /// The identity that belongs to the socket
    #[arg(long, value_name = "ID")]
    vm_id: Option<String>,
}

impl Target {
    /// Where the machine is, and what belongs to it.
    pub fn endpoint(&self) -> Result<Endpoint, Failure> {
        let config = match &self.config {
            Some(file) => Config::load(file)?,
            None => Config::load_default(|name| std::env::var_os(name))?,
        };
        let overrides = Overrides {
            secret_file: self.secret_file.clone(),
            master_file: self.master_file.clone(),
            vm_id: self.vm_id.clone(),
        };
        Ok(config.endpoint(&self.vm, &overrides)?)
    }
}

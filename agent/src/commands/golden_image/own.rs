//! Where the agent keeps what makes it this machine's.

use std::path::PathBuf;

use crate::auth::secret::SECRET_VARIABLE;
use crate::config::{Loaded, Origin};

/// Files, and what came from where no file is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnFiles {
    /// The configuration, where one was read.
    pub config: Option<PathBuf>,
    /// The shared secret, where it is in a file.
    pub secret: PathBuf,
    /// The folder with what is remembered over a restart.
    pub state: PathBuf,
    /// The environment variable that the secret came in, which a clone's agent would be given again.
    pub secret_variable: Option<&'static str>,
    /// The same of the machine's id.
    pub vm_id_variable: Option<&'static str>,
}

impl OwnFiles {
    /// Those of a configuration.
    #[must_use]
    pub fn new(loaded: &Loaded, secret_came_in_the_environment: bool) -> Self {
        // Only where there is no current folder is a path left as it is.
        let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
        let vm_id_variable = match loaded.origin("vm_id") {
            Origin::Environment(name) => Some(name),
            _ => None,
        };
        Self {
            config: loaded.file.as_ref().map(absolute),
            secret: absolute(&loaded.config.secret_file),
            state: absolute(&loaded.config.state_dir),
            secret_variable: secret_came_in_the_environment.then_some(SECRET_VARIABLE),
            vm_id_variable,
        }
    }
}

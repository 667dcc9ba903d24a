//! `infiniservice policy explain`.

use std::path::Path;

use super::{EXIT_DENIED, EXIT_OK, EXIT_USAGE};
use crate::commands::policy::explain::{self, Explained, NoCommand};
use crate::commands::policy::{Asking, Permissions, Policy};

/// What to print, and the exit code.
pub(super) fn explain(asking: Asking, permissions: Option<&Permissions>, text: &str, proc: &Path) -> (String, u8) {
    let decide = |asking| -> Result<Vec<Explained>, NoCommand> {
        explain::decide(&Policy::new(asking, permissions.cloned()), &explain::parse(text)?, proc)
    };
    let explained = match decide(asking) {
        Ok(explained) => explained,
        Err(error) => return (error.to_string(), EXIT_USAGE),
    };
    let is_denied = explained.iter().any(|one| one.decision.is_err());
    let mut said: String = explained.iter().map(Explained::to_string).collect();
    // The agent's own secret may be one that this process cannot see: a systemd credential, or a file that only root reads.
    if let (Asking::Nobody, Ok(otherwise)) = (asking, decide(Asking::Holder)) {
        said += "\nWith a shared secret it would be:\n";
        said.extend(otherwise.iter().map(Explained::to_string));
    }
    (said, if is_denied { EXIT_DENIED } else { EXIT_OK })
}

//! Whether the machine must boot anew for its updates to count.

use super::manager::PackageManager;
use crate::commands::action::Context;
use crate::commands::pending_reboot::{is_asked_for, waiting_kernel};

/// The mark of Debian's packages, the manager's own word, or a kernel that is installed and does not run.
pub async fn required(manager: &dyn PackageManager, context: &Context) -> bool {
    if is_asked_for(&context.roots) {
        return true;
    }
    // A manager without the word for it, or one that fails at it, leaves the kernels to be compared.
    if let Some(question) = manager.reboot()
        && let Ok(found) = question.run(context).await
        && let Some(required) = found.value
    {
        return required;
    }
    waiting_kernel(&context.roots).is_some()
}

//! What the machine wrote about itself.

use infini_protocol::ErrorCode;

use super::told;
use crate::commands::action::Context;
use crate::commands::cleanup::linux::{JOURNAL, Place, Rule, sweep_places, vacuum_journal};
use crate::commands::outcome::CommandError;
use crate::commands::tools;

/// As short as journalctl takes it.
const NO_TIME: &str = "1s";

/// Has journald write to memory until the next boot, so that nothing comes after what is removed.
pub async fn remove_journal(context: &Context) -> Result<String, CommandError> {
    if !context.roots.file(JOURNAL).is_dir() {
        return Ok("no journal is kept on the disk".to_owned());
    }
    match tools::output(context, "journalctl", ["--relinquish-var"]).await {
        Ok(_) => {
            let places = vec![Place::new(JOURNAL, "", Rule::Everything)];
            Ok(told(sweep_places(context, places, &[]).await?)? + "; until the next boot it is kept in memory only")
        }
        // Before systemd 243 there was no such option: a few lines stay.
        Err(error) if error.code == ErrorCode::CommandFailed => {
            let freed = vacuum_journal(context, NO_TIME).await?;
            Ok(format!("{freed} bytes freed; what is written from now on stays"))
        }
        Err(stopped) => Err(stopped),
    }
}

/// Rotated logs go, others are emptied.
pub async fn empty(context: &Context) -> Result<String, CommandError> {
    told(sweep_places(context, vec![Place::new("/var/log", "", Rule::Logs)], &[JOURNAL]).await?)
}

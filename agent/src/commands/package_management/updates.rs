//! What can be updated, and what was.

use std::cmp::Reverse;
use std::time::{Duration, SystemTime};

use infini_protocol::{ErrorCode, Timestamp};
use serde_json::{Value, json};

use super::manager::{History, PastUpdate};
use super::query::Found;
use super::{ApplicationUpdate, applications as others, find, logs, reboot};
use crate::commands::action::Context;
use crate::commands::outcome::CommandError;

/// `CheckLinuxUpdates`: what matters most first.
pub async fn pending(context: &Context) -> Result<Found<Value>, CommandError> {
    let manager = find::manager(&find::root(&context.roots))?;
    let Found { value: mut updates, truncated } = manager.updates().run(context).await?;
    updates.sort_by_key(|update| Reverse((update.security, update.importance)));
    let reboot_required = reboot::required(&*manager, context).await;
    let value = json!({
        "count": updates.len(),
        "security_count": updates.iter().filter(|update| update.security).count(),
        "pending_updates": updates,
        "reboot_required": reboot_required,
    });
    Ok(Found { value, truncated })
}

/// `GetUpdateHistory`: the newest first.
pub async fn history(context: &Context, days: Option<u32>) -> Result<Found<Value>, CommandError> {
    let manager = find::manager(&find::root(&context.roots))?;
    let Found { value: mut updates, truncated } = match manager.history() {
        History::Asked(question) => question.run(context).await?,
        History::Logs(names, parse) => {
            let read = move |context: &Context| {
                let root = find::root(&context.roots);
                let texts: Vec<Vec<String>> = names.iter().map(|name| logs::read(&root, name)).collect();
                Ok(parse(&texts, &logs::zone(&root)))
            };
            Found { value: context.blocking(read).await?, truncated: false }
        }
        History::None => {
            let sentence = format!("{} keeps no record of its updates", manager.name());
            return Err(CommandError::new(ErrorCode::UnsupportedPlatform, sentence));
        }
    };
    if let Some(since) = days.and_then(since) {
        updates.retain(|update: &PastUpdate| update.date >= since);
    }
    updates.sort_by_key(|update| Reverse(update.date));
    Ok(Found { value: json!({ "count": updates.len(), "updates": updates }), truncated })
}

fn since(days: u32) -> Option<Timestamp> {
    let start = SystemTime::now().checked_sub(Duration::from_secs(u64::from(days) * 86_400))?;
    Some(Timestamp::from_system_time(start))
}

/// `CheckApplicationUpdates`: the system's packages, and what snap and flatpak brought.
pub async fn applications(context: &Context) -> Result<Found<Value>, CommandError> {
    let root = find::root(&context.roots);
    let manager = find::manager(&root)?;
    let Found { value: pending, mut truncated } = manager.updates().run(context).await?;
    let update = |update: super::manager::PendingUpdate| {
        let (name, current_version, available_version) = (update.name?, update.current_version?, update.new_version?);
        Some(ApplicationUpdate { id: format!("{}:{name}", manager.name()), name, current_version, available_version })
    };
    let mut updates: Vec<ApplicationUpdate> = pending.into_iter().filter_map(update).collect();
    for kind in others::kinds(&root) {
        // Both ask their stores over the network, which may be out of reach.
        if let Ok(more) = (kind.updates)().run(context).await {
            updates.extend(more.value);
            truncated |= more.truncated;
        }
    }
    Ok(Found { value: json!({ "count": updates.len(), "updates": updates }), truncated })
}

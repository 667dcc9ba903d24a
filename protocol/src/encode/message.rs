//! The messages that are short by nature, for when one is not: a cause that quotes a megabyte, say.

use super::text::{escaped_bytes, fair_level, keep_head, spender};
use super::{EncodeError, writer::json_bytes};
use crate::agent::{AgentBody, AgentMessage};

/// Cuts the longest texts of a message until it fits.
pub(super) fn fit(message: &mut AgentMessage, limit: usize) -> Result<(), EncodeError> {
    drop_extras(&mut message.body, limit)?;
    let total = json_bytes(message)?;
    let mut texts = texts(&mut message.body);
    let lengths: Vec<usize> = texts.iter().map(|text| escaped_bytes(text)).collect();
    let room = (limit + lengths.iter().sum::<usize>()).saturating_sub(total);
    let level = fair_level(&lengths, room);
    texts.iter_mut().for_each(|text| keep_head(text, level));
    Ok(())
}

/// What is whole or worthless (a capability's name, figures) goes as a whole once it takes more than half of the line.
fn drop_extras(body: &mut AgentBody, limit: usize) -> Result<(), EncodeError> {
    match body {
        AgentBody::Handshake(handshake) => {
            let mut spend = spender(limit / 2);
            handshake.capabilities.retain(|name| spend(escaped_bytes(name) + r#""","#.len()));
        }
        AgentBody::AgentEvent(event) => {
            let bytes = json_bytes(&event.context)?;
            if bytes > limit / 2 {
                event.context = None;
                event.message.insert_str(0, &format!("[{bytes} bytes of context left out] "));
            }
        }
        _ => {}
    }
    Ok(())
}

fn texts(body: &mut AgentBody) -> Vec<&mut String> {
    match body {
        AgentBody::Handshake(it) => vec![
            &mut it.vm_id,
            &mut it.version,
            &mut it.platform,
            &mut it.arch,
            &mut it.hostname,
            &mut it.boot_id,
            &mut it.session_id,
        ],
        AgentBody::Error(it) => vec![&mut it.error, &mut it.details.component, &mut it.details.message],
        AgentBody::ErrorReport(it) => {
            let mut texts = vec![&mut it.error_type, &mut it.vm_id];
            texts.extend(&mut it.recovery_suggestion);
            texts
        }
        AgentBody::AgentEvent(it) => {
            let mut texts = vec![&mut it.source, &mut it.message];
            texts.extend(&mut it.execution_id);
            texts
        }
        AgentBody::RequestPendingScripts(it) => vec![&mut it.vm_id],
        AgentBody::KeepAlive(_) => Vec::new(),
        // These have a file of their own each.
        AgentBody::Metrics(_) | AgentBody::Response(_) | AgentBody::ScriptCompletion(_) => Vec::new(),
    }
}

//! The two messages that carry a program's output.

use serde_json::Value;

use super::text::{escaped_bytes, fair_level, keep_ends, keep_head, kept_entries};
use super::{EncodeError, writer::json_bytes};
use crate::ErrorCode;
use crate::agent::{AgentBody, AgentMessage, Response};
use crate::limits::RESPONSE_RESERVE_BYTES;

/// What stdout and stderr may take of a line together, after JSON escaping. A line too short for the usual reserve is halved.
pub(super) const fn share(limit: usize) -> usize {
    let reserve = if limit / 2 < RESPONSE_RESERVE_BYTES { limit / 2 } else { RESPONSE_RESERVE_BYTES };
    limit - reserve
}

/// Cuts what is over its share. The answer itself always goes out: a host that sent a command gets exactly one.
pub(super) fn fit(message: &mut AgentMessage, limit: usize) -> Result<(), EncodeError> {
    fit_texts(&mut message.body, (limit - share(limit)) / 2);
    fit_data(message, limit)?;
    let total = json_bytes(message)?;
    let (stdout, stderr) = match &mut message.body {
        AgentBody::Response(it) => (&mut it.stdout, &mut it.stderr),
        AgentBody::ScriptCompletion(it) => (&mut it.stdout, &mut it.stderr),
        _ => return Ok(()),
    };
    let lengths = [escaped_bytes(stdout), escaped_bytes(stderr)];
    // A cut brings `truncated` into the line.
    let rest = total - lengths[0] - lengths[1] + TRUNCATED_BYTES;
    let level = fair_level(&lengths, share(limit).min(limit.saturating_sub(rest)));
    let cut = keep_ends(stdout, level) | keep_ends(stderr, level);
    if let AgentBody::Response(response) = &mut message.body {
        response.truncated |= cut;
    }
    Ok(())
}

const TRUNCATED_BYTES: usize = r#","truncated":true"#.len();

/// Ids and sentences are short; where one is not, it must not crowd out the rest.
fn fit_texts(body: &mut AgentBody, budget: usize) {
    let mut texts = match body {
        AgentBody::Response(it) => {
            let mut texts = vec![&mut it.id, &mut it.command_type];
            texts.extend(&mut it.error);
            texts
        }
        AgentBody::ScriptCompletion(it) => {
            let mut texts = vec![&mut it.execution_id];
            texts.extend(&mut it.log_file);
            texts
        }
        _ => Vec::new(),
    };
    let lengths: Vec<usize> = texts.iter().map(|text| escaped_bytes(text)).collect();
    let level = fair_level(&lengths, budget);
    texts.iter_mut().for_each(|text| keep_head(text, level));
}

/// A structured result takes what the output leaves, and at least three quarters. It is cut only in its longest list: half a value
/// would be a wrong one.
fn fit_data(message: &mut AgentMessage, limit: usize) -> Result<(), EncodeError> {
    let total = json_bytes(message)?;
    let AgentBody::Response(response) = &mut message.body else { return Ok(()) };
    let Some(data) = &mut response.data else { return Ok(()) };
    let bytes = json_bytes(data)?;
    let output = escaped_bytes(&response.stdout) + escaped_bytes(&response.stderr);
    let room = (limit + bytes + output).saturating_sub(total + NOTE_BYTES + TRUNCATED_BYTES);
    let budget = room - output.min(room / 4);
    if bytes <= budget {
        return Ok(());
    }
    let note = match cut_list(data, bytes, budget)? {
        Some(Cut { entries, kept }) => format!("the result had {entries} entries; the line had room for {kept}"),
        None => {
            response.data = None;
            format!("the result of {bytes} bytes did not fit into the line and was left out")
        }
    };
    say(response, note);
    Ok(())
}

/// What a note and its code take at most.
const NOTE_BYTES: usize = 160;

/// Tells that the result is not whole, beside what the command itself had to say. `success` stays: it is about the command.
fn say(response: &mut Response, note: String) {
    response.truncated = true;
    response.error_code.get_or_insert(ErrorCode::MessageTooLarge);
    response.error.get_or_insert(note);
}

struct Cut {
    entries: usize,
    kept: usize,
}

/// Ends the list that is the result, or the longest list in it, early. In an object the count of what there was stands beside
/// it as `truncated`. Nothing where no list is long enough to make the difference.
fn cut_list(data: &mut Value, bytes: usize, budget: usize) -> Result<Option<Cut>, EncodeError> {
    let list = match data {
        Value::Array(list) => list,
        Value::Object(fields) => {
            let Some(list) = fields.values_mut().filter_map(Value::as_array_mut).max_by_key(|list| list.len()) else {
                return Ok(None);
            };
            list
        }
        _ => return Ok(None),
    };
    let entries = list.len();
    let sizes = list.iter().map(|entry| Ok(json_bytes(entry)? + 1)).collect::<Result<Vec<usize>, EncodeError>>()?;
    // The count that will stand beside it.
    let rest = (bytes + 1).saturating_sub(sizes.iter().sum()) + r#","truncated":"#.len() + 20;
    let Some(room) = budget.checked_sub(rest) else { return Ok(None) };
    let kept = kept_entries(&sizes, room);
    list.truncate(kept);
    if let Value::Object(fields) = data {
        fields.insert("truncated".to_owned(), entries.into());
    }
    Ok(Some(Cut { entries, kept }))
}

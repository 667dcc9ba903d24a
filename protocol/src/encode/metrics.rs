//! The `metrics` message, whose lists give way when the line is full.

use std::collections::BTreeMap;

use super::fill::put_first;
use super::lists::{ERRORS, List, lists};
use super::text::{fair_level, kept_entries, shorten};
use super::{EncodeError, writer::json_bytes};
use crate::agent::{AgentBody, AgentMessage};
use crate::limits::{MAX_FIELD_BYTES, MAX_LIST_ENTRIES};
use crate::metrics::MetricsData;

/// Holds fields and lists to the bounds that need no look at the line.
pub(super) fn bound(data: &mut MetricsData) {
    let cmd_lines = data.processes.iter_mut().flatten().filter_map(|it| it.cmd_line.as_mut());
    let descriptions = data.services.iter_mut().flatten().filter_map(|it| it.description.as_mut());
    let windows_descriptions = data.windows_services.iter_mut().flatten().filter_map(|it| it.description.as_mut());
    cmd_lines.chain(descriptions).chain(windows_descriptions).for_each(|text| shorten(text, MAX_FIELD_BYTES));

    let mut cuts = Vec::new();
    for interface in data.system.network.iter_mut().flat_map(|network| &mut network.interfaces) {
        if interface.ip_addresses.len() > MAX_LIST_ENTRIES {
            cuts.push((ADDRESSES, interface.ip_addresses.len()));
            interface.ip_addresses.truncate(MAX_LIST_ENTRIES);
        }
    }
    if data.errors.len() > MAX_LIST_ENTRIES {
        put_first(&mut data.errors);
    }
    for (name, list) in lists(data) {
        let before = list.count();
        list.bound();
        if list.count() < before {
            cuts.push((name, before));
        }
    }
    note(&mut data.truncated, cuts);
}

const ADDRESSES: &str = "ip_addresses";

/// Takes entries from the ends of the longest lists until the line fits.
pub(super) fn fit(message: &mut AgentMessage, limit: usize) -> Result<(), EncodeError> {
    let AgentBody::Metrics(metrics) = &mut message.body else { return Ok(()) };
    let data = &mut metrics.data;
    shorten_fields(data, limit);
    let needed = put_first(&mut data.errors);
    let needed = |name| if name == ERRORS { needed } else { 0 };

    let mut sizes = Vec::new();
    let mut cuts = Vec::new();
    for (name, list) in lists(data) {
        let measured = list.measure(needed(name), limit)?;
        cut(name, list, needed(name) + measured.len(), &mut cuts);
        sizes.push(measured);
    }
    note(&mut data.truncated, cuts);

    let totals: Vec<usize> = sizes.iter().map(|sizes| sizes.iter().sum()).collect();
    // A list has one comma less than entries, hence the 1.
    let rest = json_bytes(message)? + sizes.len() * (1 + NOTE_BYTES) - totals.iter().sum::<usize>();
    let level = fair_level(&totals, limit.saturating_sub(rest));

    let AgentBody::Metrics(metrics) = &mut message.body else { return Ok(()) };
    let mut cuts = Vec::new();
    for ((name, list), sizes) in lists(&mut metrics.data).into_iter().zip(&sizes) {
        cut(name, list, needed(name) + kept_entries(sizes, level), &mut cuts);
    }
    note(&mut metrics.data.truncated, cuts);
    Ok(())
}

/// What an entry of `truncated` takes at most; the first brings the key.
const NOTE_BYTES: usize = r#""truncated":{},"windows_services":"#.len() + 20;

fn cut(name: &'static str, list: &mut dyn List, count: usize, cuts: &mut Vec<(&'static str, usize)>) {
    let before = list.count();
    if count < before {
        list.keep(count);
        cuts.push((name, before));
    }
}

/// Writes down how many entries a list had, unless a larger number is known: the collector may have cut it before.
fn note(truncated: &mut BTreeMap<String, u64>, cuts: Vec<(&'static str, usize)>) {
    for (name, entries) in cuts {
        let known = truncated.entry(name.to_owned()).or_default();
        *known = (*known).max(entries as u64);
    }
}

/// Cuts what belongs to no list or must not leave its list. With the usual limit a text keeps 4 KiB, as a `cmd_line` does.
fn shorten_fields(data: &mut MetricsData, limit: usize) {
    let bytes = MAX_FIELD_BYTES.min(limit / 256);
    if let Some(info) = &mut data.system.info {
        [&mut info.name, &mut info.os_version, &mut info.kernel_version, &mut info.hostname, &mut info.arch]
            .into_iter()
            .flatten()
            .for_each(|text| shorten(text, bytes));
    }
    for error in &mut data.errors {
        shorten(&mut error.component, bytes);
        error.message.truncate(error.message.floor_char_boundary(bytes));
    }
    let names: Vec<&str> = lists(data).into_iter().map(|(name, _)| name).chain([ADDRESSES]).collect();
    data.truncated.retain(|name, _| names.contains(&name.as_str()));
}

//! The lists of a `metrics` message, seen alike.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{text::spender, writer::json_bytes};
use crate::limits::MAX_LIST_ENTRIES;
use crate::metrics::{MetricsData, PluginMetric};

/// A list that may lose entries from its end, where the lightest are.
pub(super) trait List {
    /// How many entries there are.
    fn count(&self) -> usize;

    /// Drops what is beyond the first `count` entries.
    fn keep(&mut self, count: usize);

    /// Holds the list to what the protocol allows at most.
    fn bound(&mut self) {
        self.keep(MAX_LIST_ENTRIES);
    }

    /// What each entry after the first `skip` takes in the line, its comma included. Ends early once all together take more than
    /// `limit`: entries beyond it cannot stay in any case.
    fn measure(&self, skip: usize, limit: usize) -> Result<Vec<usize>, serde_json::Error>;
}

impl<T: Serialize> List for Vec<T> {
    fn count(&self) -> usize {
        self.len()
    }

    fn keep(&mut self, count: usize) {
        self.truncate(count);
    }

    fn measure(&self, skip: usize, limit: usize) -> Result<Vec<usize>, serde_json::Error> {
        sizes(self.iter().skip(skip).map(|entry| json_bytes(entry)), limit)
    }
}

/// The figures of all plugins in one row. Each plugin's figures are a list of their own where a list is bounded.
impl List for BTreeMap<String, Vec<PluginMetric>> {
    fn count(&self) -> usize {
        self.values().map(Vec::len).sum()
    }

    fn keep(&mut self, mut count: usize) {
        self.retain(|_, figures| {
            figures.truncate(count);
            count -= figures.len();
            !figures.is_empty()
        });
    }

    fn bound(&mut self) {
        self.values_mut().for_each(List::bound);
    }

    fn measure(&self, skip: usize, limit: usize) -> Result<Vec<usize>, serde_json::Error> {
        let figures = self.iter().flat_map(|(plugin, figures)| {
            figures.iter().enumerate().map(move |(index, figure)| match index {
                // The first figure of a plugin brings the plugin's name and the brackets.
                0 => Ok(json_bytes(plugin)? + ":[]".len() + json_bytes(figure)?),
                _ => json_bytes(figure),
            })
        });
        sizes(figures.skip(skip), limit)
    }
}

fn sizes(
    entries: impl Iterator<Item = Result<usize, serde_json::Error>>,
    limit: usize,
) -> Result<Vec<usize>, serde_json::Error> {
    let mut spend = spender(limit);
    entries.map(|entry| Ok(entry? + 1)).take_while(|entry| entry.as_ref().map_or(true, |size| spend(*size))).collect()
}

/// The name in [`MetricsData::truncated`] of the list that tells what was not measured.
pub(super) const ERRORS: &str = "errors";

/// Every list that is there, with its name in [`MetricsData::truncated`].
pub(super) fn lists(data: &mut MetricsData) -> Vec<(&'static str, &mut dyn List)> {
    fn push<'a>(
        lists: &mut Vec<(&'static str, &'a mut dyn List)>,
        name: &'static str,
        list: Option<&'a mut impl List>,
    ) {
        lists.extend(list.map(|list| (name, list as &mut dyn List)));
    }
    let mut lists = Vec::with_capacity(11);
    push(&mut lists, "processes", data.processes.as_mut());
    push(&mut lists, "ports", data.ports.as_mut());
    push(&mut lists, "services", data.services.as_mut());
    push(&mut lists, "windows_services", data.windows_services.as_mut());
    push(&mut lists, "applications", data.applications.as_mut());
    push(&mut lists, "plugins", data.plugins.as_mut());
    push(&mut lists, ERRORS, Some(&mut data.errors));
    push(&mut lists, "cores_usage", data.system.cpu.as_mut().map(|cpu| &mut cpu.cores_usage));
    if let Some(disk) = &mut data.system.disk {
        push(&mut lists, "usage_stats", Some(&mut disk.usage_stats));
        push(&mut lists, "devices", disk.devices.as_mut());
    }
    push(&mut lists, "interfaces", data.system.network.as_mut().map(|network| &mut network.interfaces));
    lists
}

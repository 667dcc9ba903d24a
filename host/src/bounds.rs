//! What the host keeps of a message. What a command or a script printed is bounded by its line alone, and goes to whoever asked.
//!
//! The agent's own limits bind an honest agent; these bind any guest. A line of 1 MiB can hold half a million list entries, and a
//! view that drew each of them would be the guest's to stop.

mod texts;

use infini_protocol::agent::AgentBody;
use infini_protocol::limits::MAX_LIST_ENTRIES;
use infini_protocol::metrics::{MetricsData, SystemMetrics};

/// How many labels a plugin's figure keeps: what tells it from its neighbours takes a handful.
const MOST_LABELS: usize = 64;

/// Cuts a message to what is kept of it.
pub fn bound(body: &mut AgentBody) {
    match body {
        AgentBody::Metrics(metrics) => sample(&mut metrics.data),
        AgentBody::Handshake(handshake) => texts::handshake(handshake),
        AgentBody::Error(error) => texts::error(error),
        AgentBody::ErrorReport(report) => texts::error_report(report),
        AgentBody::AgentEvent(event) => texts::agent_event(event),
        AgentBody::RequestPendingScripts(request) => texts::name(&mut request.vm_id),
        AgentBody::ScriptCompletion(completion) => {
            texts::name(&mut completion.execution_id);
            completion.log_file.iter_mut().for_each(texts::sentence);
        }
        // The id of a response is one of the host's own, or nobody takes it.
        AgentBody::Response(_) | AgentBody::KeepAlive(_) => {}
    }
}

/// Cuts every list of the sample to what the protocol allows, and says so in `truncated` as an honest agent would.
fn sample(data: &mut MetricsData) {
    // Names that the guest invented stay out of this map; those of the lists below may come in.
    data.truncated.retain(|list, _| LISTS.contains(&list.as_str()));
    let MetricsData { system, processes, ports, services, windows_services, applications, plugins, errors, truncated } =
        data;
    let mut note = |name: &str, total: Option<usize>| {
        if let Some(total) = total {
            let told = truncated.entry(name.to_owned()).or_default();
            *told = (*told).max(total as u64);
        }
    };
    note("processes", processes.as_mut().and_then(cut));
    note("ports", ports.as_mut().and_then(cut));
    note("services", services.as_mut().and_then(cut));
    note("windows_services", windows_services.as_mut().and_then(cut));
    note("applications", applications.as_mut().and_then(cut));
    note("errors", cut(errors));
    for metrics in plugins.iter_mut().flat_map(|plugins| plugins.values_mut()) {
        note("plugins", cut(metrics));
        for metric in metrics {
            while metric.labels.len() > MOST_LABELS {
                metric.labels.pop_last();
            }
        }
    }
    if let Some(plugins) = plugins {
        while plugins.len() > MAX_LIST_ENTRIES {
            plugins.pop_last();
        }
    }
    bound_system(system, &mut note);
}

/// The names of lists in `truncated`.
const LISTS: [&str; 12] = [
    "processes",
    "ports",
    "services",
    "windows_services",
    "applications",
    "plugins",
    "errors",
    "devices",
    "usage_stats",
    "interfaces",
    "cores_usage",
    "ip_addresses",
];

fn bound_system(system: &mut SystemMetrics, note: &mut impl FnMut(&str, Option<usize>)) {
    if let Some(cpu) = &mut system.cpu {
        note("cores_usage", cut(&mut cpu.cores_usage));
    }
    if let Some(disk) = &mut system.disk {
        note("usage_stats", cut(&mut disk.usage_stats));
        note("devices", disk.devices.as_mut().and_then(cut));
    }
    if let Some(network) = &mut system.network {
        note("interfaces", cut(&mut network.interfaces));
        for interface in &mut network.interfaces {
            note("ip_addresses", cut(&mut interface.ip_addresses));
        }
    }
}

/// The length before, where the list had to be cut.
fn cut<T>(list: &mut Vec<T>) -> Option<usize> {
    let total = list.len();
    list.truncate(MAX_LIST_ENTRIES);
    list.shrink_to_fit();
    (total > MAX_LIST_ENTRIES).then_some(total)
}

#[cfg(test)]
mod tests {
    use infini_protocol::Finite;
    use infini_protocol::metrics::{NetworkInterface, NetworkMetrics, PluginMetric, PluginMetricKind, SystemMetrics};

    use super::*;

    #[test]
    fn lists_are_cut_and_it_is_said() {
        let interfaces = vec![NetworkInterface::default(); 5000];
        let mut data = MetricsData {
            system: SystemMetrics { network: Some(NetworkMetrics { interfaces }), ..SystemMetrics::default() },
            truncated: [("processes".to_owned(), 7), ("\u{1b}[2J".to_owned(), 1)].into(),
            ..MetricsData::default()
        };
        sample(&mut data);
        assert_eq!(data.system.network.map(|network| network.interfaces.len()), Some(MAX_LIST_ENTRIES));
        assert_eq!(data.truncated, [("interfaces".to_owned(), 5000), ("processes".to_owned(), 7)].into());
    }

    #[test]
    fn a_figure_keeps_few_labels() {
        let labels = (0..70_000).map(|number| (format!("l{number}"), String::new())).collect();
        let figure =
            PluginMetric { name: "f".to_owned(), labels, value: Finite::default(), kind: PluginMetricKind::Gauge };
        let mut data = MetricsData { plugins: Some([("p".to_owned(), vec![figure])].into()), ..MetricsData::default() };
        sample(&mut data);
        assert_eq!(data.plugins.unwrap()["p"][0].labels.len(), MOST_LABELS);
    }
}

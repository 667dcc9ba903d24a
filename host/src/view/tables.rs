use infini_protocol::metrics::{
    CollectError, PortMetrics, PortProtocol, ProcessMetrics, ProcessStatus, ServiceInfo, ServiceStatus,
    WindowsServiceInfo,
};
use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Row, Table};

use super::model::{Model, Sort, Tab};
use super::panels::panel;
use super::theme::Theme;
use crate::sanitize::excerpt;
use crate::units::kib;

/// The longest text of a cell: wider than any screen.
const CELL: usize = 500;

/// A terminal narrower than this gets the most telling columns only.
const NARROW: u16 = 60;

/// The chosen table.
pub fn draw(frame: &mut Frame<'_>, at: Rect, model: &mut Model, theme: &Theme) {
    if at.height == 0 {
        return;
    }
    let small = at.height < 8;
    let inner = if small { at } else { panel(frame, at, tabs(model, theme), position(model, theme), theme) };
    let page = usize::from(inner.height.saturating_sub(1));
    model.scroll = model.scroll.min(rows_of(model, model.tab).unwrap_or(0).saturating_sub(page));
    let table = match model.tab {
        Tab::Processes => processes(model, page, inner.width, theme),
        Tab::Ports => ports(model, page, inner.width, theme),
        Tab::Services => services(model, page, inner.width, theme),
        Tab::Errors => errors(model, page, theme),
    };
    frame.render_widget(table.column_spacing(1), inner);
}

/// How many rows a table has; `None` where its group was not measured.
fn rows_of(model: &Model, tab: Tab) -> Option<usize> {
    let data = &model.sample()?.data;
    match tab {
        Tab::Processes => data.processes.as_ref().map(Vec::len),
        Tab::Ports => data.ports.as_ref().map(|ports| ports.iter().filter(|port| port.is_listening).count()),
        Tab::Services => data.services.as_ref().map(Vec::len).or_else(|| data.windows_services.as_ref().map(Vec::len)),
        Tab::Errors => Some(data.errors.len()),
    }
}

fn tabs(model: &Model, theme: &Theme) -> Line<'static> {
    let mut spans = vec![Span::raw(" ")];
    for (number, tab) in Tab::ALL.into_iter().enumerate() {
        let name = match tab {
            Tab::Processes => "Processes",
            Tab::Ports => "Listening",
            Tab::Services => "Services",
            Tab::Errors => "Not measured",
        };
        let count = rows_of(model, tab).map_or_else(|| "-".to_owned(), |rows| rows.to_string());
        let style = match tab {
            tab if tab == model.tab => theme.accent(),
            Tab::Errors if count != "0" => theme.warning(),
            _ => theme.dim(),
        };
        let mark = if tab == model.tab { "▸" } else { "" };
        spans.push(Span::styled(format!("{mark}{} {name} {count}", number + 1), style));
        spans.push(Span::raw("  "));
    }
    Line::from(spans)
}

fn position(model: &Model, theme: &Theme) -> Line<'static> {
    if model.scroll == 0 {
        return Line::default();
    }
    Line::styled(format!(" from row {} ", model.scroll + 1), theme.dim())
}

fn heading(names: &[&'static str], sorted: &str, theme: &Theme) -> Row<'static> {
    Row::new(names.iter().map(|name| {
        let mark = if *name == sorted { "▾" } else { "" };
        let line = Line::from(format!("{name}{mark}"));
        Cell::from(if RIGHT.contains(name) { line.right_aligned() } else { line })
    }))
    .style(theme.heading())
}

/// Columns of figures.
const RIGHT: [&str; 5] = ["PID", "CPU%", "MEMORY", "PORT", "CONNS"];

fn figure(text: String, style: Style) -> Cell<'static> {
    Cell::from(Line::styled(text, style).right_aligned())
}

fn text(text: &str, style: Style) -> Cell<'static> {
    Cell::from(Span::styled(excerpt(text, CELL), style))
}

fn processes(model: &Model, page: usize, width: u16, theme: &Theme) -> Table<'static> {
    let sorted = match model.sort {
        Sort::Cpu => "CPU%",
        Sort::Memory => "MEMORY",
        Sort::Pid => "PID",
    };
    let shown = model.processes().into_iter().skip(model.scroll).take(page);
    if width < NARROW {
        let rows = shown.map(|process| process_row(process, true, theme));
        return Table::new(
            rows,
            [Constraint::Length(7), Constraint::Length(7), Constraint::Length(9), Constraint::Fill(1)],
        )
        .header(heading(&["PID", "CPU%", "MEMORY", "NAME"], sorted, theme));
    }
    let widths = [
        Constraint::Length(8),
        Constraint::Length(11),
        Constraint::Length(1),
        Constraint::Length(7),
        Constraint::Length(9),
        Constraint::Length(16),
        Constraint::Fill(1),
    ];
    Table::new(shown.map(|process| process_row(process, false, theme)), widths).header(heading(
        &["PID", "USER", "S", "CPU%", "MEMORY", "NAME", "COMMAND"],
        sorted,
        theme,
    ))
}

fn process_row(process: &ProcessMetrics, narrow: bool, theme: &Theme) -> Row<'static> {
    let cpu = process.cpu_percent.get();
    let pid = figure(process.pid.to_string(), theme.label());
    let cpu = figure(format!("{cpu:.1}"), if cpu < 0.05 { theme.dim() } else { theme.load(cpu) });
    let memory = figure(kib(process.memory_kb), theme.value());
    let name = text(&process.name, theme.value());
    if narrow {
        return Row::new([pid, cpu, memory, name]);
    }
    let user = text(process.user.as_deref().unwrap_or("-"), theme.label());
    let state = Cell::from(Span::styled(letter(process.status), theme.dim()));
    let command = text(process.cmd_line.as_deref().unwrap_or_default(), theme.dim());
    Row::new([pid, user, state, cpu, memory, name, command])
}

/// A state as `ps` and `top` show it.
const fn letter(status: ProcessStatus) -> &'static str {
    match status {
        ProcessStatus::Running => "R",
        ProcessStatus::Sleeping => "S",
        ProcessStatus::DiskSleep => "D",
        ProcessStatus::Stopped => "T",
        ProcessStatus::Tracing => "t",
        ProcessStatus::Zombie => "Z",
        ProcessStatus::Dead => "X",
        ProcessStatus::Idle => "I",
        ProcessStatus::Unknown => "?",
    }
}

fn ports(model: &Model, page: usize, width: u16, theme: &Theme) -> Table<'static> {
    let ports = model.sample().and_then(|sample| sample.data.ports.as_ref());
    let shown = ports.into_iter().flatten().filter(|port| port.is_listening).skip(model.scroll).take(page);
    if width < NARROW {
        let widths = [Constraint::Length(6), Constraint::Length(5), Constraint::Length(8), Constraint::Fill(1)];
        let rows = shown.map(|port| port_row(port, true, theme));
        return Table::new(rows, widths).header(heading(&["PORT", "PROTO", "PID", "PROCESS"], "", theme));
    }
    let widths = [
        Constraint::Length(6),
        Constraint::Length(5),
        Constraint::Length(26),
        Constraint::Length(6),
        Constraint::Length(8),
        Constraint::Fill(1),
    ];
    Table::new(shown.map(|port| port_row(port, false, theme)), widths).header(heading(
        &["PORT", "PROTO", "ADDRESS", "CONNS", "PID", "PROCESS"],
        "",
        theme,
    ))
}

fn port_row(port: &PortMetrics, narrow: bool, theme: &Theme) -> Row<'static> {
    let protocol = match port.protocol {
        PortProtocol::Tcp => "tcp",
        PortProtocol::Tcp6 => "tcp6",
        PortProtocol::Udp => "udp",
        PortProtocol::Udp6 => "udp6",
        PortProtocol::Unknown => "?",
    };
    let number = figure(port.port.to_string(), theme.value());
    let protocol = text(protocol, theme.label());
    let pid = figure(port.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string()), theme.label());
    let process = text(port.process_name.as_deref().unwrap_or("-"), theme.value());
    if narrow {
        return Row::new([number, protocol, pid, process]);
    }
    let address = text(port.address.as_deref().unwrap_or("*"), theme.label());
    let connections = figure(port.connection_count.to_string(), theme.value());
    Row::new([number, protocol, address, connections, pid, process])
}

fn services(model: &Model, page: usize, width: u16, theme: &Theme) -> Table<'static> {
    let data = model.sample().map(|sample| &sample.data);
    let linux = data.and_then(|data| data.services.as_ref()).into_iter().flatten().map(|s| service_row(s, theme));
    let windows = data.and_then(|data| data.windows_services.as_ref()).into_iter().flatten();
    let rows = linux.chain(windows.map(|service| windows_service_row(service, theme))).skip(model.scroll).take(page);
    // A narrow terminal has room for the name, not for what it stands for.
    let description = if width < NARROW { Constraint::Length(0) } else { Constraint::Fill(2) };
    let widths = [Constraint::Length(9), Constraint::Length(8), Constraint::Fill(1), description];
    Table::new(rows, widths).header(heading(&["STATUS", "PID", "SERVICE", "DESCRIPTION"], "", theme))
}

fn service_row(service: &ServiceInfo, theme: &Theme) -> Row<'static> {
    let (word, style) = match service.status {
        ServiceStatus::Running => ("running", theme.incoming()),
        ServiceStatus::Stopped => ("stopped", theme.dim()),
        ServiceStatus::Failed => ("failed", theme.warning()),
        ServiceStatus::Starting => ("starting", theme.value()),
        ServiceStatus::Stopping => ("stopping", theme.value()),
        ServiceStatus::Paused => ("paused", theme.dim()),
        ServiceStatus::Unknown => ("unknown", theme.dim()),
    };
    let description = service.description.as_deref().unwrap_or(&service.display_name);
    row_of_service(word, style, service.pid, &service.name, description, theme)
}

fn windows_service_row(service: &WindowsServiceInfo, theme: &Theme) -> Row<'static> {
    row_of_service(&service.state, theme.value(), service.pid, &service.name, &service.display_name, theme)
}

fn row_of_service(
    state: &str,
    style: Style,
    pid: Option<u32>,
    name: &str,
    description: &str,
    theme: &Theme,
) -> Row<'static> {
    let pid = pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
    Row::new([
        text(state, style),
        figure(pid, theme.label()),
        text(name, theme.value()),
        text(description, theme.dim()),
    ])
}

fn errors(model: &Model, page: usize, theme: &Theme) -> Table<'static> {
    let errors = model.sample().map(|sample| &sample.data.errors).into_iter().flatten();
    let row = |error: &CollectError| {
        let code = error.error_code.to_string();
        Row::new([
            text(&error.component, theme.value()),
            text(&code, theme.warning()),
            text(&error.message, theme.label()),
        ])
    };
    let widths = [Constraint::Length(24), Constraint::Length(20), Constraint::Fill(1)];
    Table::new(errors.skip(model.scroll).take(page).map(row), widths).header(heading(
        &["PART", "CODE", "CAUSE"],
        "",
        theme,
    ))
}

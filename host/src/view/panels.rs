use infini_protocol::Percent;
use infini_protocol::metrics::{CpuMetrics, MemoryMetrics};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, BorderType};

use super::graph::{area, bar};
use super::history::{Series, traffic};
use super::model::Model;
use super::theme::Theme;
use crate::sanitize::excerpt;
use crate::units::{gib, kib, percent, rate};

/// A shorter bar says nothing; other figures make room for it.
const LEAST_BAR: usize = 6;

/// The least value of full height in a chart of rates: less looks like noise.
const LEAST_RATE: f64 = 16.0 * 1024.0;

/// A framed panel with a title at the left and figures at the right; gives the room inside.
pub fn panel(frame: &mut Frame<'_>, at: Rect, title: Line<'static>, right: Line<'static>, theme: &Theme) -> Rect {
    let block = Block::bordered()
        .border_type(BorderType::Rounded)
        .border_style(theme.dim())
        .title_top(title)
        .title_top(right.right_aligned());
    let inner = block.inner(at);
    frame.render_widget(block, at);
    inner
}

fn title(name: &str, figure: Option<String>, theme: &Theme) -> Line<'static> {
    let mut spans = vec![Span::styled(format!(" {name} "), theme.title())];
    spans.extend(figure.map(|figure| Span::styled(format!("{figure} "), theme.value())));
    Line::from(spans)
}

/// Processors: their history and each of them.
pub fn cpu(frame: &mut Frame<'_>, at: Rect, model: &Model, theme: &Theme) {
    let cpu = model.sample().and_then(|sample| sample.data.system.cpu.as_ref());
    let figure = cpu.map(|cpu| format!("{:.1} %", cpu.usage_percent.get()));
    let right = cpu.map(|cpu| side_figures(cpu, theme)).unwrap_or_default();
    let inner = panel(frame, at, title("CPU", figure, theme), right, theme);
    let Some(cpu) = cpu else { return absent(frame, inner, theme) };
    let cores = &cpu.cores_usage;
    let columns = cores.len().div_ceil(usize::from(inner.height).max(1)) as u16;
    let width = (columns * CORE_WIDTH).min(inner.width / 2).max(CORE_WIDTH.min(inner.width));
    let [chart, list] = Layout::horizontal([Constraint::Min(0), Constraint::Length(width)]).areas(inner);
    area(frame.buffer_mut(), chart, &model.history.cpu, 100.0, |level| theme.load(level));
    if columns * CORE_WIDTH <= width {
        core_bars(frame, list, cores, theme);
    } else {
        core_cells(frame, list, cores, theme);
    }
}

fn side_figures(cpu: &CpuMetrics, theme: &Theme) -> Line<'static> {
    let mut words = Vec::new();
    let mut share = |name: &str, value: Option<Percent>| {
        // Steal and waiting matter where there is some.
        words.extend(value.filter(|value| value.get() >= 0.1).map(|value| format!("{name} {:.1} %", value.get())));
    };
    share("iowait", cpu.iowait_percent);
    share("steal", cpu.steal_percent);
    words.extend(cpu.temperature.map(|celsius| format!("{:.0} °C", celsius.get())));
    if words.is_empty() { Line::default() } else { Line::styled(format!(" {} ", words.join("  ")), theme.label()) }
}

/// ` 12 ████████··  87%`
const CORE_WIDTH: u16 = 19;

fn core_bars(frame: &mut Frame<'_>, at: Rect, cores: &[Percent], theme: &Theme) {
    for (number, core) in cores.iter().enumerate() {
        let (column, row) = (number as u16 / at.height.max(1), number as u16 % at.height.max(1));
        let x = at.x + column * CORE_WIDTH;
        if x + CORE_WIDTH > at.right() {
            return;
        }
        let share = core.get();
        let mut spans = vec![Span::styled(format!(" {number:>2} "), theme.dim())];
        spans.extend(bar(share, 10, theme.load(share), theme.dim()));
        spans.push(Span::styled(format!(" {share:>3.0}%"), theme.value()));
        frame.render_widget(Line::from(spans), Rect::new(x, at.y + row, CORE_WIDTH, 1));
    }
}

/// Many processors: one character each, or the busiest of a few neighbours where even that has no room.
fn core_cells(frame: &mut Frame<'_>, at: Rect, cores: &[Percent], theme: &Theme) {
    const LEVELS: [&str; 8] = ["▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"];
    let width = usize::from(at.width.saturating_sub(1)).max(1);
    let room = width * usize::from(at.height).max(1);
    let cells: Vec<f64> = cores
        .chunks(cores.len().div_ceil(room).max(1))
        .map(|group| group.iter().map(|core| core.get()).fold(0.0, f64::max))
        .collect();
    for (shares, row) in cells.chunks(width).zip(at.rows()) {
        let cells =
            shares.iter().map(|&share| Span::styled(LEVELS[((share / 12.5) as usize).min(7)], theme.load(share)));
        let row = Rect { x: row.x + 1, width: row.width.saturating_sub(1), ..row };
        frame.render_widget(Line::from_iter(cells), row);
    }
}

/// Memory and swap, and the memory's history.
pub fn memory(frame: &mut Frame<'_>, at: Rect, model: &Model, theme: &Theme) {
    let memory = model.sample().and_then(|sample| sample.data.system.memory.as_ref());
    let figure = memory.map(|memory| format!("{:.1} %", percent(memory.used_kb as f64, memory.total_kb as f64)));
    let right = memory.map(|memory| Line::styled(format!(" {} avail ", kib(memory.available_kb)), theme.label()));
    let inner = panel(frame, at, title("Memory", figure, theme), right.unwrap_or_default(), theme);
    let Some(memory) = memory else { return absent(frame, inner, theme) };
    let gauges = memory_gauges(memory, inner.width, theme);
    let [top, chart] = Layout::vertical([Constraint::Length(gauges.len() as u16), Constraint::Min(0)]).areas(inner);
    for (gauge, row) in gauges.into_iter().zip(top.rows()) {
        frame.render_widget(gauge, row);
    }
    area(frame.buffer_mut(), chart, &model.history.memory, 100.0, |level| theme.load(level));
}

fn memory_gauges(memory: &MemoryMetrics, width: u16, theme: &Theme) -> Vec<Line<'static>> {
    let mut gauges = vec![gauge("ram", memory.used_kb, memory.total_kb, width, theme)];
    if let (Some(used), Some(total @ 1..)) = (memory.swap_used_kb, memory.swap_total_kb) {
        gauges.push(gauge("swap", used, total, width, theme));
    }
    gauges
}

fn gauge(name: &str, used_kb: u64, total_kb: u64, width: u16, theme: &Theme) -> Line<'static> {
    let share = percent(used_kb as f64, total_kb as f64);
    let mut figures = format!(" {} of {} ", kib(used_kb), kib(total_kb));
    if usize::from(width) < 6 + figures.len() + LEAST_BAR {
        figures = format!(" {} ", kib(used_kb));
    }
    let room = usize::from(width).saturating_sub(6 + figures.len());
    let mut spans = vec![Span::styled(format!(" {name:<4} "), theme.label())];
    spans.extend(bar(share, room, theme.load(share), theme.dim()));
    spans.push(Span::styled(figures, theme.value()));
    Line::from(spans)
}

fn list_and_charts(at: Rect) -> [Rect; 2] {
    Layout::horizontal([Constraint::Fill(3), Constraint::Fill(2)]).spacing(1).areas(at)
}

/// How full the file systems are, and the disks' traffic.
pub fn disks(frame: &mut Frame<'_>, at: Rect, model: &Model, theme: &Theme) {
    let disk = model.sample().and_then(|sample| sample.data.system.disk.as_ref());
    let io = disk.and_then(|disk| disk.io_stats);
    let busy = io.map(|io| Line::styled(format!(" busy {:.0} % ", io.io_utilization_percent.get()), theme.label()));
    let inner = panel(frame, at, title("Disks", None, theme), busy.unwrap_or_default(), theme);
    let Some(disk) = disk else { return absent(frame, inner, theme) };
    let [list, charts] = list_and_charts(inner);
    for (usage, row) in disk.usage_stats.iter().zip(list.rows()) {
        let (used, free) = (usage.used_gb.get(), usage.available_gb.get());
        let share = percent(used, used + free);
        let mut figures = format!(" {:>3.0}% {:>9}", share, gib(usage.total_gb.get()));
        if usize::from(row.width) < figures.len() + 3 * LEAST_BAR {
            figures.truncate(" 100%".len());
        }
        let room = usize::from(row.width).saturating_sub(figures.len() + 2);
        let name = excerpt(&usage.mount_point, (room / 2).max(4));
        let length = room.saturating_sub((room / 2).max(4));
        let mut spans = vec![Span::styled(format!(" {name:<width$} ", width = (room / 2).max(4)), theme.label())];
        spans.extend(bar(share, length, theme.load(share), theme.dim()));
        spans.push(Span::styled(figures, theme.value()));
        frame.render_widget(Line::from(spans), row);
    }
    let figures = io.map(|io| (io.read_bytes_per_sec, io.write_bytes_per_sec)).unwrap_or_default();
    rates(frame, charts, ("r", figures.0, &model.history.read), ("w", figures.1, &model.history.write), theme);
}

/// The interfaces, and their traffic.
pub fn network(frame: &mut Frame<'_>, at: Rect, model: &Model, theme: &Theme) {
    let sample = model.sample();
    let network = sample.and_then(|sample| sample.data.system.network.as_ref());
    let inner = panel(frame, at, title("Network", None, theme), Line::default(), theme);
    let (Some(sample), Some(network)) = (sample, network) else { return absent(frame, inner, theme) };
    let [list, charts] = list_and_charts(inner);
    // The loopback last: it is everywhere and says little.
    let mut interfaces: Vec<_> = network.interfaces.iter().collect();
    interfaces.sort_by_key(|interface| (&*interface.name == "lo", !interface.is_up));
    let longest = interfaces.iter().map(|interface| interface.name.chars().count()).max().unwrap_or(0).min(15);
    for (interface, row) in interfaces.into_iter().zip(list.rows()) {
        let style = if interface.is_up { theme.value() } else { theme.dim() };
        let address = interface.ip_addresses.first().map(|ip| excerpt(ip, 39)).unwrap_or_default();
        let state = if interface.is_up { address } else { "down".to_owned() };
        let name = excerpt(&interface.name, longest);
        frame.render_widget(
            Line::from(vec![Span::styled(format!(" {name:<longest$} "), theme.label()), Span::styled(state, style)]),
            row,
        );
    }
    let (received, sent) = traffic(sample);
    rates(frame, charts, ("↓", received, &model.history.received), ("↑", sent, &model.history.sent), theme);
}

/// Two charts above each other: what comes in and what goes out, on one scale.
fn rates(
    frame: &mut Frame<'_>,
    at: Rect,
    (in_name, in_now, incoming): (&str, u64, &Series),
    (out_name, out_now, outgoing): (&str, u64, &Series),
    theme: &Theme,
) {
    let shown = usize::from(at.width) * 2;
    let top = incoming.peak(shown).max(outgoing.peak(shown)).max(LEAST_RATE);
    let [upper, lower] = Layout::vertical([Constraint::Fill(1), Constraint::Fill(1)]).areas(at);
    for (half, name, now, series, style) in
        [(upper, in_name, in_now, incoming, theme.incoming()), (lower, out_name, out_now, outgoing, theme.outgoing())]
    {
        let [label, chart] = Layout::vertical([Constraint::Length(1), Constraint::Min(0)]).areas(half);
        let text = format!("{name} {}", rate(now));
        frame.render_widget(Line::from(Span::styled(text, style)), label);
        area(frame.buffer_mut(), chart, series, top, |_| style);
    }
}

/// Three lines for terminals without room for charts.
pub fn compact(frame: &mut Frame<'_>, at: Rect, model: &Model, theme: &Theme) {
    let Some(sample) = model.sample() else { return };
    let system = &sample.data.system;
    let mut lines = Vec::new();
    if let Some(cpu) = &system.cpu {
        let share = cpu.usage_percent.get();
        let figures = format!(" {share:.1} % of {} ", cpu.cores_usage.len());
        let room = usize::from(at.width).saturating_sub(6 + figures.chars().count());
        let mut spans = vec![Span::styled(" cpu  ", theme.label())];
        spans.extend(bar(share, room, theme.load(share), theme.dim()));
        spans.push(Span::styled(figures, theme.value()));
        lines.push(Line::from(spans));
    }
    lines.extend(system.memory.as_ref().map(|memory| gauge("ram", memory.used_kb, memory.total_kb, at.width, theme)));
    let (received, sent) = traffic(sample);
    let io = system.disk.as_ref().and_then(|disk| disk.io_stats).unwrap_or_default();
    let words = |text: String, style: Style| Span::styled(text, style);
    lines.push(Line::from(vec![
        words(" net ".to_owned(), theme.label()),
        words(format!("↓{} ", short(received)), theme.incoming()),
        words(format!("↑{} ", short(sent)), theme.outgoing()),
        words("disk ".to_owned(), theme.label()),
        words(format!("r{} ", short(io.read_bytes_per_sec)), theme.incoming()),
        words(format!("w{}", short(io.write_bytes_per_sec)), theme.outgoing()),
    ]));
    for (line, row) in lines.into_iter().zip(at.rows()) {
        frame.render_widget(line, row);
    }
}

/// A rate in few characters: `17.3K`.
fn short(bytes_per_second: u64) -> String {
    rate(bytes_per_second).replace(" B/s", "").replace("iB/s", "").replace(' ', "")
}

fn absent(frame: &mut Frame<'_>, at: Rect, theme: &Theme) {
    frame.render_widget(Line::styled(" not measured", theme.dim()), at);
}

use std::time::Duration;

use infini_protocol::ErrorCode;
use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::model::{Model, Tab};
use super::theme::Theme;
use super::{panels, tables};
use crate::sanitize::excerpt;
use crate::units::span;
use crate::vm::VmState;

/// From here on the panels have room for charts.
const ROOMY: (u16, u16) = (64, 19);

/// How far off the guest's clock may be before the view says so.
const CLOCK_OFF_MS: u64 = 5_000;

/// Draws everything.
pub fn draw(frame: &mut Frame<'_>, model: &mut Model, theme: &Theme) {
    let notice = notice(model);
    let rows = [
        Constraint::Length(1),
        Constraint::Length(u16::from(notice.is_some())),
        Constraint::Min(0),
        Constraint::Length(1),
    ];
    let [header, warning, body, help] = Layout::vertical(rows).areas(frame.area());
    frame.render_widget(header_line(model, theme), header);
    if let Some(notice) = notice {
        frame.render_widget(Span::styled(format!(" ! {notice}"), theme.warning()), warning);
    }
    if model.sample().is_none() {
        frame.render_widget(waiting(model, theme), centered(body, 3));
    } else if body.width >= ROOMY.0 && body.height >= ROOMY.1 {
        roomy(frame, body, model, theme);
    } else {
        compact(frame, body, model, theme);
    }
    frame.render_widget(help_line(model.tab, help.width, theme), help);
}

fn roomy(frame: &mut Frame<'_>, body: Rect, model: &mut Model, theme: &Theme) {
    let top = (body.height / 4).clamp(6, 12);
    let middle = (body.height / 5).clamp(5, 9);
    let [top, middle, table] =
        Layout::vertical([Constraint::Length(top), Constraint::Length(middle), Constraint::Min(4)]).areas(body);
    let [cpu, memory] = Layout::horizontal([Constraint::Fill(3), Constraint::Fill(2)]).areas(top);
    let [disks, network] = Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).areas(middle);
    panels::cpu(frame, cpu, model, theme);
    panels::memory(frame, memory, model, theme);
    panels::disks(frame, disks, model, theme);
    panels::network(frame, network, model, theme);
    tables::draw(frame, table, model, theme);
}

fn compact(frame: &mut Frame<'_>, body: Rect, model: &mut Model, theme: &Theme) {
    let [figures, table] = Layout::vertical([Constraint::Length(3), Constraint::Min(0)]).areas(body);
    panels::compact(frame, figures, model, theme);
    tables::draw(frame, table, model, theme);
}

fn header_line(model: &Model, theme: &Theme) -> Line<'static> {
    let status = &model.status;
    let mut spans = vec![
        Span::styled(format!(" {} ", excerpt(&model.name, 40)), theme.title()),
        Span::styled(format!("● {}", status.state.as_str()), theme.state(status.state)),
    ];
    if let (VmState::Stale | VmState::Absent, Some(heard)) = (status.state, status.heard) {
        let age = span(model.now.saturating_duration_since(heard));
        spans.push(Span::styled(format!(" (heard {age} ago)"), theme.warning()));
    }
    let mut fact = |text: String| {
        spans.push(Span::raw("  "));
        spans.push(Span::styled(text, theme.label()));
    };
    if let Some(sample) = model.sample() {
        let system = &sample.data.system;
        let info = system.info.as_ref();
        if let Some(hostname) = info.and_then(|info| info.hostname.as_ref()) {
            fact(excerpt(hostname, 30));
        }
        if let Some(seconds) = system.uptime_seconds {
            fact(format!("up {}", span(Duration::from_secs(seconds))));
        }
        if let Some(load) = system.load_average {
            let loads = [load.load_1min, load.load_5min, load.load_15min].map(|load| format!("{:.2}", load.get()));
            fact(format!("load {}", loads.join(" ")));
        }
        let os = info
            .map(|info| [&info.name, &info.os_version].into_iter().flatten().map(|text| excerpt(text, 30)).collect());
        if let Some(os) = os.map(|words: Vec<String>| words.join(" ")).filter(|os| !os.is_empty()) {
            fact(os);
        }
        if let Some(kernel) = info.and_then(|info| info.kernel_version.as_ref()) {
            fact(excerpt(kernel, 40));
        }
    }
    if let Some(handshake) = &status.handshake {
        fact(format!("agent {}", excerpt(&handshake.version, 20)));
    }
    Line::from(spans)
}

/// What the user should know before trusting the figures; the gravest only.
fn notice(model: &Model) -> Option<String> {
    let status = &model.status;
    if let (Some(failure), true) = (&status.failure, model.sample().is_some()) {
        return Some(excerpt(&failure.why, 200));
    }
    if let Some(told) = &status.wrong_vm_id {
        return Some(format!("the guest says it is {}, which is not this socket's vm_id", excerpt(told, 60)));
    }
    if status.complaint.as_ref().is_some_and(|error| error.details.error_code == ErrorCode::AuthFailed) {
        return Some("the agent refuses what this host signs: wrong secret? Shown are its own samples".to_owned());
    }
    if status.is_unheard(model.now) {
        return Some("the agent does not take our requests (wrong secret?); shown are its own samples".to_owned());
    }
    let off = status.clock_offset_ms.filter(|offset| offset.unsigned_abs() > CLOCK_OFF_MS)?;
    let direction = if off > 0 { "ahead" } else { "behind" };
    Some(format!("the guest's clock is {} {direction}", span(Duration::from_millis(off.unsigned_abs()))))
}

fn waiting(model: &Model, theme: &Theme) -> Paragraph<'static> {
    let status = &model.status;
    let what = match (status.state, &status.failure) {
        (VmState::Absent, Some(failure)) => excerpt(&failure.why, 200),
        (VmState::Absent, None) => "connecting".to_owned(),
        (VmState::Booting, _) => "connected, waiting for the agent to speak".to_owned(),
        _ => "waiting for the first sample".to_owned(),
    };
    Paragraph::new(vec![Line::styled("No figures yet", theme.title()), Line::styled(what, theme.label())])
        .alignment(Alignment::Center)
        .wrap(ratatui::widgets::Wrap { trim: true })
}

fn centered(area: Rect, height: u16) -> Rect {
    let above = area.height.saturating_sub(height) / 2;
    Rect { y: area.y + above, height: height.min(area.height), ..area }
}

fn help_line(tab: Tab, width: u16, theme: &Theme) -> Line<'static> {
    let mut keys = vec![("q", "quit"), ("1-4", "tables")];
    if tab == Tab::Processes {
        keys.extend([("c", "cpu"), ("m", "memory"), ("p", "pid")]);
    }
    if width >= 60 {
        keys.push(("↑↓", "scroll"));
    }
    let mut spans = vec![Span::raw(" ")];
    for (key, meaning) in keys {
        spans.push(Span::styled(key, theme.accent()));
        spans.push(Span::styled(format!(" {meaning}  "), theme.dim()));
    }
    Line::from(spans)
}
